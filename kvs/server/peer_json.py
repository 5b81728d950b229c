"""The JSON forms of what peers say about records, for tools and for people. Daemons use the binary ones.

A range's `start_key` is inclusive, its `end_key` exclusive, and an empty text is no bound. Keys of KVS's own records
begin with a slash, which no user's key does, and stand behind all of those.
"""

from base64 import b64decode
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
import orjson
from msgspec import Meta

from kvs.cluster.events import Merge
from kvs.cluster.exchange import Span
from kvs.cluster.ingest import merge_of
from kvs.cluster.merkle import FINGERPRINT_BYTES
from kvs.errors import BadMessage
from kvs.limits import DIFF_RANGES_MAX, FETCH_KEYS_MAX, PAGE_MAX_ENTRIES, PRINT_BYTES
from kvs.storage.codec import encode_record
from kvs.storage.keyspace import entry_of, path_of
from kvs.storage.record import JSON, Record, uuid_text

_Moment = Annotated[int, Meta(ge=0, lt=1 << 62)]


class RangeNode(msgspec.Struct, frozen=True):
    """A range with its fingerprint in hex. `start_key` is inclusive, `end_key` exclusive; an empty text is no bound."""

    hash: str
    start_key: str
    end_key: str

    def span(self, mark: str) -> Span:
        return Span(bound_of(self.start_key), bound_of(self.end_key), _mark(mark))


class DiffBody(msgspec.Struct, frozen=True):
    """`ranges` is the batched form, the other two the single one."""

    parent_node: RangeNode | None = None
    local_hash: str = ""
    ranges: list[RangeNode] | None = None


class DiffAsked(NamedTuple):
    spans: list[Span]
    is_batch: bool


class RangeAsked(msgspec.Struct, frozen=True):
    start_key: str = ""
    end_key: str = ""
    limit: Annotated[int, Meta(ge=1)] = FETCH_KEYS_MAX


class TimesAsked(msgspec.Struct, frozen=True):
    """Unix ms; `end_timestamp` 0 is now."""

    start_timestamp: _Moment = 0
    end_timestamp: _Moment = 0
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX_ENTRIES)] = 15
    prefix: str = ""


class SentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record as `POST /replicate` takes it."""

    path: str
    uuid: str
    timestamp: int
    counter: int = 0
    origin: str
    origin_joined: int = 0
    base: tuple[int, int] = (0, 0)
    owner: str = ""
    expires_at: int = 0
    deleted: bool = False
    content_type: str = JSON
    encoding: str = ""
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class SentRecords(msgspec.Struct, frozen=True):
    """What `POST /replicate` takes, for its description."""

    records: list[SentRecord]


class _Sent(msgspec.Struct, frozen=True):
    """The same with each record still to be decoded, by itself."""

    records: list[msgspec.Raw]


def decode(body: bytes, kind: type[Any]) -> Any:
    """Raises BadMessage."""
    try:
        # As text: of what is left to be decoded later, nobody else would see that it is none.
        return msgspec.json.decode(body.decode(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"a message is not what is expected: {error}") from None


def bound_of(key: str) -> bytes:
    """One end of a range as an entry key; empty for none."""
    try:
        return entry_of(key) if key else b""
    except UnicodeEncodeError:
        raise BadMessage("a key is not Unicode text") from None


def diff_asked(body: bytes) -> DiffAsked:
    """Raises BadMessage."""
    asked: DiffBody = decode(body, DiffBody)
    if asked.ranges is not None:
        if len(asked.ranges) > DIFF_RANGES_MAX:
            raise BadMessage(f"there are more than {DIFF_RANGES_MAX} ranges")
        spans = [node.span(node.hash) for node in asked.ranges]
    elif asked.parent_node is not None:
        spans = [asked.parent_node.span(asked.local_hash)]
    else:
        raise BadMessage("parent_node and local_hash are missing, or ranges")
    if any(span.stop and span.stop <= span.start for span in spans):
        raise BadMessage("a range ends before it begins")
    return DiffAsked(spans, asked.ranges is not None)


def node_json(start: bytes, stop: bytes, fingerprint: bytes) -> dict[str, str]:
    return {"hash": fingerprint.hex(), "start_key": bound_text(start), "end_key": bound_text(stop)}


def bound_text(bound: bytes) -> str:
    return path_of(bound) if bound else ""


def version_json(entry: bytes, record: Record) -> dict[str, object]:
    return {"path": path_of(entry), "uuid": uuid_text(record.uuid), "timestamp": record.timestamp}


def records(body: bytes) -> list[msgspec.Raw]:
    """What `POST /replicate` was sent. Raises BadMessage when it is no list of records, whatever these are."""
    sent: _Sent = decode(body, _Sent)
    if len(sent.records) > FETCH_KEYS_MAX:
        raise BadMessage(f"there are more than {FETCH_KEYS_MAX} records")
    return sent.records


def merge(raw: msgspec.Raw, source: str) -> Merge:
    """The command for one of these records, which the peer `source` sent. Raises BadMessage."""
    sent: SentRecord = decode(bytes(raw), SentRecord)
    return merge_of(bound_of(sent.path), encode_record(_record(sent)), source)


def _record(sent: SentRecord) -> Record:
    try:
        data = bytes(sent.data)
        if sent.encoding == "base64":
            data = b64decode(orjson.loads(data), validate=True)
        record = Record(
            uuid=UUID(sent.uuid).bytes,
            timestamp=sent.timestamp,
            counter=sent.counter,
            origin=sent.origin,
            origin_joined=sent.origin_joined,
            base=sent.base,
            owner=sent.owner,
            expires_at=sent.expires_at,
            deleted=sent.deleted,
            content_type=sent.content_type,
            payload=b"" if sent.deleted else data,
        )
        encode_record(record)
    except (ValueError, TypeError):
        raise BadMessage("a record has an impossible field") from None
    return record


def _mark(text: str) -> bytes:
    try:
        mark = bytes.fromhex(text)
    except ValueError:
        raise BadMessage("a hash is hexadecimal") from None
    if len(mark) > FINGERPRINT_BYTES:
        raise BadMessage("a hash is longer than any")
    return mark[:PRINT_BYTES]
