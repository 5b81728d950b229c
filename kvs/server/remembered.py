"""What requests come to again and again, remembered where it is small: keys as paths name them, values as read.

A value goes by the bytes on the disk and the key that they stand under, not by the key alone: bytes whose checksum was
verified once are the same bytes, and others are decoded. So nothing has to be forgotten when a key is written, and a
read still finds every flipped bit.
"""

from functools import lru_cache
from typing import NamedTuple

from kvs.limits import KEY_REMEMBERED_MAX_CHARS, KEYS_REMEMBERED_MAX, SHOWN_MAX_BYTES, SHOWN_MAX_ENTRIES
from kvs.server.parse import parse_key
from kvs.server.render import value_json, version_fields
from kvs.storage.codec import decode
from kvs.storage.compression import RAW
from kvs.storage.keyspace import data_key
from kvs.storage.record import JSON, Record, uuid_text


class Shown(NamedTuple):
    """A record, its uuid as text, the header fields that name this version, and the body of its answer, empty where it
    is still to be made: of a blob, and of a value that is packed, which may be a thousand times larger than that."""

    record: Record
    tag: str
    fields: bytes
    body: bytes


def requested_entry(raw: str) -> bytes:
    """The entry key behind the raw rest of a path. Raises BadRequest."""
    return _known_entry(raw) if len(raw) <= KEY_REMEMBERED_MAX_CHARS and raw.isascii() else _entry(raw)


def shown(entry: bytes, raw: bytes) -> Shown:
    """What `raw` under the entry key `entry` is. Raises StoreCorrupt."""
    return _known_value(entry, raw) if len(entry) + len(raw) <= SHOWN_MAX_BYTES else _shown(entry, raw)


def _entry(raw: str) -> bytes:
    return data_key(parse_key(raw))


def _shown(entry: bytes, raw: bytes) -> Shown:
    record = decode(entry, raw).record
    tag = uuid_text(record.uuid)
    body = value_json(record, tag) if record.content_type == JSON and record.codec == RAW else b""
    return Shown(record, tag, version_fields(record, tag), body)


_known_entry = lru_cache(maxsize=KEYS_REMEMBERED_MAX)(_entry)
_known_value = lru_cache(maxsize=SHOWN_MAX_ENTRIES)(_shown)
