"""What takes records and revisions off the disk: each function decides at one moment what may go, and builds the batch.

Records leave whole, with their rows and their item of the Merkle tree (`kvs.cluster.rows`).
"""

from kvs.cluster.events import Discard, Plan, Sweep, Swept, Trim
from kvs.cluster.rows import Rows
from kvs.storage.codec import encode
from kvs.storage.current import index_rows, read_current
from kvs.storage.keyspace import revision_range, split_moment, split_revision
from kvs.storage.retention import may_go
from kvs.storage.store import Reader


def sweep(rows: Rows, command: Sweep, view: Reader, expiry_limit_ms: int, tombstone_limit_ms: int) -> Plan:
    """What expired up to the one moment, and tombstones from before the other (Unix ms). Index rows that belong to no
    record go too."""
    batch: dict[bytes, bytes | None] = {}
    removed = 0
    for row in command.rows:
        _, entry = split_moment(row)
        current = read_current(view, entry)
        if current.stored is None or row not in index_rows(entry, current.stored.record):
            batch[row] = None
        elif may_go(current.stored.record, expiry_limit_ms=expiry_limit_ms, tombstone_limit_ms=tombstone_limit_ms):
            batch |= rows.expire(entry, current.stored, view)
            removed += 1
    return Plan(batch, Swept(removed))


def discard(rows: Rows, command: Discard, view: Reader) -> Plan:
    """Versions from before the moment of the command."""
    batch: dict[bytes, bytes | None] = {}
    for entry in dict.fromkeys(command.entries):
        stored = read_current(view, entry).stored
        if stored is not None and stored.record.timestamp < command.before_ms:
            batch |= rows.remove(entry, stored, view)
    return Plan(batch, Swept(len(batch)))


def trim(rows: Rows, command: Trim, view: Reader) -> Plan:
    """Revisions beyond those that are kept."""
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
        batch[entry] = encode(entry, stored._replace(kept=kept))
    return Plan(batch, Swept(dropped_count))
