"""Records as JSON. Stored JSON is spliced in as it is, byte for byte; a blob goes in as base64."""

from base64 import b64encode
from email.utils import formatdate
from functools import lru_cache

import orjson

from kvs.storage.record import JSON, Record, uuid_text

_LAST_DATE_S = 253_402_300_799


def version_fields(record: Record, tag: str) -> bytes:
    """The header fields that name a version. `tag` is the uuid in its usual form."""
    return b'ETag: "%b"\r\nX-KVS-Timestamp: %d\r\nLast-Modified: %b\r\n' % (
        tag.encode(),
        record.timestamp,
        _http_date(record.timestamp // 1000),
    )


@lru_cache(maxsize=1024)
def _http_date(unix_s: int) -> bytes:
    """Peers bring versions from beyond the year 9999, where dates end."""
    return formatdate(min(unix_s, _LAST_DATE_S), usegmt=True).encode()


def version_json(record: Record, tag: str) -> bytes:
    """`{"uuid", "timestamp"}`: what a writer is told."""
    return b'{"uuid":"%b","timestamp":%d}' % (tag.encode(), record.timestamp)


def value_json(record: Record, tag: str) -> bytes:
    """`{"uuid", "timestamp", "data"}`, with `expires_at` when there is one. A blob's data are base64, and it says so;
    a tombstone's are null."""
    return b'{"uuid":"%b","timestamp":%d%b}' % (tag.encode(), record.timestamp, _rest(record))


def revision_json(number: int, record: Record) -> bytes:
    """A record as an entry of a history."""
    tag = uuid_text(record.uuid).encode()
    return b'{"revision":%d,"uuid":"%b","timestamp":%d%b}' % (number, tag, record.timestamp, _rest(record))


def pair_json(key: bytes, record: Record) -> bytes:
    """A record as an entry of a range."""
    return b'{"path":%b,"stored_value":%b}' % (key_json(key), value_json(record, uuid_text(record.uuid)))


def event_json(key: bytes, record: Record, *, has_value: bool) -> bytes:
    """A change of a key for those who watch it."""
    ends = b',"expires_at":%d' % record.expires_at if record.expires_at else b""
    rest = _rest(record) if has_value else ends
    tag = uuid_text(record.uuid).encode()
    return b'{"path":%b,"uuid":"%b","timestamp":%d%b}' % (key_json(key), tag, record.timestamp, rest)


def key_json(key: bytes) -> bytes:
    return orjson.dumps(key.decode())


def _rest(record: Record) -> bytes:
    expires = b',"expires_at":%d' % record.expires_at if record.expires_at else b""
    if record.deleted:
        return b',"deleted":true,"data":null'
    if record.content_type == JSON:
        return b'%b,"data":%b' % (expires, record.data)
    content_type = orjson.dumps(record.content_type)
    return b'%b,"content_type":%b,"encoding":"base64","data":"%b"' % (expires, content_type, b64encode(record.data))
