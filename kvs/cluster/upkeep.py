"""Plans of background work: what is over is noted, leaves the disk, or is set aside. Pure, as `Node` is."""

from collections.abc import Callable, Iterable

import msgspec

from kvs.cluster.events import Discard, Ended, Lapse, Plan, Report, Sweep, Swept, Trim
from kvs.cluster.rows import Rows
from kvs.cluster.superseded import Superseded
from kvs.errors import StoreCorrupt
from kvs.storage.batch import Overlay
from kvs.storage.codec import Indexed, Stored, encode
from kvs.storage.current import index_rows, read_current
from kvs.storage.keyspace import (
    DATA,
    SUPERSEDED,
    TOMBSTONES,
    expiry_row,
    revision_range,
    split_moment,
    split_revision,
    superseded_row,
)
from kvs.storage.retention import expiry_limit, may_go
from kvs.storage.store import Reader

Step = Callable[[bytes, Overlay], tuple[int, list[Ended]]]
"""Does its part for a row or an entry. Gives how many entries it removed, or ends it noted, and which ended."""


def _each(rows: Rows, todo: Iterable[bytes], view: Reader, step: Step) -> Plan:
    """One after the other. One for which a row cannot be read is left for another time, and does not keep the others
    from it."""
    done = Overlay(view)
    count = 0
    ended: list[Ended] = []
    reports: list[Report] = []
    for what in todo:
        before, part = rows.mark(), Overlay(done)
        try:
            entries, ends = step(what, part)
        except StoreCorrupt as error:
            rows.undo(before)
            reports.append(Report("Corrupt record found", {"error": str(error)}))
        else:
            done.write(part.batch)
            count += entries
            ended += ends
    return Plan(done.batch, Swept(count), tuple(reports), ended=tuple(ended))


def lapse(rows: Rows, command: Lapse, view: Reader, now_ms: int) -> Plan:
    """Give ends of users' values a place in the change log, each once."""

    def step(row: bytes, noted: Overlay) -> tuple[int, list[Ended]]:
        expires_at, entry = split_moment(row)
        stored = read_current(noted, entry).stored
        is_over = stored is not None and stored.record.expires_at == expires_at <= now_ms
        ended = _end(rows, entry, stored, noted) if stored is not None and is_over else []
        return len(ended), ended

    return _each(rows, command.rows, view, step)


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
    """Take off the disk what may go, also where it is corrupt. Who watches hears of the end of a value here, if he has
    not yet."""

    def step(row: bytes, gone: Overlay) -> tuple[int, list[Ended]]:
        if row.startswith(SUPERSEDED):
            raw = gone.get(row)
            if raw is None or superseded.is_needed(raw):
                return 0, []
            gone.write({row: None})
            return 1, []
        _, entry = split_moment(row)
        current = read_current(gone, entry)
        stored = current.stored
        if not current.is_corrupt and (stored is None or row not in index_rows(entry, stored.record)):
            gone.write({row: None})
            return 0, []
        record = _by_its_row(row) if stored is None else stored.record
        if not may_go(record, expiry_limit_ms=expiry_limit(now_ms), tombstone_limit_ms=tombstone_limit_ms):
            return 0, []
        ended = [] if stored is None or record.deleted else _end(rows, entry, stored, gone)
        batch = rows.forget(entry, row, gone) if stored is None else rows.expire(entry, stored, gone)
        if record.deleted:
            superseded.note(batch, entry, record)
        gone.write(batch)
        return 1, ended

    return _each(rows, command.rows, view, step)


def _by_its_row(row: bytes) -> Indexed:
    """What a row of the expiry or tombstone index says of a record that is corrupt."""
    moment_ms, _ = split_moment(row)
    is_tombstone = row.startswith(TOMBSTONES)
    return Indexed(
        seq=0,
        timestamp=moment_ms if is_tombstone else 0,
        counter=0,
        expires_at=0 if is_tombstone else moment_ms,
        deleted=is_tombstone,
    )


def discard(rows: Rows, command: Discard, view: Reader) -> Plan:
    """Take records off the disk as if they had never been there. To readers they are deleted. An older version that a
    peer brings is not, for all that is known here."""

    def step(entry: bytes, gone: Overlay) -> tuple[int, list[Ended]]:
        stored = read_current(gone, entry).stored
        if stored is None or stored.record.timestamp >= command.before_ms:
            return 0, []
        gone.write(rows.discard(entry, stored, gone))
        if gone.get(superseded_row(entry)) is not None:
            gone.write({superseded_row(entry): None})
        return 1, [Ended(entry, stored.record, rows.seq, expired=False)] if entry.startswith(DATA) else []

    return _each(rows, command.entries, view, step)


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
