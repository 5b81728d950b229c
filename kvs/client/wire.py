"""What nodes answer, taken apart without touching the bytes of values."""

from base64 import b64decode
from typing import TypeVar

import msgspec

from kvs.client.errors import ProtocolError
from kvs.client.model import JSON, Value

JSON_SPACE = b" \t\r\n"
_DATA = b'"data":'


class WireValue(msgspec.Struct, kw_only=True):
    """A value wherever one stands inside JSON. `path` is set by the caller where it does not stand there."""

    uuid: str
    timestamp: int
    data: msgspec.Raw = msgspec.Raw()
    path: str = ""
    expires_at: int | None = None
    content_type: str = JSON
    encoding: str = "json"
    deleted: bool = False
    revision: int = 0

    def value(self, path: str = "") -> Value:
        raw = bytes(self.data)
        if self.encoding == "base64":
            raw = b64decode(msgspec.json.decode(raw, type=str))
        return Value(path or self.path, self.uuid, self.timestamp, raw, self.content_type, self.expires_at)


def exact(value: Value, envelope: bytes) -> Value:
    """A value with all bytes that were stored: `data` is the last member of its envelope, and the white space around a
    document stands around it there too."""
    if not value.is_json:
        return value
    whole = envelope[envelope.find(_DATA) + len(_DATA) : -1]
    if whole == value.raw or whole.strip(JSON_SPACE) != value.raw:
        return value
    return msgspec.structs.replace(value, raw=whole)


def stands_on_a_line(raw: bytes) -> bool:
    """Whether a document can stand on a line among others, with nothing around it that would be lost."""
    return 0 < len(raw) == len(raw.strip(JSON_SPACE)) and b"\n" not in raw and b"\r" not in raw


class WireEntry(msgspec.Struct):
    path: str
    type: str
    uuid: str = ""
    timestamp: int = 0
    content_type: str = ""
    expires_at: int | None = None


class WireUuid(msgspec.Struct):
    uuid: str


class WireResult(msgspec.Struct):
    status: int
    uuid: str = ""
    timestamp: int = 0


class WireBulk(msgspec.Struct):
    results: list[msgspec.Raw]


class WirePair(msgspec.Struct):
    path: str
    stored_value: msgspec.Raw

    def value(self, url: str) -> Value:
        """Raises ProtocolError."""
        raw = bytes(self.stored_value)
        return exact(decode(raw, WireValue, url).value(self.path), raw)


class WireRange(msgspec.Struct):
    pairs: list[WirePair]


class WireCursor(msgspec.Struct):
    """Of any page: the rest of it is passed over. Only a cursor of null is the end."""

    next_cursor: str | None


class WireWritten(msgspec.Struct):
    uuid: str
    timestamp: int
    replicated: int | None = None


T = TypeVar("T")


def convert(item: object, kind: type[T]) -> T:
    """One item of a page. Raises ProtocolError."""
    try:
        return msgspec.convert(item, kind)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"what answers is no node of KVS: {error}") from None


def decode(raw: bytes | msgspec.Raw, kind: type[T], url: str) -> T:
    """Raises ProtocolError."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ProtocolError(f"{url} did not answer as a node of KVS does: {error}") from None
