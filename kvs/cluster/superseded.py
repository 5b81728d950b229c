"""Notes of versions that this node held and replaced while a peer was away that may still have them.

A tombstone goes when every node that counts has it. One that was away for so long that it was forgotten does not count,
and brings back what was deleted. That the two once held the same the last proof tells (`Floor.apart`). But a proof lags
behind: it says nothing of what the two exchanged after it, before the peer went away. Whatever of that is replaced, or
is a tombstone that is swept, while the peer is away leaves a note:

    o <space><key>   timestamp:u64 counter:u32      this version of the key was here, and it, or a later one, is over

That remains true whatever becomes of the key. So a value of that version or an earlier one that anybody brings, while
nothing is here under its key, was replaced and deleted.

A key has one note at most, and only if it was written between the proof and the moment when the peer went away: some
minutes, as a rule. A note goes when every peer that may have such a version has proven to have a later one.
"""

from collections.abc import MutableMapping
from struct import Struct
from typing import NamedTuple

from kvs.storage.codec import Indexed
from kvs.storage.keyspace import SUPERSEDED, after, superseded_row
from kvs.storage.record import Record
from kvs.storage.store import Reader

_VERSION = Struct(">QI")


class Absences(NamedTuple):
    """Which versions peers may hold that are replaced here, by their timestamps (Unix ms)."""

    spans: tuple[tuple[int, int], ...] = ()
    """For each peer that is away: the last proof, and when it went away, both included."""
    proven_ms: int | None = None
    """The earliest proof of those that are not away; None where there are none."""

    def may_have(self, timestamp: int) -> bool:
        """Whether a peer that is away may hold a version that was current here."""
        return any(since_ms <= timestamp <= until_ms for since_ms, until_ms in self.spans)

    def may_bring(self, timestamp: int) -> bool:
        """Whether a note of such a version is still needed: also peers that have come back may bring it."""
        return self.may_have(timestamp) or (self.proven_ms is not None and timestamp >= self.proven_ms)


class Superseded:
    """Writes the notes and looks at them."""

    def __init__(self) -> None:
        self.absences: Absences | None = None
        """None while nobody has said: then no note is written, and none goes."""
        self._has_any: bool | None = None
        """Whether there may be notes at all: most nodes have none, and need not look for any. None: not known yet."""

    def note(self, batch: MutableMapping[bytes, bytes | None], entry: bytes, record: Record | Indexed) -> None:
        """This current record is replaced by a later version, or is a tombstone that leaves the disk."""
        if self.absences is not None and self.absences.spans and self.absences.may_have(record.timestamp):
            batch[superseded_row(entry)] = _VERSION.pack(record.timestamp, record.counter)
            self._has_any = True

    def covers(self, view: Reader, entry: bytes, record: Record) -> bool:
        """Whether this version, or a later one, was here and was replaced."""
        if self._has_any is None:
            self._has_any = any(True for _ in view.scan(SUPERSEDED, after(SUPERSEDED)))
        raw = view.get(superseded_row(entry)) if self._has_any else None
        return raw is not None and _VERSION.unpack(raw) >= (record.timestamp, record.counter)

    def is_needed(self, raw: bytes) -> bool:
        """Whether a peer may still bring what this note (its value) is of."""
        timestamp, _ = _VERSION.unpack(raw)
        return self.absences is None or self.absences.may_bring(timestamp)
