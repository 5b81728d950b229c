"""What watchers are told: new versions and ends of keys, as server-sent events (WHATWG HTML, 9.2).

    Committed ─ Feed.publish ─ channels by prefix ─ Feed.take ─ pieces: bytes, and who gets them

An event is rendered once, when somebody watches its key, and its bytes are shared. Watchers of one prefix make a
channel; within it those who see the same share the same parcels, however many they are. So a commit costs one look at
the prefixes that are watched, and nothing for each watcher.

More may be written than so many watchers can be told of. Then of each key the newest event is told, as to one who
resumes, and what waits is bounded by the keys that change, not by how often they do. Where that is too much as well, a
channel is given up: its watchers resume from the change log.

A position is what an event's `id` holds: the number in the change log, and which change log that is, because numbers of
two nodes have nothing to do with each other. It is a decimal number, and rises with the other.

Who is not at the head of the log comes there by `kvs/server/catching_up.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

from kvs.auth.permissions import Action, Metadata, is_readable_by_all, permits
from kvs.auth.principal import Principal
from kvs.auth.scopes import KV
from kvs.cluster.events import Change, Committed, Ended
from kvs.errors import BadRequest, ResyncRequired, StoreCorrupt
from kvs.limits import WATCH_GATHER_MAX_BYTES, WATCH_GATHER_MAX_EVENTS, WATCH_STEP_BYTES, WATCH_STEP_ROWS
from kvs.server.render import event_json
from kvs.storage.codec import decode
from kvs.storage.keyspace import DATA, change_row, split_change
from kvs.storage.record import Record
from kvs.storage.store import Reader

PUT, DELETE, EXPIRE = b"put", b"delete", b"expire"

MetadataOf = Callable[[bytes], Metadata | None]
"""What was set for a user's key, given its entry key. Raises StoreCorrupt, StoreClosed."""

_LOG_BITS = 32
"""Of two nodes one in 4 * 10^9 takes the positions of the other for its own."""
_POSITION_MAX_DIGITS = 30
_EVENT_BYTES = 512
"""What an event and its record take up beside key and value."""


def sight_of(principal: Principal) -> Principal:
    """What of a principal decides which keys he may read: those of one sight see the same."""
    if principal.bypasses:
        return Principal(scopes=frozenset((KV,)))
    return Principal(user=principal.user, groups=principal.groups)


class Event:
    """One change of one key. `metadata` decides with its record who may read it, once they were looked up."""

    __slots__ = ("_raw", "entry", "is_hidden", "is_open", "is_resolved", "kind", "metadata", "record", "seq")

    def __init__(self, seq: int, kind: bytes, entry: bytes, record: Record) -> None:
        self.seq = seq
        self.kind = kind
        self.entry = entry
        self.record = record
        self.metadata: Metadata | None = None
        self.is_resolved = self.is_open = self.is_hidden = False
        self._raw = b""

    @property
    def size_bytes(self) -> int:
        """About what it takes up in memory once it is rendered."""
        return _EVENT_BYTES + len(self.entry) + self.record.size_bytes

    def resolve(self, metadata_of: MetadataOf) -> None:
        """Look up who may read it. If the metadata are corrupt, whom they let in is unknown: nobody. Raises
        StoreClosed."""
        if self.is_resolved:
            return
        try:
            self.metadata = metadata_of(self.entry)
        except StoreCorrupt:
            self.is_hidden = True
        self.is_open = not self.is_hidden and is_readable_by_all(self.metadata)
        self.is_resolved = True

    def is_seen_by(self, sight: Principal) -> bool:
        """Only after `resolve`, unless the sight bypasses permissions."""
        if sight.bypasses or self.is_open:
            return True
        return not self.is_hidden and permits(sight, Action.READ, self.metadata, self.record.owner)

    def raw(self, position: bytes) -> bytes:
        """Its bytes, made once. Without a position the stream cannot be resumed behind it."""
        if not self._raw:
            place = b"id: %b\n" % position if position else b""
            # A line break can only stand between the tokens of a JSON text, where a space says the same.
            data = event_json(self.entry[1:], self.record, has_value=self.kind is PUT)
            data = data.replace(b"\r", b" ").replace(b"\n", b" ")
            self._raw = b"event: %b\n%bdata: %b\n\n" % (self.kind, place, data)
        return self._raw


