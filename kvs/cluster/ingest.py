"""What a peer sends, checked and made into commands; what this node sends.

A peer holds the cluster secret, but its disk, its memory or its version of KVS may be at fault. Nothing is taken that a
client could not have written here, with two exceptions: KVS's own records, and versions from a clock that is wrong.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import orjson

from kvs.cluster.events import Merge
from kvs.cluster.merkle import items
from kvs.errors import BadMessage, BadRequest, StoreCorrupt
from kvs.keys import check_key
from kvs.limits import ENTRY_MAX_BYTES, FETCH_KEYS_MAX, SEND_MAX_BYTES, TIMESTAMP_MAX
from kvs.storage.codec import decode, decode_record, encode_record
from kvs.storage.keyspace import DATA, SYSTEM, TIMES, after, split_time, time_row
from kvs.storage.record import JSON, Record, is_media_type, value_digest
from kvs.storage.store import Reader


def merge_of(entry: bytes, raw: bytes, source: str) -> Merge:
    """The command that takes in a record that the peer `source` sent. Raises BadMessage."""
    try:
        record = decode_record(raw)
    except StoreCorrupt as error:
        raise BadMessage(f"a record cannot be taken: {error}") from None
    return merge_of_record(entry, record, source)


def merge_of_record(entry: bytes, record: Record, source: str, *, as_of_ms: int | None = None) -> Merge:
    """The same for a record that is taken apart. `as_of_ms` is that of `Merge`. Raises BadMessage."""
    _check_entry(entry)
    try:
        data = record.data
    except StoreCorrupt as error:
        raise BadMessage(f"a record cannot be taken: {error}") from None
    if record.timestamp > TIMESTAMP_MAX or record.base > (record.timestamp, record.counter):
        raise BadMessage("a record has an impossible version")
    if not is_media_type(record.content_type):
        raise BadMessage("a record has a content type that is none")
    if record.deleted and (data or record.expires_at):
        raise BadMessage("a tombstone has a value")
    if record.content_type == JSON and not record.deleted:
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError:
            raise BadMessage("a record is said to be JSON and is not") from None
    return Merge(entry=entry, record=record, digest=value_digest(data), source=source, as_of_ms=as_of_ms)


class Limits(NamedTuple):
    """What peers get no more, as of one moment: values that have expired (`now_ms`), tombstones below
    `tombstone_limit_ms`, which every member is proven to have. Both in Unix ms."""

    now_ms: int
    tombstone_limit_ms: int


def sendable(reader: Reader, entry: bytes, limits: Limits) -> Record | None:
    """The current record if peers may have it; one that fails its checksum they may not."""
    try:
        raw = reader.get(entry)
        record = None if raw is None else decode(entry, raw).record
    except StoreCorrupt:
        return None
    if record is None:
        return None
    if record.deleted:
        return record if record.timestamp >= limits.tombstone_limit_ms else None
    return record if record.is_live(limits.now_ms) else None


def records_between(
    reader: Reader, start: bytes, stop: bytes, limits: Limits
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """What peers may have of a range, as much as one message takes, and where the rest begins (empty: no rest)."""
    found: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    for entry, _ in items(reader, start, stop):
        if len(found) == FETCH_KEYS_MAX or size_bytes > SEND_MAX_BYTES:
            return found, entry
        record = sendable(reader, entry, limits)
        if record is not None:
            found.append((entry, encode_record(record)))
            size_bytes += len(entry) + len(found[-1][1])
    return found, b""


def recent(reader: Reader, before: bytes, since_ms: int, limits: Limits) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """What peers may have, newest first, as much as one message takes, and where to go on (empty: that was all)."""
    found: list[tuple[bytes, bytes]] = []
    size_bytes, last = 0, b""
    stop = TIMES + before if before else after(TIMES)
    for looked, (row, _) in enumerate(reader.scan(time_row(max(0, since_ms), 0, b""), stop, backwards=True)):
        if looked == FETCH_KEYS_MAX or size_bytes > SEND_MAX_BYTES:
            return found, last
        last = row[1:]
        _, entry = split_time(row)
        record = sendable(reader, entry, limits)
        if record is not None:
            found.append((entry, encode_record(record)))
            size_bytes += len(entry) + len(found[-1][1])
    return found, b""


def fetched(
    reader: Reader, wanted: Iterable[tuple[bytes, tuple[int, int]]], limits: Limits
) -> tuple[int, list[tuple[int, bytes]]]:
    """How many of the wanted keys were looked at, and the records that are not older than what the asker holds."""
    found: list[tuple[int, bytes]] = []
    place = size_bytes = 0
    for place, (entry, version) in enumerate(wanted, 1):
        record = sendable(reader, entry, limits)
        if record is not None and (record.timestamp, record.counter) >= version:
            found.append((place - 1, encode_record(record)))
            size_bytes += len(found[-1][1])
            if size_bytes > SEND_MAX_BYTES:
                break
    return place, found


def in_messages(records: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """The records in portions that one message takes."""
    portion: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    for entry, raw in records:
        portion.append((entry, raw))
        size_bytes += len(entry) + len(raw)
        if len(portion) == FETCH_KEYS_MAX or size_bytes > SEND_MAX_BYTES:
            yield portion
            portion, size_bytes = [], 0
    if portion:
        yield portion


def _check_entry(entry: bytes) -> None:
    if entry.startswith(DATA):
        try:
            check_key(entry[1:])
        except BadRequest as error:
            raise BadMessage(f"a record has a key that is none: {error.detail}") from None
    elif not (entry.startswith(SYSTEM) and 1 < len(entry) <= ENTRY_MAX_BYTES):
        raise BadMessage("a record has a key of an unknown kind")
