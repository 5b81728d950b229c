"""What the handlers share: the parts they need, and the ways to a value that several of them go."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from kvs.auth.principal import Principal
from kvs.cluster.events import Condition, Put
from kvs.cluster.runner import Runner
from kvs.config import Config
from kvs.errors import CorruptRecord, ReadOnly, StoreClosed, StoreCorrupt, StoreError, Unavailable
from kvs.limits import OFFLOAD_MIN_BYTES
from kvs.server.auditor import Auditor
from kvs.server.authorisation import write_guard
from kvs.server.cluster import Cluster
from kvs.server.cursor import Cursors
from kvs.server.head_keeper import HeadKeeper
from kvs.server.meters import Meters
from kvs.server.passwords import Passwords
from kvs.server.watch import Watching
from kvs.storage.compression import Compressor
from kvs.storage.record import new_uuid, value_digest
from kvs.storage.store import Store

MODES = ("normal", "read_only", "degraded", "syncing")


class Context(NamedTuple):
    """The parts of the node that handlers use."""

    config: Config
    store: Store
    runner: Runner
    compressor: Compressor
    cursors: Cursors
    passwords: Passwords
    now_ms: Callable[[], int]
    watching: Watching
    cluster: Cluster | None = None
    meters: Meters | None = None
    auditor: Auditor | None = None
    keeper: HeadKeeper | None = None
    log_id: str = ""
    """The instance id of the data directory, which names its audit log."""

    @property
    def mode(self) -> str:
        """`normal`, or why writes of clients are refused: `degraded`, `read_only`, `syncing`."""
        if self.runner.degraded:
            return "degraded"
        if self.config.read_only:
            return "read_only"
        return "syncing" if self.cluster is not None and self.cluster.is_syncing else "normal"

    def check_writable(self) -> None:
        """Raises ReadOnly, Unavailable. (A degraded node's refusal comes from the runner.)"""
        if self.config.read_only:
            raise ReadOnly("this node is read-only")
        if self.cluster is not None:
            self.cluster.check_writable()

    def fetch_again(self, entry: bytes) -> None:
        """The record under this entry key is corrupt. Other nodes may have it."""
        if self.cluster is not None:
            self.cluster.fetch_again(entry)

    async def put_command(
        self, principal: Principal, entry: bytes, data: bytes, content_type: str, ttl_ms: int, condition: Condition
    ) -> Put:
        """The command that stores `data`, packed; large values are packed in a thread."""
        if len(data) < OFFLOAD_MIN_BYTES:
            codec, payload, digest = self._pack(data)
        else:
            codec, payload, digest = await asyncio.to_thread(self._pack, data)
        return Put(
            entry=entry,
            uuid=new_uuid(),
            codec=codec,
            payload=payload,
            digest=digest,
            content_type=content_type,
            owner=principal.user,
            ttl_ms=ttl_ms,
            condition=condition,
            guard=write_guard(principal),
        )

    def _pack(self, data: bytes) -> tuple[int, bytes, bytes]:
        """Codec, payload, and in a cluster the digest of the value: the plan would have to unpack it for that."""
        return *self.compressor.pack(data), b"" if self.cluster is None else value_digest(data)


def client_error(error: StoreError) -> Unavailable | CorruptRecord:
    """What a client is told when a read failed."""
    if isinstance(error, StoreClosed):
        return Unavailable("the store is being reopened after a disk error", code="degraded")
    if isinstance(error, StoreCorrupt):
        return CorruptRecord("the stored record fails its checksum and is not served")
    return Unavailable("the disk failed to answer", code="degraded")
