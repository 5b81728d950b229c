"""What a peer sends, checked and made into commands; what this node sends.

A peer holds the cluster secret, but its disk, its memory or its version of KVS may be at fault. Nothing is taken that a
client could not have written here, with two exceptions: KVS's own records, and versions from a clock that is wrong.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import orjson

from kvs.cluster.events import Merge
from kvs.cluster.merkle import items
from kvs.errors import BadMessage, BadRequest, StoreCorrupt
from kvs.keys import check_key
from kvs.limits import (
    DECOMPRESSED_MAX_BYTES,
    ENTRY_MAX_BYTES,
    FETCH_KEYS_MAX,
    NODE_ID_MAX_BYTES,
    SEND_MAX_BYTES,
    TIMESTAMP_MAX,
)
from kvs.storage.codec import decode, decode_record, record_bytes, value_bytes
from kvs.storage.compression import RAW
from kvs.storage.keyspace import DATA, SYSTEM, TIMES, after, split_time, time_row
from kvs.storage.record import JSON, Record, is_media_type, value_digest
from kvs.storage.store import Reader

_NODE_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{NODE_ID_MAX_BYTES}}}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def merge_of(entry: bytes, raw: bytes, source: str, *, as_of_ms: int | None = None) -> Merge:
    """The command that takes in a record that the peer `source` sent. `as_of_ms` is that of `Merge`. Raises
    BadMessage."""
    _check_entry(entry)
    try:
        record = decode_record(raw)
        data = record.data
    except StoreCorrupt as error:
        raise BadMessage(f"a record cannot be taken: {error}") from None
    _check_fields(record)
    if len(data) > DECOMPRESSED_MAX_BYTES or (record.codec != RAW and len(record.payload) >= len(data)):
        raise BadMessage("a record has a value that is too large, or is packed so that it gets larger")
    if record.content_type == JSON and not record.deleted:
        try:
            orjson.loads(data)
        except orjson.JSONDecodeError:
            raise BadMessage("a record is said to be JSON and is not") from None
    return Merge(entry=entry, record=record, raw=raw, digest=value_digest(data), source=source, as_of_ms=as_of_ms)


class Brought(NamedTuple):
    """What can be taken of a peer's records, how many cannot, and why the first of those cannot."""

    commands: list[Merge]
    refused: int
    reason: str


def merges_of(records: Iterable[tuple[bytes, bytes]], source: str) -> Brought:
    """As `merge_of`, for many: one that cannot be taken does not keep the others out."""
    commands: list[Merge] = []
    refused, reason = 0, ""
    for entry, raw in records:
        try:
            commands.append(merge_of(entry, raw, source))
        except BadMessage as error:
            refused, reason = refused + 1, reason or error.detail
    return Brought(commands, refused, reason)


class Limits(NamedTuple):
    """As of one moment (`now_ms`): tombstones below `tombstone_limit_ms`, which every member is proven to have, are
    what peers get no more. Both in Unix ms."""

    now_ms: int
    tombstone_limit_ms: int


def sendable(reader: Reader, entry: bytes, limits: Limits) -> Record | None:
    """The current record if peers may have it; one that fails its checksum they may not.

    A value that has expired is sent until it leaves the disk (see `kvs.storage.retention`): till then it is in the
    tree, and holds off older versions that a peer may still have.
    """
    found = _sendable(reader, entry, limits)
    return None if found is None else found[0]


def _sendable(reader: Reader, entry: bytes, limits: Limits) -> tuple[Record, bytes] | None:
    """The same, and its `encode_record`."""
    try:
        raw = reader.get(entry)
        if raw is None:
            return None
        record = decode(entry, raw).record
    except StoreCorrupt:
        return None
    may_be_sent = not record.deleted or record.timestamp >= limits.tombstone_limit_ms
    return (record, record_bytes(raw)) if may_be_sent else None