def kind_of(record: Record, now_ms: int) -> bytes:
    """What a reader at `now_ms` makes of a current record."""
    if record.deleted:
        return DELETE
    return PUT if record.is_live(now_ms) else EXPIRE


class Subscription:
    """Who watches the keys that begin with `prefix`, and what he may see of them."""

    __slots__ = ("prefix", "sight", "skip")

    def __init__(self, prefix: bytes, sight: Principal) -> None:
        self.prefix = prefix
        self.sight = sight
        self.skip = 0
        """How many of the events that wait in the channel he knows already."""


Watcher = TypeVar("Watcher", bound=Subscription)


class _Channel(Generic[Watcher]):
    """Events that wait for the watchers of one prefix."""

    __slots__ = ("_coalesce_at", "_size_bytes", "by_sight", "pending")

    def __init__(self) -> None:
        self.by_sight: dict[Principal, dict[Watcher, None]] = {}
        self.empty()

    def empty(self) -> None:
        self.pending: list[Event] = []
        self._size_bytes = 0
        self._coalesce_at = WATCH_GATHER_MAX_EVENTS

    def add(self, event: Event) -> bool:
        """False: more waits than may."""
        self.pending.append(event)
        self._size_bytes += event.size_bytes
        if len(self.pending) < self._coalesce_at and self._size_bytes <= WATCH_GATHER_MAX_BYTES:
            return True
        self._coalesce()
        return self._size_bytes <= WATCH_GATHER_MAX_BYTES // 2

    def _coalesce(self) -> None:
        """Keep the newest event of each key."""
        newest = {event.entry: event for event in self.pending}
        for alike in self.by_sight.values():
            for subscription in alike:
                known = self.pending[: subscription.skip]
                subscription.skip = sum(newest[event.entry] is event for event in known)
        self.pending = [event for event in self.pending if newest[event.entry] is event]
        self._size_bytes = sum(event.size_bytes for event in self.pending)
        self._coalesce_at = max(WATCH_GATHER_MAX_EVENTS, 2 * len(self.pending))


class _Parcel(NamedTuple, Generic[Watcher]):
    """The same for all of these watchers, who see it alike."""

    events: Sequence[Event]
    sight: Principal
    watchers: Sequence[Watcher]


