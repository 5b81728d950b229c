"""What may leave the disk, as pure functions of a record, the time and the settings.

An expired record reads as absent from `expires_at` on, on every node alike. It leaves the disk EXPIRY_GRACE_MS later,
at the next whole EXPIRY_STEP_MS of the wall clock, again on every node by the same rule, so that nodes agree about it
without talking. Until then it is part of the Merkle tree, and other nodes get it as they get any record: one that is
filled in between holds the same as all others at once.

A tombstone must stay until no node can still bring back what it deleted: it may go when it is older than
`tombstone_retention` and below the floor, the point up to which all nodes are proven to be in sync.
"""

from kvs.limits import EXPIRY_GRACE_MS, EXPIRY_STEP_MS
from kvs.storage.codec import Indexed
from kvs.storage.record import Record


def tombstone_limit(now_ms: int, retention_ms: int, floor_ms: int) -> int:
    """Tombstones with a timestamp below this (Unix ms) may go."""
    return max(0, min(now_ms - retention_ms, floor_ms))


def expiry_limit(now_ms: int) -> int:
    """Records whose `expires_at` is at or below this (Unix ms) may go."""
    return max(0, now_ms - EXPIRY_GRACE_MS) // EXPIRY_STEP_MS * EXPIRY_STEP_MS


def must_stay_as_tombstone(record: Record) -> bool:
    """Whether an expired record turns into a tombstone when it may go, instead of vanishing: the version that it
    replaced may still be current on a node that never saw this one."""
    return not record.deleted and record.base != (0, 0)


def may_go(record: Record | Indexed, *, expiry_limit_ms: int, tombstone_limit_ms: int) -> bool:
    """Whether the current record of a key may be removed with all that belongs to it."""
    if record.deleted:
        return record.timestamp < tombstone_limit_ms
    return 0 < record.expires_at <= expiry_limit_ms
