"""How a watcher comes to the head of the change log: in steps that are short, because others wait meanwhile.

    what comes next                             is sent
    rows of the log behind his position         with their positions
    then, for a snapshot, records in key order  without: a stream that breaks in between begins anew
    nothing                                     he is at the head, and joins the feed

During a snapshot the log is read on before each step through the records, and of it only keys that the snapshot has
passed are sent; it will come to the others. So a snapshot of any length needs no memory, and ends with the state of its
end, not of its beginning. (The same weave of a log and a scan as in DBLog, Andreakis and Papapanagiotou 2020.)

Only the latest row of a key is in the log, and it leads to the current record. If the row of a key that is gone has
left the log meanwhile, the watcher would never hear that it is gone: LostPlace.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from kvs.errors import StoreCorrupt
from kvs.limits import WATCH_STEP_BYTES, WATCH_STEP_ROWS
from kvs.server.feed import PUT, Event, MetadataOf, Subscription, kind_of
from kvs.storage.codec import decode
from kvs.storage.keyspace import CHANGES, DATA, after, change_row, split_change
from kvs.storage.state import read_log_start
from kvs.storage.store import Reader


class LostPlace(Exception):
    """What a watcher missed is not in the change log any more."""


class Step(NamedTuple):
    """`events` are those that the watcher may see, `corrupt` the entry keys that were left out. `is_early`: the next
    ones are on the disk, and the feed has not heard of them."""

    events: list[Event]
    corrupt: list[bytes]
    is_early: bool = False


class CatchingUp:
    """One watcher on his way. `seq` is how far he has come in the log."""

    def __init__(self, subscription: Subscription, seq: int, reader: Reader, *, snapshot: bool = False) -> None:
        """Raises LostPlace. From the beginning of the log everybody can go: he knows of nothing that could be gone."""
        self._subscription = subscription
        self._first = DATA + subscription.prefix
        self.is_snapshot = snapshot
        """Whether he began with one."""
        self._cursor: bytes | None = self._first if snapshot else None
        """The entry key with which the snapshot goes on; None when there is none, or behind its end."""
        self._log_start = read_log_start(reader)
        self.seq = seq
        if 0 < seq < self._log_start and not snapshot:
            raise LostPlace

    @property
    def in_snapshot(self) -> bool:
        return self._cursor is not None

    def is_at(self, head: int) -> bool:
        """Whether the next step is the last one, unless there is more on the disk than was published."""
        return self.seq >= head and self._cursor is None

    def step(self, reader: Reader, head: int, now_ms: int, metadata_of: MetadataOf) -> Step | None:
        """Go on by a bounded piece; None at the head. Then he knows what `reader` holds at this moment: a commit may be
        there before the feed hears of it, and the rows that it moved are missing in the log up to `head`. Raises
        LostPlace, StoreError."""
        before = self.seq
        step = self._step(reader, head, now_ms, metadata_of)
        # Behind the reading: what left the log meanwhile may be missing in it.
        if read_log_start(reader) > max(before, self._log_start):
            raise LostPlace
        return step

    def _step(self, reader: Reader, head: int, now_ms: int, metadata_of: MetadataOf) -> Step | None:
        if self.is_at(head):
            is_last = next(reader.scan(change_row(self.seq + 1), after(CHANGES)), None) is None
            return None if is_last else Step([], [], is_early=True)
        step = Step([], [])
        found = self._log(reader, head) if self.seq < head else self._records(reader)
        size_bytes = 0
        for seq, entry, raw in found:
            event = self._event(seq, entry, raw, now_ms, step.corrupt)
            if event is None or not self._may_see(event, metadata_of):
                continue
            step.events.append(event)
            size_bytes += event.record.size_bytes
            if size_bytes >= WATCH_STEP_BYTES:
                break
        return step

    def _log(self, reader: Reader, head: int) -> Iterator[tuple[int, bytes, bytes]]:
        """(Number, entry key, stored record) of the next rows that matter."""
        passed = self._cursor or after(DATA)
        count = 0
        for row, entry in islice(reader.scan(change_row(self.seq + 1), change_row(head + 1)), WATCH_STEP_ROWS):
            self.seq = split_change(row)
            count += 1
            if self._first <= entry < passed and entry.startswith(self._first):
                raw = reader.get(entry)
                if raw is not None:
                    yield self.seq, entry, raw
        if count < WATCH_STEP_ROWS:
            self.seq = head

    def _records(self, reader: Reader) -> Iterator[tuple[int, bytes, bytes]]:
        """The same of the next records of the snapshot; their number does not matter."""
        assert self._cursor is not None
        count = 0
        for entry, raw in islice(reader.scan(self._cursor, after(DATA)), WATCH_STEP_ROWS):
            if not entry.startswith(self._first):
                break
            self._cursor = entry + b"\0"
            count += 1
            yield 0, entry, raw
        if count < WATCH_STEP_ROWS:
            self._cursor = None

    def _event(self, seq: int, entry: bytes, raw: bytes, now_ms: int, corrupt: list[bytes]) -> Event | None:
        try:
            record = decode(entry, raw).record
        except StoreCorrupt:
            corrupt.append(entry)
            return None
        kind = kind_of(record, now_ms)
        return Event(seq, kind, entry, record) if seq or kind is PUT else None

    def _may_see(self, event: Event, metadata_of: MetadataOf) -> bool:
        sight = self._subscription.sight
        if not sight.bypasses:
            event.resolve(metadata_of)
        return event.is_seen_by(sight)
