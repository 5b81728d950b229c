"""Sends every write to the peers at once.

Each peer has an outbox and at most one message under way to it. Whatever gathers while that one is under way leaves
with the next: an idle peer gets a write at once, a busy one gets many in one message, and nothing waits for a timer. A
newer version of a key replaces the older one in the outbox.

    outbox               event                        becomes
    held                 a change                     gathered: the peer has not said yet what it holds
    held                 heard                        idle; what gathered is sent
    idle, empty          a change                     sent at once
    under way            a change                     gathered, sent with the next message
    under way            answered                     the acknowledgements counted; the next message, if any
    under way            failed, or too much          emptied, but for KVS's own records; the peer is behind and is to
                                                      be compared with soon
    idle                 heard again                  what waits still, because a message failed, is sent
    any                  the peer is gone             emptied

KVS's own records go before those of users: see kvs.cluster.unsent.

Up to PUSH_TO_ALL_MAX members a write goes from where it was made to all. In larger clusters it goes to a few, for every
write to others (`fanout`; see kvs.cluster.relays), and each sends it on once, if it won there. What that leaves out,
comparisons mend.

Nobody waits for a peer, but for who asked for it (`w=k`): `watch` notes a version of a key, and `Reached` tells when
enough nodes have it, or a later one, on their disks (kvs.cluster.copies). Of peers that get it from others this node
does not know that soon, so that in large clusters it sends such a write to as many as must have it, and to some more,
as some may not answer.
"""

from collections.abc import Collection, Iterable, Sequence
from math import ceil, log2
from typing import NamedTuple

from kvs.cluster.chance import Chance, some
from kvs.cluster.copies import Copies, Reached
from kvs.cluster.events import Change
from kvs.cluster.exchange import REFUSED, ReplicateAnswer, ReplicateRequest
from kvs.cluster.relays import Relays
from kvs.cluster.unsent import Unsent, Version
from kvs.limits import PUSH_FANOUT, PUSH_TO_ALL_MAX
from kvs.storage.codec import decode_record, encode_record
from kvs.storage.record import Record


class Send(NamedTuple):
    """Effect: send this to the peer; then say `sent` or `failed`."""

    peer: str
    request: ReplicateRequest


class Behind(NamedTuple):
    """Effect: the peer lacks something that is not sent again."""

    peer: str


PushEffect = Send | Behind | Reached


