"""The entries of one key, read together: its current record, the index rows that belong to it, its history."""

from collections.abc import Iterator

import msgspec

from kvs.errors import CorruptRecord, StoreCorrupt
from kvs.storage.codec import Indexed, Stored, decode
from kvs.storage.keyspace import (
    change_row,
    decode_seq,
    expiry_row,
    metadata_key,
    revision_row,
    time_row,
    tombstone_row,
)
from kvs.storage.record import Record
from kvs.storage.store import Reader


class Current(msgspec.Struct, frozen=True, gc=False):
    """What stands under an entry key. Both None: nothing. `raw` alone: a record that fails its checksum."""

    raw: bytes | None
    stored: Stored | None

    @property
    def is_corrupt(self) -> bool:
        return self.stored is None and self.raw is not None

    @property
    def version(self) -> tuple[int, int]:
        """(timestamp, counter), lowest when nothing is known."""
        return (0, 0) if self.stored is None else (self.stored.record.timestamp, self.stored.record.counter)

    def live(self, now_ms: int) -> Record | None:
        """The record, if a reader sees a value at `now_ms`."""
        if self.stored is None or not self.stored.record.is_live(now_ms):
            return None
        return self.stored.record


NOTHING = Current(None, None)


def read_current(reader: Reader, entry: bytes) -> Current:
    """For writers, who may replace a corrupt record; readers use `decode` and let StoreCorrupt rise."""
    raw = b""
    try:
        found = reader.get(entry)
        if found is None:
            return NOTHING
        raw = found
        return Current(raw, decode(entry, raw))
    except StoreCorrupt:
        return Current(raw, None)


def metadata_document(reader: Reader, entry: bytes, now_ms: int) -> bytes | None:
    """What was set for a user's key, given its entry key. A corrupt one refuses everything, as what it protected is
    unknown: raises CorruptRecord."""
    current = read_current(reader, metadata_key(entry))
    if current.is_corrupt:
        raise CorruptRecord("the metadata of this key fail their checksum")
    live = current.live(now_ms)
    return None if live is None else live.data


def index_rows(entry: bytes, record: Record | Indexed) -> list[bytes]:
    """The rows that lead to a current record. (The change log's row holds a value and is written apart.)"""
    rows = [time_row(record.timestamp, record.counter, entry)]
    if record.deleted:
        rows.append(tombstone_row(record.timestamp, entry))
    elif record.expires_at:
        rows.append(expiry_row(record.expires_at, entry))
    return rows


def seq_of(reader: Reader, entry: bytes, stored: Stored) -> int:
    """Where the change log has a current record: at its own number, or at the later one of its end, once that was
    noted."""
    if not stored.record.expires_at:
        return stored.seq
    noted = reader.get(expiry_row(stored.record.expires_at, entry))
    return decode_seq(noted) if noted else stored.seq


def history(
    reader: Reader, entry: bytes, now_ms: int, versions_max: int, first: int = 1
) -> Iterator[tuple[int, Record]]:
    """(revision number, record) from the number `first` on, newest first; 1 is the current record, tombstones included.

    `versions_max` counts the current record: more may be on the disk for a while after the setting was lowered.
    A version that has expired is left out: its value must not be readable any more. Its number is not given to
    another. Raises StoreCorrupt when a record fails its checksum.
    """
    raw = reader.get(entry)
    if raw is None:
        return
    stored = decode(entry, raw)
    for back in range(first - 1, min(stored.kept + 1, versions_max)):
        if back:
            raw = reader.get(revision_row(entry, stored.generation - back))
        if raw is None:
            continue
        record = decode(entry, raw).record
        if record.deleted or record.is_live(now_ms):
            yield back + 1, record


def removal(entry: bytes, stored: Stored, seq: int) -> dict[bytes, bytes | None]:
    """The batch that removes a record with all that belongs to it; `seq` is as of `seq_of`."""
    rows = [entry, change_row(seq), *index_rows(entry, stored.record)]
    rows += (revision_row(entry, stored.generation - back) for back in range(1, stored.kept + 1))
    return dict.fromkeys(rows)
