"""The total order of versions: which of two records of one key wins.

The rules, in this order:

1. the greater (timestamp, counter): newest data wins;
2. the smaller `origin_joined`: the record of the node that joined the cluster first; 0 means unknown, counts as latest;
3. the smaller uuid;
4. a tombstone over a value, then the smaller content hash (only a cloned node can come this far).

Because the order is total and a merge keeps the winner, merging is commutative, associative and idempotent, and all
nodes agree whatever arrives in which order.
"""

from hashlib import blake2b
from typing import Literal

from kvs.storage.record import Record

UNKNOWN_JOINED = 0
_LATEST_JOINED = 1 << 64

Rule = Literal["timestamp", "joined", "uuid", "content", ""]
"""What tells two records of a key apart; empty where nothing does."""


def content_hash(record: Record) -> bytes:
    """BLAKE2b-256 of everything about the value that a reader can see, whatever codec stores it.

    `origin`, `owner` and `base` are part of it: two records that differ only there must not count as equal.
    """
    digest = blake2b(digest_size=32)
    for part in (record.origin.encode(), record.owner.encode(), record.content_type.encode(), record.data):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    for number in (record.expires_at, *record.base):
        digest.update(number.to_bytes(8, "big"))
    return digest.digest()


def decide(a: Record, b: Record) -> tuple[Rule, bool]:
    """Which rule tells two records of one key apart, and whether `a` wins by it. Values, which may be large, and
    compressed, are looked at only where nothing else decides."""
    mine, theirs = (a.timestamp, a.counter), (b.timestamp, b.counter)
    if mine != theirs:
        return "timestamp", mine > theirs
    if a.origin_joined != b.origin_joined:
        return "joined", _joined(a) < _joined(b)
    if a.uuid != b.uuid:
        return "uuid", a.uuid < b.uuid
    if a.deleted != b.deleted:
        return "content", a.deleted
    if a == b:
        return "", False
    content, other = content_hash(a), content_hash(b)
    return ("content", content < other) if content != other else ("", False)


def _joined(record: Record) -> int:
    return record.origin_joined if record.origin_joined != UNKNOWN_JOINED else _LATEST_JOINED
