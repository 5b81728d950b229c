"""Peers that keep the heads of this node's audit log: who of them has which, and what they still lack.

Each peer is told of a new head once. It says what it keeps; where that is older, it gets all heads from there on,
because it follows them link by link. Where it is none of this log, the log is not what it was: that is an alarm, and
the peer keeps the new one beside it.
"""

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

import structlog

from kvs.cluster.audit_heads import Head, HeadsAnswer, HeadsOffer, decode_answer, decode_head, encode
from kvs.cluster.transport import PeerRefused, PeerUnreachable
from kvs.errors import BadMessage, StoreError
from kvs.limits import AUDIT_HEADS_PER_MESSAGE_MAX, AUDIT_TELL_PEERS_MAX, AUDIT_TELL_TIMEOUT_S
from kvs.storage.keyspace import AUDIT_HEADS, after, audit_head_row
from kvs.storage.store import Reader

log = structlog.get_logger()

PATH = "/audit/heads"


class Peers(Protocol):
    """The other nodes."""

    def up(self) -> Sequence[str]:
        """Those that are up, by id."""

    async def ask(self, peer: str, path: str, body: bytes, timeout_s: float) -> bytes:
        """The answer to a POST. Raises PeerUnreachable, PeerRefused."""


class Witnesses:
    """Runs on the event loop."""

    def __init__(self, peers: Peers, reader: Reader, log_id: str) -> None:
        """`log_id` is the instance id of the data directory."""
        self._peers = peers
        self._reader = reader
        self._log_id = log_id
        self._told: dict[str, int] = {}
        self._strange: set[tuple[str, str]] = set()

    async def tell(self, newest: Head | None) -> None:
        """Some of the peers that do not have this head yet; while there is none, they are asked what they keep."""
        up, number = self._peers.up(), 0 if newest is None else newest.number
        self._told = {peer: told for peer, told in self._told.items() if peer in up}
        lacking = [peer for peer in up if self._told.get(peer) != number]
        await asyncio.gather(*(self._tell(peer, newest) for peer in lacking[:AUDIT_TELL_PEERS_MAX]))

    async def _tell(self, peer: str, newest: Head | None) -> None:
        try:
            if newest is None:
                self._compare(peer, (await self._offer(peer, HeadsOffer())).kept)
                self._told[peer] = 0
            elif await self._hand_over(peer, newest):
                self._told[peer] = newest.number
        except (PeerUnreachable, PeerRefused, BadMessage, StoreError) as error:
            log.debug("A peer was not told of the audit log's head", peer=peer, reason=str(error))

    async def _hand_over(self, peer: str, newest: Head) -> bool:
        """Whether the peer keeps this head now."""
        answer = await self._offer(peer, HeadsOffer((newest,)))
        self._compare(peer, answer.kept)
        reached = 0
        while newest not in answer.kept:
            own = [head for head in answer.kept if self._is_own(head)]
            if not own:
                answer = await self._offer(peer, HeadsOffer((newest,), anew=True))
                return newest in answer.kept
            tip = max(own, key=lambda head: head.number)
            if tip.number <= reached:
                return False
            reached = tip.number
            answer = await self._offer(peer, HeadsOffer(self._behind(tip)))
        return True

    async def _offer(self, peer: str, offer: HeadsOffer) -> HeadsAnswer:
        return decode_answer(await self._peers.ask(peer, PATH, encode(offer), AUDIT_TELL_TIMEOUT_S))

    def _compare(self, peer: str, kept: Sequence[Head]) -> None:
        for head in kept:
            if (peer, head.id) not in self._strange and not self._is_own(head):
                self._strange.add((peer, head.id))
                log.error(
                    "A peer keeps a head of this node's audit log that is not in it: verify the log",
                    peer=peer,
                    head=head.number,
                    last=head.last,
                    is_this_log=head.log == self._log_id,
                )

    def _is_own(self, head: Head) -> bool:
        return self._reader.get(audit_head_row(head.last, head.number)) == encode(head)

    def _behind(self, tip: Head) -> tuple[Head, ...]:
        """The heads that follow one, as many as a message takes. Raises BadMessage for a damaged one."""
        start = audit_head_row(tip.last, tip.number) + b"\0"
        rows = islice(self._reader.scan(start, after(AUDIT_HEADS)), AUDIT_HEADS_PER_MESSAGE_MAX)
        return tuple(decode_head(raw) for _, raw in rows)
