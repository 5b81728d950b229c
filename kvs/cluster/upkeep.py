"""Plans of background work: what is over is noted, leaves the disk, or is set aside. Pure, as `Node` is."""

import msgspec

from kvs.cluster.events import Discard, Ended, Lapse, Plan, Sweep, Swept, Trim
from kvs.cluster.rows import Rows
from kvs.cluster.superseded import Superseded
from kvs.storage.batch import Overlay
from kvs.storage.codec import Stored, encode
from kvs.storage.current import index_rows, read_current
from kvs.storage.keyspace import (
    DATA,
    SUPERSEDED,
    expiry_row,
    revision_range,
    split_moment,
    split_revision,
    superseded_row,
)
from kvs.storage.retention import expiry_limit, may_go
from kvs.storage.store import Reader


def lapse(rows: Rows, command: Lapse, view: Reader, now_ms: int) -> Plan:
    """Give ends of users' values a place in the change log, each once."""
    noted = Overlay(view)
    ended: list[Ended] = []
    for row in command.rows:
        expires_at, entry = split_moment(row)
        stored = read_current(noted, entry).stored
        if stored is not None and stored.record.expires_at == expires_at <= now_ms:
            ended += _end(rows, entry, stored, noted)
    return Plan(noted.batch, Swept(len(ended)), ended=tuple(ended))


def _end(rows: Rows, entry: bytes, stored: Stored, noted: Overlay) -> list[Ended]:
    """Give the end of a user's value a place in the change log, unless it has one."""
    if not entry.startswith(DATA) or noted.get(expiry_row(stored.record.expires_at, entry)):
        return []
    noted.write(rows.lapse(entry, stored))
    return [Ended(entry, stored.record, rows.seq, expired=True)]


def entomb(rows: Rows, entry: bytes, stored: Stored, view: Reader) -> Plan:
    """Another node says that an expired record is a tombstone now: do what the next sweep here would do."""
    gone = Overlay(view)
    ended = _end(rows, entry, stored, gone)
    gone.write(rows.entomb(entry, stored, gone))
    return Plan(gone.batch, Swept(1), ended=tuple(ended))


def sweep(
    rows: Rows, superseded: Superseded, command: Sweep, view: Reader, now_ms: int, tombstone_limit_ms: int
) -> Plan:
    """Take off the disk what may go. Who watches hears of the end of a value here, if he has not yet."""
    gone = Overlay(view)
    ended: list[Ended] = []
    removed = 0
    for row in command.rows:
        if row.startswith(SUPERSEDED):
            raw = gone.get(row)
            if raw is not None and not superseded.is_needed(raw):
                gone.write({row: None})
                removed += 1
            continue
        _, entry = split_moment(row)
        stored = read_current(gone, entry).stored
        if stored is None or row not in index_rows(entry, stored.record):
            gone.write({row: None})
        elif may_go(stored.record, expiry_limit_ms=expiry_limit(now_ms), tombstone_limit_ms=tombstone_limit_ms):
            if not stored.record.deleted:
                ended += _end(rows, entry, stored, gone)
            batch = rows.expire(entry, stored, gone)
            if stored.record.deleted:
                superseded.note(batch, entry, stored.record)
            gone.write(batch)
            removed += 1
    return Plan(gone.batch, Swept(removed), ended=tuple(ended))


def discard(rows: Rows, command: Discard, view: Reader) -> Plan:
    """Take records off the disk as if they had never been there. To readers they are deleted. An older version that a
    peer brings is not, for all that is known here."""
    gone = Overlay(view)
    ended: list[Ended] = []
    for entry in command.entries:
        stored = read_current(gone, entry).stored
        if stored is None or stored.record.timestamp >= command.before_ms:
            continue
        gone.write(rows.discard(entry, stored, gone))
        if gone.get(superseded_row(entry)) is not None:
            gone.write({superseded_row(entry): None})
        if entry.startswith(DATA):
            ended.append(Ended(entry, stored.record, rows.seq, expired=False))
    return Plan(gone.batch, Swept(len(gone.batch)), ended=tuple(ended))


def trim(rows: Rows, command: Trim, view: Reader) -> Plan:
    """Drop the revisions of an entry that are more than the settings keep."""
    entry = command.entry
    stored = read_current(view, entry).stored
    kept = 0 if stored is None else min(stored.kept, rows.versions_max(entry) - 1)
    oldest = 0 if stored is None else stored.generation - kept
    batch: dict[bytes, bytes | None] = {
        row: None
        for row, _ in view.scan(*revision_range(entry))
        if stored is None or not oldest <= split_revision(row)[1] < stored.generation
    }
    dropped_count = len(batch)
    if stored is not None and kept < stored.kept:
        batch[entry] = encode(entry, msgspec.structs.replace(stored, kept=kept))
    return Plan(batch, Swept(dropped_count))
