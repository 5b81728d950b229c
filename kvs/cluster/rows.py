"""The rows of a current record: written together, taken away together.

A record has its own row, its index rows, its place in the change log, the revisions before it and, in a cluster, its
item in the Merkle tree. Whoever changes a record says here what becomes of it and gets the batch.
"""

import msgspec

from kvs.cluster.merging import are_one, entombed
from kvs.cluster.merkle import Tree, TreeEdit, item_of
from kvs.cluster.tally import Tally
from kvs.errors import StoreCorrupt
from kvs.storage.codec import GENERATION_MAX, Stored, decode, encode, stored_bytes
from kvs.storage.current import Current, index_rows, removal, seq_of
from kvs.storage.keyspace import (
    DATA,
    METADATA,
    TOMBSTONES,
    change_row,
    encode_seq,
    expiry_row,
    revision_range,
    revision_row,
)
from kvs.storage.record import Record, value_digest
from kvs.storage.retention import must_stay_as_tombstone
from kvs.storage.revisions import dropped, kept_after
from kvs.storage.state import LOG_START_ROW, read_log_start
from kvs.storage.store import Reader
from kvs.storage.version import decide


class Rows:
    """Builds batches. Holds what they are numbered and summed up by: the sequence of the change log and the Merkle tree
    (None outside a cluster). `versions_max` counts the current record; 1 keeps no history."""

    def __init__(self, seq: int, tree: Tree | None, versions_max: int, *, has_metadata: bool) -> None:
        self.seq = seq
        self.tree = tree
        self.edit: TreeEdit | None = None
        """What the group under construction does to the tree."""
        self.tally = Tally()
        """What it writes, in numbers."""
        self.has_metadata = has_metadata
        """Whether any key may have metadata."""
        self._versions_max = versions_max

    def begin(self) -> None:
        """A new group of writes."""
        self.edit = None if self.tree is None else self.tree.edit()
        self.tally = Tally()

    def mark(self) -> tuple[TreeEdit | None, Tally]:
        """What the group comes to so far: to go back to with `undo` when what comes next fails halfway."""
        return None if self.edit is None else self.edit.copy(), self.tally.copy()

    def undo(self, mark: tuple[TreeEdit | None, Tally]) -> None:
        self.edit, self.tally = mark

    def replace(
        self, entry: bytes, current: Current, record: Record, view: Reader, *, digest: bytes = b"", raw: bytes = b""
    ) -> dict[bytes, bytes | None]:
        """The batch that makes `record` the current one in the place of `current`. See `add` for the rest."""
        batch: dict[bytes, bytes | None] = {}
        generation, kept = 1, 0
        if current.stored is not None:
            old = current.stored
            self.tally.tombstones -= old.record.deleted
            batch = dict.fromkeys(index_rows(entry, old.record))
            batch[change_row(seq_of(view, entry, old))] = None
            if old.generation == GENERATION_MAX:
                old = _numbered_anew(batch, entry, old, view)
            generation = old.generation + 1
            kept = kept_after(old.kept, self.versions_max(entry))
            for gone in dropped(old.generation, old.kept, kept):
                batch[revision_row(entry, gone)] = None
            if kept:
                batch[revision_row(entry, old.generation)] = current.raw
        elif current.raw is not None:
            # What the record was cannot be known: its history goes, its index rows are found stale by later sweeps.
            batch = dict.fromkeys(row for row, _ in view.scan(*revision_range(entry)))
        is_new = current.raw is None
        self.add(batch, entry, record, view, generation, kept, digest=digest, raw=raw, is_new=is_new)
        return batch

    def add(
        self,
        batch: dict[bytes, bytes | None],
        entry: bytes,
        record: Record,
        view: Reader,
        generation: int = 1,
        kept: int = 0,
        *,
        digest: bytes = b"",
        raw: bytes = b"",
        is_new: bool = True,
    ) -> None:
        """Put the rows of a current record into the batch: itself, indexes, change log, Merkle item.

        `digest` and `raw` are its `value_digest` and its `encode_record`, if they are known already. `is_new`: nothing
        stands under the entry key."""
        if entry.startswith(METADATA):
            self.has_metadata = True
        self.seq += 1
        self.tally.written(record, is_new=is_new)
        if raw:
            batch[entry] = stored_bytes(entry, raw, self.seq, generation, kept)
        else:
            batch[entry] = encode(entry, Stored(record, self.seq, generation, kept))
        for row in index_rows(entry, record):
            batch[row] = b""
        batch[change_row(self.seq)] = entry
        if self.edit is not None:
            item = item_of(entry, record, digest or value_digest(record.data))
            self.edit.put(batch, view, entry, item, is_new=is_new)

    def keep_loser(self, entry: bytes, stored: Stored, loser: Record, view: Reader) -> dict[bytes, bytes | None] | None:
        """The batch that puts a discarded concurrent version into the history, where it belongs by its version. Empty
        if all that may be kept are newer; None if the history has it."""
        revisions_max = self.versions_max(entry) - 1
        newer = _newer(view, entry, stored, loser, revisions_max)
        if newer is None:
            return None
        if len(newer) == revisions_max:
            return {}
        batch: dict[bytes, bytes | None] = {}
        if stored.generation == GENERATION_MAX:
            stored = _numbered_anew(batch, entry, stored, view)
        generation, kept = stored.generation + 1, kept_after(stored.kept, revisions_max + 1)
        for gone in dropped(stored.generation, stored.kept, kept):
            batch[revision_row(entry, gone)] = None
        raws = [*newer, encode(entry, Stored(loser, stored.seq, stored.generation, 0))]
        batch.update((revision_row(entry, generation - back), raw) for back, raw in enumerate(raws, start=1))
        batch[entry] = encode(entry, msgspec.structs.replace(stored, generation=generation, kept=kept))
        return batch

    def remove(self, entry: bytes, stored: Stored, view: Reader) -> dict[bytes, bytes | None]:
        """The batch that takes a record off the disk. Who knows the change log up to an earlier number may have missed
        that it is gone."""
        self.tally.removed(stored.record)
        seq = seq_of(view, entry, stored)
        batch = removal(entry, stored, seq)
        if self.edit is not None:
            batch |= self.edit.remove(view, entry)
        if entry.startswith(DATA):
            batch[LOG_START_ROW] = encode_seq(max(seq, read_log_start(view)))
        return batch

    def discard(self, entry: bytes, stored: Stored, view: Reader) -> dict[bytes, bytes | None]:
        """The same for a record whose time is not over: that it is gone has a number of its own."""
        batch = self.remove(entry, stored, view)
        if entry.startswith(DATA):
            self.seq += 1
            batch[LOG_START_ROW] = encode_seq(self.seq)
        return batch

    def forget(self, entry: bytes, row: bytes, view: Reader) -> dict[bytes, bytes | None]:
        """The batch that takes a corrupt record off the disk, of which nothing is known but a row of the expiry or
        tombstone index. Others of its rows are found to lead nowhere; that it is gone has a number of its own."""
        self.tally.records -= 1
        self.tally.tombstones -= row.startswith(TOMBSTONES)
        batch: dict[bytes, bytes | None] = {entry: None, row: None}
        batch.update((revision, None) for revision, _ in view.scan(*revision_range(entry)))
        if self.edit is not None:
            batch |= self.edit.remove(view, entry)
        if entry.startswith(DATA):
            self.seq += 1
            batch[LOG_START_ROW] = encode_seq(self.seq)
        return batch

    def lapse(self, entry: bytes, stored: Stored) -> dict[bytes, bytes | None]:
        """The batch that gives the end of a record a number of its own in the change log."""
        self.seq += 1
        return {
            change_row(stored.seq): None,
            change_row(self.seq): entry,
            expiry_row(stored.record.expires_at, entry): encode_seq(self.seq),
        }

    def expire(self, entry: bytes, stored: Stored, view: Reader) -> dict[bytes, bytes | None]:
        """The batch that takes a record off the disk whose time is over, or leaves a tombstone in its place."""
        if self.edit is None or not must_stay_as_tombstone(stored.record):
            return self.remove(entry, stored, view)
        return self.entomb(entry, stored, view)

    def entomb(self, entry: bytes, stored: Stored, view: Reader) -> dict[bytes, bytes | None]:
        """The batch that leaves a tombstone in the place of an expired record, and nothing of its history."""
        self.tally.tombstones += 1
        seq = seq_of(view, entry, stored)
        batch = removal(entry, stored, seq)
        tombstone = entombed(stored.record)
        batch[entry] = encode(entry, Stored(tombstone, seq, stored.generation, kept=0))
        batch[change_row(seq)] = entry
        batch.update((row, b"") for row in index_rows(entry, tombstone))
        if self.edit is not None:
            self.edit.put(batch, view, entry, item_of(entry, tombstone, value_digest(b"")))
        return batch

    def versions_max(self, entry: bytes) -> int:
        """How many versions of a key are kept, the current one counted."""
        return self._versions_max if entry.startswith(DATA) else 1


def _newer(
    view: Reader, entry: bytes, stored: Stored, version: Record, revisions_max: int
) -> list[bytes | None] | None:
    """The stored bytes of the first revisions that are newer than a version, at most so many (None in place of a row
    that is missing). None if the version is one of them. What cannot be read counts as older."""
    newer: list[bytes | None] = []
    for back in range(1, min(stored.kept, revisions_max) + 1):
        try:
            raw = view.get(revision_row(entry, stored.generation - back))
            kept = None if raw is None else decode(entry, raw).record
        except StoreCorrupt:
            break
        if kept is not None and are_one(kept, version):
            return None
        if kept is not None and not decide(kept, version)[1]:
            break
        newer.append(raw)
    return newer


def _numbered_anew(batch: dict[bytes, bytes | None], entry: bytes, stored: Stored, view: Reader) -> Stored:
    """The current record has the last number: count it and its revisions from 1 again, and move these."""
    for back in range(1, stored.kept + 1):
        row = revision_row(entry, stored.generation - back)
        batch[revision_row(entry, stored.kept + 1 - back)] = view.get(row)
        batch[row] = None
    return msgspec.structs.replace(stored, generation=stored.kept + 1)
