"""The order of versions as a tuple, written apart from the product's: what its verdicts are compared with."""

from typing import NamedTuple

from kvs.storage.record import Record
from kvs.storage.version import content_hash


class Precedence(NamedTuple):
    """Greater wins. Fields whose smaller value wins are stored negated or complemented."""

    timestamp: int
    counter: int
    joined_rank: int
    uuid_rank: bytes
    deleted: bool
    content_rank: bytes


def precedence(record: Record) -> Precedence:
    return Precedence(
        record.timestamp,
        record.counter,
        -(record.origin_joined or 1 << 64),
        _complement(record.uuid),
        record.deleted,
        _complement(content_hash(record)),
    )


def _complement(data: bytes) -> bytes:
    """Bytes of equal length whose order is the reverse."""
    return bytes(255 - byte for byte in data)
