"""The total order of versions: which of two records of one key wins.

The rules, in this order:

1. the greater (timestamp, counter): newest data wins;
2. the smaller `origin_joined`: the record of the node that joined the cluster first; 0 means unknown, counts as latest;
3. the smaller uuid;
4. a tombstone over a value, then the smaller content hash (only a cloned node can come this far).

`Precedence` is a tuple that sorts by these rules, so the winner is a plain `max`. Because the order is total and a
merge is a `max`, merging is commutative, associative and idempotent, and all nodes agree whatever arrives in which
order.
"""

from hashlib import blake2b
from typing import NamedTuple

from kvs.storage.record import Record

UNKNOWN_JOINED = 0
_LATEST_JOINED = 1 << 64
_COMPLEMENTS = bytes(range(255, -1, -1))


class Precedence(NamedTuple):
    """Greater wins. Fields whose smaller value wins are stored negated or complemented."""

    timestamp: int
    counter: int
    joined_rank: int
    uuid_rank: bytes
    deleted: bool
    content_rank: bytes


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


def precedence(record: Record) -> Precedence:
    joined = record.origin_joined if record.origin_joined != UNKNOWN_JOINED else _LATEST_JOINED
    return Precedence(
        record.timestamp,
        record.counter,
        -joined,
        _complement(record.uuid),
        record.deleted,
        _complement(content_hash(record)),
    )


def winner(a: Record, b: Record) -> Record:
    """The record that every node keeps when it knows both. For equal records it is `a`."""
    if (a.timestamp, a.counter) != (b.timestamp, b.counter):
        return a if (a.timestamp, a.counter) > (b.timestamp, b.counter) else b
    return a if precedence(a) >= precedence(b) else b


def _complement(data: bytes) -> bytes:
    """Bytes of equal length whose order is the reverse."""
    return data.translate(_COMPLEMENTS)