class Push:
    """The outboxes of all peers of the node `me`. `fanout` 0 is PUSH_FANOUT."""

    def __init__(self, me: str, fanout: int, chance: Chance) -> None:
        self._me = me
        self._fanout = fanout or PUSH_FANOUT
        self._chance = chance
        self._outboxes: dict[str, Unsent] = {}
        self._relays: Relays | None = None
        """None until it is needed with these peers."""
        self.dropped = 0
        """Records that left an outbox without an acknowledgement; comparisons bring them to their peers."""
        self._copies = Copies()
        self.mark = 0
        """Rises with everything that `equal` is to be told of later: who begins to compare notes it."""

    # --- peers ---

    def add(self, peer: str) -> None:
        """The peer lives: from now on what is written gathers for it, and leaves once it is `heard`."""
        self._outboxes.setdefault(peer, Unsent())
        self._relays = None

    def heard(self, peer: str) -> list[PushEffect]:
        """The peer has said what it holds: nothing is held back, and what did not reach it is sent again."""
        outbox = self._outboxes.get(peer)
        if outbox is None:
            return []
        outbox.is_held = False
        return self._send((peer,))

    def remove(self, peer: str) -> None:
        outbox = self._outboxes.pop(peer, None)
        self._relays = None
        if outbox is not None:
            self.dropped += outbox.unacknowledged

    def waiting(self, peer: str) -> int:
        """How many records the peer has not acknowledged yet: those that wait and those under way."""
        outbox = self._outboxes.get(peer)
        return 0 if outbox is None else outbox.unacknowledged

    # --- records ---

    def committed(self, changes: Sequence[Change]) -> list[PushEffect]:
        """These records are on this node's disk. Those that came from a peer are sent on in large clusters only; who
        has the secret and is no peer that is up has sent them to nobody else."""
        peers = list(self._outboxes)
        if not peers:
            return []
        to_all = len(peers) < PUSH_TO_ALL_MAX
        full: set[str] = set()
        touched: dict[str, None] = {}
        for change in changes:
            entry, record, source = change.entry, change.record, change.source
            if to_all and source in self._outboxes:
                continue
            version, raw = _version(record), encode_record(record)
            for peer in peers if to_all else self._handed_on(entry, version, is_first=source not in self._outboxes):
                if peer == source:
                    continue
                touched[peer] = None
                if not self._gather(peer, entry, version, raw):
                    full.add(peer)
        return [*(Behind(peer) for peer in sorted(full)), *self._send(touched)]

    def sent(self, peer: str, answer: ReplicateAnswer) -> list[PushEffect]:
        """The peer has on its disk what was sent, as far as it took it."""
        outbox = self._outboxes.get(peer)
        if outbox is None:
            return []
        effects: list[PushEffect] = []
        for (entry, version), outcome in zip(outbox.arrived(), answer.outcomes, strict=False):
            if outcome != REFUSED:
                effects += self._copies.held(peer, entry, version)
        return effects + self._send((peer,))

    def failed(self, peer: str) -> list[PushEffect]:
        """The peer did not answer, or refused."""
        outbox = self._outboxes.get(peer)
        if outbox is None:
            return []
        self.mark += 1
        self.dropped += outbox.failed(self.mark)
        return [Behind(peer)]

    def compared(self, peer: str, records: Iterable[tuple[bytes, bytes]]) -> list[PushEffect]:
        """A comparison has brought the peer these records (entry key, record), and they are on its disk."""
        return [
            reached
            for entry, raw in records
            if self._copies.is_watched(entry)
            for reached in self._copies.held(peer, entry, _version(decode_record(raw)))
        ]

    def equal(self, peer: str, mark: int, but: Collection[bytes] = ()) -> list[PushEffect]:
        """The peer holds all that was on this node's disk when `mark` was what it is here, but for these entry keys."""
        outbox = self._outboxes.get(peer)
        if outbox is not None:
            outbox.equal(mark, but)
        return [*self._copies.equal(peer, mark, but)]

    def _gather(self, peer: str, entry: bytes, version: Version, raw: bytes) -> bool:
        """Whether there was room for it; otherwise what waits is dropped."""
        dropped = self._outboxes[peer].put(entry, version, raw, self.mark + 1)
        if not dropped:
            return True
        self.mark += 1
        self.dropped += dropped
        return False

    def _send(self, peers: Iterable[str]) -> list[PushEffect]:
        messages = [(peer, self._outboxes[peer].leave()) for peer in peers]
        return [Send(peer, ReplicateRequest(records)) for peer, records in messages if records]

    def _handed_on(self, entry: bytes, version: Version, *, is_first: bool) -> list[str]:
        if self._relays is None:
            self._relays = Relays(self._me, self._outboxes, self._fanout)
        return self._relays.of(entry, version, is_first=is_first)

    # --- who waits for peers ---

    def watch(self, ticket: int, entry: bytes, record: Record, missing: int, *, send: bool) -> list[PushEffect]:
        """`Reached(ticket)` when so many peers hold this record or a later one. To be called before any can have
        answered. `send`: to as many as that takes, unless they get it anyway."""
        version = _version(record)
        self.mark += 1
        self._copies.watch(ticket, entry, version, missing, self.mark)
        if not send or len(self._outboxes) < PUSH_TO_ALL_MAX:
            return []
        # Who is held has not been heard yet: when it answers, nobody knows.
        heard = {peer: outbox for peer, outbox in self._outboxes.items() if not outbox.is_held}
        others = [peer for peer, outbox in heard.items() if not outbox.brings(entry, version)]
        addressed = len(heard) - len(others)
        wanted = missing + ceil(log2(len(self._outboxes) + 1))
        chosen = some(self._chance, others, max(0, wanted - addressed))
        raw = encode_record(record)
        full = [peer for peer in chosen if not self._gather(peer, entry, version, raw)]
        return [*map(Behind, full), *self._send(chosen)]

    def forget(self, ticket: int) -> int:
        """Nobody waits any more; how many peers have it."""
        return self._copies.forget(ticket)


def _version(record: Record) -> Version:
    return record.timestamp, record.counter