def records_between(
    reader: Reader, start: bytes, stop: bytes, limits: Limits
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """What peers may have of a range, as much as one message takes, and where the rest begins (empty: no rest)."""
    found: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    for entry, _ in items(reader, start, stop):
        if len(found) == FETCH_KEYS_MAX or size_bytes > SEND_MAX_BYTES:
            return found, entry
        sent = _sendable(reader, entry, limits)
        if sent is not None:
            found.append((entry, sent[1]))
            size_bytes += len(entry) + value_bytes(sent[1])
    return found, b""


def recent(reader: Reader, before: bytes, since_ms: int, limits: Limits) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """What peers may have, as much as one message takes, and where to go on (empty: that was all). KVS's own records
    come first, whatever their age, or values would be there before the permissions that keep them from others; then
    those of users, newest first."""
    found: list[tuple[bytes, bytes]] = []
    size_bytes, last = 0, b""
    for looked, (place, entry) in enumerate(_from_own_to_oldest(reader, before, since_ms)):
        if looked == FETCH_KEYS_MAX or size_bytes > SEND_MAX_BYTES:
            return found, last
        last = place
        sent = _sendable(reader, entry, limits)
        if sent is not None:
            found.append((entry, sent[1]))
            size_bytes += len(entry) + value_bytes(sent[1])
    return found, b""


_OWN = b"\xff"
"""Begins the place of a record of KVS's own: behind all rows of the time index, which begin with a time."""


def _from_own_to_oldest(reader: Reader, before: bytes, since_ms: int) -> Iterator[tuple[bytes, bytes]]:
    """Places, each less than the one before it, and the entry keys there."""
    if not before or before.startswith(_OWN):
        stop = before.removeprefix(_OWN) or after(SYSTEM)
        yield from ((_OWN + entry, entry) for entry, _ in reader.scan(SYSTEM, stop, backwards=True))
        before = b""
    stop = TIMES + before if before else after(TIMES)
    for row, _ in reader.scan(time_row(max(0, since_ms), 0, b""), stop, backwards=True):
        _, entry = split_time(row)
        if not entry.startswith(SYSTEM):
            yield row[1:], entry


def fetched(
    reader: Reader, wanted: Iterable[tuple[bytes, tuple[int, int]]], limits: Limits
) -> tuple[int, list[tuple[int, bytes]]]:
    """How many of the wanted keys were looked at, and the records that are not older than what the asker holds."""
    found: list[tuple[int, bytes]] = []
    place = size_bytes = 0
    for place, (entry, version) in enumerate(wanted, 1):
        sent = _sendable(reader, entry, limits)
        if sent is not None and (sent[0].timestamp, sent[0].counter) >= version:
            found.append((place - 1, sent[1]))
            size_bytes += value_bytes(sent[1])
            if size_bytes > SEND_MAX_BYTES:
                break
    return place, found


def in_messages(records: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """The records in portions that one message takes."""
    portion: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    for entry, raw in records:
        portion.append((entry, raw))
        size_bytes += len(entry) + value_bytes(raw)
        if len(portion) == FETCH_KEYS_MAX or size_bytes > SEND_MAX_BYTES:
            yield portion
            portion, size_bytes = [], 0
    if portion:
        yield portion


def _check_fields(record: Record) -> None:
    if record.timestamp > TIMESTAMP_MAX or record.base > (record.timestamp, record.counter):
        raise BadMessage("a record has an impossible version")
    if record.expires_at > TIMESTAMP_MAX:
        raise BadMessage("a record ends later than any can")
    if not _is_node_id(record.origin):
        raise BadMessage("a record is of an origin that is no node")
    if record.owner and _UUID.fullmatch(record.owner) is None:
        raise BadMessage("a record is of an owner that is no user")
    if record.content_type != JSON and not is_media_type(record.content_type):
        raise BadMessage("a record has a content type that is none")
    if record.deleted and (record.payload or record.expires_at or record.content_type != JSON):
        raise BadMessage("a tombstone has a value")


@lru_cache(1_024)
def _is_node_id(text: str) -> bool:
    return _NODE_ID.fullmatch(text) is not None


def _check_entry(entry: bytes) -> None:
    if entry.startswith(DATA):
        try:
            check_key(entry[1:])
        except BadRequest as error:
            raise BadMessage(f"a record has a key that is none: {error.detail}") from None
    elif not (entry.startswith(SYSTEM) and 1 < len(entry) <= ENTRY_MAX_BYTES):
        raise BadMessage("a record has a key of an unknown kind")