class Feed(Generic[Watcher]):
    """`head` is the last number of the change log that was published."""

    def __init__(self, log: str, head: int) -> None:
        """`log` names the change log, as no other is named."""
        self.head = head
        self._log = int.from_bytes(blake2b(log.encode(), digest_size=_LOG_BITS // 8).digest(), "big")
        self._channels: dict[bytes, _Channel[Watcher]] = {}
        self._lengths: list[int] = []
        """Of the prefixes that are watched, each once, in rising order."""
        self._dirty: dict[bytes, _Channel[Watcher]] = {}
        self._full: set[bytes] = set()
        """The prefixes of channels in which more waits than may."""

    @property
    def has_pending(self) -> bool:
        return bool(self._dirty)

    # --- positions ---

    def position(self, seq: int) -> bytes:
        return b"%d" % (seq << _LOG_BITS | self._log)

    def parse(self, text: str) -> int:
        """The number in the change log that a position holds; 0, which every node knows, is its beginning. Raises
        BadRequest for what is no position, ResyncRequired for one of another log or from the future."""
        if not (text.isascii() and text.isdigit() and len(text) <= _POSITION_MAX_DIGITS):
            raise BadRequest('since is "snapshot" or a position: the id of an event', field="since")
        number = int(text)
        seq, log = number >> _LOG_BITS, number & (1 << _LOG_BITS) - 1
        if number and (log != self._log or seq > self.head):
            raise ResyncRequired("this position is none of this node's change log")
        return seq

    # --- who watches ---

    def join(self, subscription: Watcher) -> None:
        """He knows everything up to the head and is told of what follows."""
        channel = self._channels.get(subscription.prefix)
        if channel is None:
            channel = self._channels[subscription.prefix] = _Channel()
            self._lengths = sorted({len(prefix) for prefix in self._channels})
        channel.by_sight.setdefault(subscription.sight, {})[subscription] = None
        subscription.skip = len(channel.pending)

    def leave(self, subscription: Watcher) -> None:
        """No matter if he did not join."""
        channel = self._channels.get(subscription.prefix)
        if channel is None or subscription not in channel.by_sight.get(subscription.sight, ()):
            return
        alike = channel.by_sight[subscription.sight]
        del alike[subscription]
        if not alike:
            del channel.by_sight[subscription.sight]
        if not channel.by_sight:
            del self._channels[subscription.prefix]
            self._dirty.pop(subscription.prefix, None)
            self._full.discard(subscription.prefix)
            self._lengths = sorted({len(prefix) for prefix in self._channels})

    def joined(self) -> Iterator[Watcher]:
        for channel in self._channels.values():
            for alike in channel.by_sight.values():
                yield from alike

    # --- what happens ---

    def publish(self, committed: Committed, now_ms: int) -> list[Watcher]:
        """Returns those for whom too much waits: they are told nothing more, and must resume."""
        changes, ended = committed
        self.head = max(self.head, changes[-1].seq if changes else 0, ended[-1].seq if ended else 0)
        if not self._channels:
            return []
        in_order: Sequence[Change | Ended] = changes
        if ended:
            in_order = sorted(chain(changes, ended), key=lambda one: one.seq)
        for one in in_order:
            if one.entry.startswith(DATA):
                kind = kind_of(one.record, now_ms) if isinstance(one, Change) else (EXPIRE if one.expired else DELETE)
                self._add(one.seq, kind, one.entry, one.record)
        return self._given_up()

    def publish_log(self, reader: Reader, seq: int, now_ms: int) -> list[Watcher]:
        """The change log behind the head, up to `seq`: for commits of which nobody knew whether they succeeded. Returns
        what `publish` does. Raises StoreError; then all who watch must resume, for whom the head is where it should
        be."""
        try:
            for row, entry in reader.scan(change_row(self.head + 1), change_row(seq + 1)):
                raw = reader.get(entry)
                if raw is not None and entry.startswith(DATA):
                    record = decode(entry, raw).record
                    self._add(split_change(row), kind_of(record, now_ms), entry, record)
        finally:
            self.head = max(self.head, seq)
        return self._given_up()

    def _add(self, seq: int, kind: bytes, entry: bytes, record: Record) -> None:
        event = None
        for length in self._lengths:
            if length >= len(entry):
                break
            prefix = entry[1 : length + 1]
            channel = self._channels.get(prefix)
            if channel is not None:
                event = event or Event(seq, kind, entry, record)
                self._dirty[prefix] = channel
                if not channel.add(event):
                    self._full.add(prefix)

    def _given_up(self) -> list[Watcher]:
        full, self._full = self._full, set()
        lost = [watcher for prefix in full for alike in self._channels[prefix].by_sight.values() for watcher in alike]
        for watcher in lost:
            self.leave(watcher)
        return lost

    def take(self, metadata_of: MetadataOf) -> Iterator[tuple[bytes, Sequence[Watcher]]]:
        """What waits, in bytes, and for whom; then nothing waits. It is rendered piece by piece, as it is asked for.
        Raises StoreClosed; then everything waits still."""
        for channel in self._dirty.values():
            if not all(sight.bypasses for sight in channel.by_sight):
                for event in channel.pending:
                    event.resolve(metadata_of)
        dirty, self._dirty = self._dirty, {}
        return self._rendered([parcel for channel in dirty.values() for parcel in self._parcels(channel)])

    def _parcels(self, channel: _Channel[Watcher]) -> Iterator[_Parcel[Watcher]]:
        pending = channel.pending
        channel.empty()
        for sight, alike in channel.by_sight.items():
            late = [subscription for subscription in alike if subscription.skip]
            for subscription in late:
                yield _Parcel(pending[subscription.skip :], sight, (subscription,))
            on_time = [subscription for subscription in alike if not subscription.skip]
            for subscription in late:
                subscription.skip = 0
            if on_time:
                yield _Parcel(pending, sight, on_time)

    def _rendered(self, parcels: Iterable[_Parcel[Watcher]]) -> Iterator[tuple[bytes, Sequence[Watcher]]]:
        for events, sight, watchers in parcels:
            piece: list[bytes] = []
            size_bytes = 0
            for event in events:
                if not event.is_seen_by(sight):
                    continue
                with suppress(StoreCorrupt):  # whoever reads it is told
                    piece.append(event.raw(self.position(event.seq)))
                    size_bytes += len(piece[-1])
                if len(piece) == WATCH_STEP_ROWS or size_bytes >= WATCH_STEP_BYTES:
                    yield b"".join(piece), watchers
                    piece, size_bytes = [], 0
            if piece:
                yield b"".join(piece), watchers
