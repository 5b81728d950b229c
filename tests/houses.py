"""A node's audit log with what writes it, signs it and keeps it, on a store in memory."""

from collections.abc import Sequence

from kvs.actions import ACTIONS
from kvs.cluster.audit_check import Report, anchor_of
from kvs.cluster.audit_heads import Head, HeadKey, decode_offer, encode
from kvs.cluster.events import Act
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.runner import Runner
from kvs.cluster.trail import Trail
from kvs.cluster.transport import PeerUnreachable
from kvs.errors import BadMessage, NotFound, Unavailable
from kvs.server.auditor import Auditor
from kvs.server.head_keeper import HeadKeeper
from kvs.server.security import AuditKeys
from kvs.server.witnesses import Witnesses
from kvs.storage.audit import decode, first_rows
from kvs.storage.keyspace import AUDIT_ENTRIES, AUDIT_HEADS, after
from kvs.storage.memory import MemoryStore
from kvs.storage.state import read_progress
from tests.auditing import START_MS, check_rows, heads_in, store_of
from tests.nodes import LOG

KEY = HeadKey(b"\x07" * 32)
ACT = Act("backup", "node", "daily")
SETTINGS = NodeSettings("node1", 1, 3, 1000, 60_000)


class House:
    """A node's log with all that is around it, without a server. `neighbours` are houses that keep its heads."""

    def __init__(self, name: str, actions: Sequence[str] = ACTIONS, store: MemoryStore | None = None) -> None:
        self.name = name
        self.now_ms = START_MS
        self.store = store or store_of(first_rows(LOG))
        self.trail = Trail(LOG, actions, self.store)
        self.runner = Runner(self.store, Node(SETTINGS, read_progress(self.store), None, self.trail), self._now)
        self.neighbours: dict[str, House] = {}
        self.calls = 0
        self.members = {"node1", "node2"}
        self.keeper = HeadKeeper(self.store, self.runner, [KEY.public], lambda: self.members)
        self.auditor = self.make_auditor()

    def make_auditor(self, key: HeadKey = KEY) -> Auditor:
        witnesses = Witnesses(self, self.store, LOG)
        keys = AuditKeys(key, frozenset((key.public,)), b"k" * 32)
        return Auditor(self.store, self.runner, self.trail, keys, self.name, self._now, witnesses)

    def _now(self) -> int:
        return self.now_ms

    def up(self) -> Sequence[str]:
        return list(self.neighbours)

    async def ask(self, peer: str, path: str, body: bytes, timeout_s: float) -> bytes:
        assert path == "/audit/heads"
        self.calls += 1
        try:
            return encode(await self.neighbours[peer].keeper.offered(self.name, decode_offer(body)))
        except (BadMessage, NotFound, Unavailable) as error:
            raise PeerUnreachable(str(error)) from None

    async def note(self, *resources: str) -> None:
        self.auditor.note(*(ACT._replace(resource=resource) for resource in resources))
        await self.written()

    async def written(self) -> None:
        """What was noted is on the disk, or waits for it."""
        if self.auditor._writing is not None:
            await self.auditor._writing

    @property
    def resources(self) -> list[str]:
        rows = self.store.scan(AUDIT_ENTRIES, after(AUDIT_ENTRIES))
        return [decode(raw).resource for _, raw in rows]

    @property
    def heads(self) -> list[Head]:
        return heads_in(dict(self.store.scan(AUDIT_HEADS, after(AUDIT_HEADS))))

    def check(self, *anchors: Head) -> Report:
        rows = dict(self.store.scan(b"a", b"b"))
        return check_rows(rows, [anchor_of(head, "n2") for head in anchors])

    async def recovered(self) -> None:
        if self.runner._recovery is not None:
            await self.runner._recovery
