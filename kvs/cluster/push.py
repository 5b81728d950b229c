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
    under way            failed, or too much          emptied; the peer is behind and is to be compared with soon
    any                  the peer is gone             emptied

Up to PUSH_TO_ALL_MAX members a write goes from where it was made to all. In larger clusters it goes to a few, for every
write to others (`fanout`; see kvs.cluster.relays), and each sends it on once, if it won there. What that leaves out,
comparisons mend.

Nobody waits for a peer, but for who asked for it (`w=k`): `watch` notes a version of a key, and `Reached` tells when
enough nodes have it, or a later one, on their disks. Only those count that answer to this node, so that in large
clusters it sends such a write to as many as must have it, and to some more, as some may not answer.
"""

from collections.abc import Iterable, Sequence
from math import ceil, log2
from typing import NamedTuple

from kvs.cluster.chance import Chance, some
from kvs.cluster.events import Change
from kvs.cluster.exchange import REFUSED, ReplicateAnswer, ReplicateRequest
from kvs.cluster.ingest import in_messages
from kvs.cluster.relays import Relays
from kvs.limits import OUTBOX_MAX_BYTES, OUTBOX_MAX_RECORDS, PUSH_FANOUT, PUSH_TO_ALL_MAX
from kvs.storage.codec import encode_record
from kvs.storage.record import Record

Version = tuple[int, int]


class Send(NamedTuple):
    """Effect: send this to the peer; then say `sent` or `failed`."""

    peer: str
    request: ReplicateRequest


class Behind(NamedTuple):
    """Effect: the peer lacks something that is not sent again."""

    peer: str


class Reached(NamedTuple):
    """Effect: enough nodes hold what was watched under this ticket."""

    ticket: int


PushEffect = Send | Behind | Reached


class _Outbox:
    """What one peer is still to get: entry key to (version, record)."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, tuple[Version, bytes]] = {}
        self.size_bytes = 0
        self.under_way: dict[bytes, Version] | None = None
        self.is_held = True

    @property
    def unacknowledged(self) -> int:
        return len(self.waiting) + len(self.under_way or ())

    def brings(self, entry: bytes, version: Version) -> bool:
        """Whether this version, or a later one, waits or is under way."""
        waiting = self.waiting.get(entry)
        under_way = None if self.under_way is None else self.under_way.get(entry)
        return (waiting is not None and waiting[0] >= version) or (under_way is not None and under_way >= version)

    def put(self, entry: bytes, version: Version, raw: bytes) -> None:
        old = self.waiting.pop(entry, None)
        if old is not None:
            self.size_bytes -= len(entry) + len(old[1])
        self.waiting[entry] = (version, raw)
        self.size_bytes += len(entry) + len(raw)

    def is_full(self) -> bool:
        return len(self.waiting) > OUTBOX_MAX_RECORDS or self.size_bytes > OUTBOX_MAX_BYTES

    def clear(self) -> None:
        self.waiting.clear()
        self.size_bytes = 0


class _Watch:
    """Somebody waits until `missing` more peers hold this version of a key."""

    def __init__(self, entry: bytes, version: Version, missing: int) -> None:
        self.entry = entry
        self.version = version
        self.missing = missing
        self.by: set[str] = set()


class Push:
    """The outboxes of all peers of the node `me`. `fanout` 0 is PUSH_FANOUT."""

    def __init__(self, me: str, fanout: int, chance: Chance) -> None:
        self._me = me
        self._fanout = fanout or PUSH_FANOUT
        self._chance = chance
        self._outboxes: dict[str, _Outbox] = {}
        self._relays: Relays | None = None
        """None until it is needed with these peers."""
        self.dropped = 0
        """Records that left an outbox without an acknowledgement; comparisons bring them to their peers."""
        self._watches: dict[int, _Watch] = {}
        self._watched: dict[bytes, set[int]] = {}

    # --- peers ---

    def add(self, peer: str) -> None:
        """The peer lives: from now on what is written gathers for it, and leaves once it is `heard`."""
        self._outboxes.setdefault(peer, _Outbox())
        self._relays = None

    def heard(self, peer: str) -> list[PushEffect]:
        """The peer has said what it holds."""
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
            version, raw = (record.timestamp, record.counter), encode_record(record)
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
        if outbox is None or outbox.under_way is None:
            return []
        sent, outbox.under_way = outbox.under_way, None
        effects: list[PushEffect] = []
        for (entry, version), outcome in zip(sent.items(), answer.outcomes, strict=False):
            if outcome != REFUSED:
                effects += self._acknowledge(peer, entry, version)
        return effects + self._send((peer,))

    def failed(self, peer: str) -> list[PushEffect]:
        """The peer did not answer, or refused."""
        outbox = self._outboxes.get(peer)
        if outbox is None:
            return []
        self.dropped += outbox.unacknowledged
        outbox.under_way = None
        outbox.clear()
        return [Behind(peer)]

    def _gather(self, peer: str, entry: bytes, version: Version, raw: bytes) -> bool:
        """Whether there was room for it; otherwise all that waits is dropped."""
        outbox = self._outboxes[peer]
        outbox.put(entry, version, raw)
        if not outbox.is_full():
            return True
        self.dropped += len(outbox.waiting)
        outbox.clear()
        return False

    def _send(self, peers: Iterable[str]) -> list[PushEffect]:
        effects: list[PushEffect] = []
        for peer in peers:
            outbox = self._outboxes[peer]
            if outbox.under_way is None and outbox.waiting and not outbox.is_held:
                portion = next(in_messages((entry, raw) for entry, (_, raw) in outbox.waiting.items()))
                outbox.under_way = {}
                for entry, raw in portion:
                    outbox.under_way[entry] = outbox.waiting.pop(entry)[0]
                    outbox.size_bytes -= len(entry) + len(raw)
                effects.append(Send(peer, ReplicateRequest(portion)))
        return effects

    def _handed_on(self, entry: bytes, version: Version, *, is_first: bool) -> list[str]:
        if self._relays is None:
            self._relays = Relays(self._me, self._outboxes, self._fanout)
        return self._relays.of(entry, version, is_first=is_first)

    # --- who waits for peers ---

    def watch(self, ticket: int, entry: bytes, record: Record, missing: int, *, send: bool) -> list[PushEffect]:
        """`Reached(ticket)` when so many peers hold this record or a later one. To be called before any can have
        answered. `send`: to as many as that takes, unless they get it anyway."""
        version = record.timestamp, record.counter
        self._watches[ticket] = _Watch(entry, version, missing)
        self._watched.setdefault(entry, set()).add(ticket)
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
        watch = self._watches.pop(ticket)
        tickets = self._watched[watch.entry]
        tickets.discard(ticket)
        if not tickets:
            del self._watched[watch.entry]
        return len(watch.by)

    def _acknowledge(self, peer: str, entry: bytes, version: Version) -> Iterable[PushEffect]:
        for ticket in sorted(self._watched.get(entry, ())):
            watch = self._watches[ticket]
            if version >= watch.version and peer not in watch.by:
                watch.by.add(peer)
                if len(watch.by) == watch.missing:
                    yield Reached(ticket)
