"""`/kv/_range` and `/kv/_list`: many keys, page by page.

A page is bounded by entries, bytes and entries looked at, so a short page does not mean the end; a `next_cursor` of
null does.
"""

from collections.abc import Iterator, Mapping

import orjson
import structlog

from kvs.auth.principal import Principal
from kvs.errors import BadRequest, StoreCorrupt
from kvs.limits import (
    DELIMITER_MAX_BYTES,
    LIST_DEPTH_MAX,
    PAGE_DEFAULT_ENTRIES,
    PAGE_MAX_BYTES,
    PAGE_MAX_ENTRIES,
    PAGE_MAX_SCANNED,
)
from kvs.server import parse
from kvs.server.authorisation import may_read
from kvs.server.cursor import Cursors
from kvs.server.handlers.context import Context
from kvs.server.render import key_json, pair_json
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.storage.codec import decode
from kvs.storage.keyspace import DATA, after
from kvs.storage.record import Record, uuid_text

log = structlog.get_logger()

_HIGHEST = b"\xff"
"""Sorts behind every key that continues a prefix: UTF-8 has no such byte."""

_Seen = tuple[bytes, Record | None]
"""A key with a stored entry, and its record: None for one that is deleted, expired, corrupt or not to be read."""


class Listing:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def range(self, call: Call) -> Response:
        query = parse.query(call.request)
        prefix, limit = parse.key_text(query, "prefix"), _limit(query)
        keys_only = parse.boolean(query, "keys_only")
        start = max(parse.key_text(query, "start_key"), prefix, self._start(query))
        stop = prefix + _HIGHEST
        if "end_key" in query:
            stop = min(stop, parse.key_text(query, "end_key") + b"\0")
        page = _Page(b"pairs", limit)
        for key, record in self._scan(start, stop, call.principal):
            if page.ends_before(record):
                page.next_start = key
                break
            page.scanned += 1
            if record is not None:
                page.add(b'{"path":%b}' % key_json(key) if keys_only else pair_json(key, record))
        return page.response(self._context.cursors)

    async def list(self, call: Call) -> Response:
        query = parse.query(call.request)
        prefix, limit = parse.key_text(query, "prefix"), _limit(query)
        delimiter = parse.key_text(query, "delimiter", b"/", DELIMITER_MAX_BYTES)
        if not delimiter:
            raise BadRequest("delimiter is not empty", field="delimiter")
        depth = parse.integer(query, "depth", default=1, least=1, most=LIST_DEPTH_MAX)
        page = _Page(b"entries", limit)
        start: bytes | None = max(prefix, self._start(query))
        while start is not None:
            seen = self._scan(start, prefix + _HIGHEST, call.principal)
            start = _list_run(page, seen, len(prefix), delimiter, depth)
        return page.response(self._context.cursors)

    def _start(self, query: Mapping[str, str]) -> bytes:
        return self._context.cursors.decode(query["cursor"]) if "cursor" in query else b""

    def _scan(self, start: bytes, stop: bytes, principal: Principal) -> Iterator[_Seen]:
        """Stored entries of users' keys in start <= key < stop."""
        store, now_ms = self._context.store, self._context.now_ms()
        has_metadata = self._context.runner.has_metadata
        for entry, raw in store.scan(DATA + start, min(DATA + stop, after(DATA))):
            try:
                record = decode(entry, raw).record
                shown = record.is_live(now_ms) and may_read(
                    store, principal, entry, record, now_ms, has_metadata=has_metadata
                )
            except StoreCorrupt as error:
                log.error(
                    "A corrupt record is left out of a page", key=entry[1:].decode(errors="replace"), error=str(error)
                )
                yield entry[1:], None
            else:
                yield entry[1:], record if shown else None


class _Page:
    """A response under construction."""

    def __init__(self, name: bytes, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._items: list[bytes] = []
        self._size_bytes = 0
        self.scanned = 0
        self.next_start: bytes | None = None

    def ends_before(self, record: Record | None) -> bool:
        """Whether the next page begins with this entry. A full page first looks for something more to show: its cursor
        must not tell of keys that the reader may not read."""
        if self.scanned >= PAGE_MAX_SCANNED:
            return True
        return record is not None and (len(self._items) >= self._limit or self._size_bytes >= PAGE_MAX_BYTES)

    def add(self, item: bytes) -> None:
        self._items.append(item)
        self._size_bytes += len(item)

    def response(self, cursors: Cursors) -> Response:
        next_cursor = None if self.next_start is None else cursors.encode(self.next_start)
        body = b'{"%b":[%b],"next_cursor":%b}' % (self._name, b",".join(self._items), orjson.dumps(next_cursor))
        return Response(200, body)


def _list_run(page: "_Page", seen: Iterator[_Seen], prefix_length: int, delimiter: bytes, depth: int) -> bytes | None:
    """Add entries until a folder was added: the scan goes on behind it, at the key returned. None when the page is
    done."""
    for key, record in seen:
        if page.ends_before(record):
            page.next_start = key
            return None
        page.scanned += 1
        if record is None:
            continue
        folder = _folder(key, prefix_length, delimiter, depth)
        if folder is None:
            page.add(_entry_json(key, record))
        else:
            page.add(b'{"path":%b,"type":"prefix"}' % key_json(folder))
            return folder + _HIGHEST
    return None


def _folder(key: bytes, start: int, delimiter: bytes, depth: int) -> bytes | None:
    """The key up to and with its `depth`-th delimiter behind `start`, or None when it has fewer."""
    at = start
    for _ in range(depth):
        found = key.find(delimiter, at)
        if found < 0:
            return None
        at = found + len(delimiter)
    return key[:at]


def _entry_json(key: bytes, record: Record) -> bytes:
    entry: dict[str, object] = {
        "path": key.decode(),
        "type": "key",
        "uuid": uuid_text(record.uuid),
        "timestamp": record.timestamp,
        "content_type": record.content_type,
    }
    if record.expires_at:
        entry["expires_at"] = record.expires_at
    return orjson.dumps(entry)


def _limit(query: Mapping[str, str]) -> int:
    return parse.integer(query, "limit", default=PAGE_DEFAULT_ENTRIES, least=1, most=PAGE_MAX_ENTRIES)
