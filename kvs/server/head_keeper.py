"""Keeps the heads of the peers' audit logs: the shell of `kvs.cluster.audit_kept`, with what is on the disk."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import structlog

from kvs.cluster.audit_heads import Head, HeadsAnswer, HeadsOffer, are_good, decode_kept, encode
from kvs.cluster.audit_kept import consider
from kvs.cluster.events import Remember
from kvs.cluster.runner import Runner
from kvs.errors import BadMessage, NotFound
from kvs.storage.keyspace import AUDIT_PEERS, after, audit_peer_row
from kvs.storage.store import Store

log = structlog.get_logger()


class HeadKeeper:
    """Runs on the event loop."""

    def __init__(self, store: Store, runner: Runner, keys: Iterable[str], members: Callable[[], Iterable[str]]) -> None:
        """`keys` are the public keys under which the cluster signs; `members` are the other nodes that are known."""
        self._runner = runner
        self._keys = frozenset(keys)
        self._members = members
        self._turn = asyncio.Lock()
        self._held: dict[str, tuple[Head, ...]] = {}
        for row, raw in store.scan(AUDIT_PEERS, after(AUDIT_PEERS)):
            try:
                self._held[row.removeprefix(AUDIT_PEERS).decode()] = decode_kept(raw)
            except (BadMessage, UnicodeDecodeError):
                log.error("Heads of a peer's audit log are damaged", row=row)

    @property
    def held(self) -> Mapping[str, tuple[Head, ...]]:
        """All heads that are kept, by node."""
        return self._held

    async def offered(self, node_id: str, offer: HeadsOffer) -> HeadsAnswer:
        """What a peer is answered, once it is on the disk. Raises NotFound for a node that is no member, BadMessage for
        heads that are not its own or not signed by the cluster."""
        async with self._turn:
            members = list(self._members())
            if offer.heads and node_id not in members:
                raise NotFound(f"no member has the id {node_id[:64]}", code="unknown_member")
            kept = consider(self._held, node_id, offer, members)
            is_trusted = kept.goes_on or kept.heads is None or offer.heads[-1].key in self._keys
            if not are_good(offer.heads, node_id) or not is_trusted:
                raise BadMessage("these heads are another node's, or not signed by this cluster")
            if kept.heads is not None:
                rows: dict[bytes, bytes | None] = {audit_peer_row(node_id): encode(kept.heads)}
                if kept.forgotten:
                    rows[audit_peer_row(kept.forgotten)] = None
                await self._runner.submit([Remember(rows=rows)])
                self._held.pop(kept.forgotten, None)
                self._held[node_id] = kept.heads
            if kept.is_new_log:
                log.warning(
                    "The audit log of a member does not continue what it was: verify it",
                    member=node_id,
                    head=offer.heads[-1].number,
                    log=offer.heads[-1].log,
                )
            return kept.answer
