"""`AsyncClient`: everything a node offers to programs, on asyncio."""

import re
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec
import orjson

from kvs import errors as node_errors
from kvs.client.accounts import KEEP, Accounts
from kvs.client.errors import BadRequestError, NotFoundError, ProtocolError, UnsendableError
from kvs.client.http import Answer, Http
from kvs.client.model import (
    JSON,
    OCTETS,
    BulkDelete,
    BulkPut,
    BulkResult,
    Duration,
    Entry,
    Event,
    Metadata,
    Revision,
    Value,
    Version,
    duration_text,
)
from kvs.client.paging import paged
from kvs.client.sendable import json_bytes, query_text
from kvs.client.snapshot import changes_since, position_of
from kvs.client.watching import Tell, follow
from kvs.client.wire import (
    WireBulk,
    WireEntry,
    WireRange,
    WireResult,
    WireValue,
    WireWritten,
    convert,
    decode,
    exact,
    stands_on_a_line,
)
from kvs.client.writes import Made, Write, make
from kvs.durations import parse_duration
from kvs.keys import check_key

_PAGE = 1_000


class AsyncClient(Accounts):
    """One program's way to a node, or to several nodes of one cluster.

    With several URLs the client stays with one node as long as that answers, and goes to another one when it does not.
    What may be repeated is tried again for `retry_s` seconds. A write is made once: see `kvs.client.writes`. Methods
    raise `ClientError`s; to be used on one event loop, and closed (`async with`, or `close`).
    """

    def __init__(
        self,
        *urls: str,
        token: str = "",
        ca_file: str | Path | None = None,
        timeout_s: float = 10.0,
        retry_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`ca_file` holds the certificates that those of nodes may be signed by, instead of what the system believes;
        `ssl_context` decides all of that, and what certificate is shown. `timeout_s` is for one request to one node.
        Raises ValueError for what is no URL of a node, OSError for a file that cannot be used."""
        if ssl_context is None and ca_file is not None:
            ssl_context = ssl.create_default_context(cafile=ca_file)
            ssl_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._http = Http(urls, headers=headers or {}, ssl_context=ssl_context, timeout_s=timeout_s, retry_s=retry_s)
        if token:
            self._http.authorize(f"Bearer {token}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. May be called twice; a later request opens new ones."""
        await self._http.close()

    # --- one value ---

    async def get(self, path: str) -> Value:
        """The value under a key. Raises NotFoundError."""
        answer = await self._http.request("GET", key_target(path), repeatable=True)
        if not answer.etag:
            raise ProtocolError(f"what answers at {answer.url} is no node of KVS")
        if answer.headers.get("Content-Type", "") == JSON:
            return exact(decode(answer.body, WireValue, answer.url).value(path), answer.body)
        return Value(
            path,
            answer.etag,
            int(answer.headers.get("X-KVS-Timestamp", "0")),
            answer.body,
            answer.headers.get("Content-Type", OCTETS),
        )

    async def find(self, path: str) -> Value | None:
        """The value under a key, None if there is none."""
        try:
            return await self.get(path)
        except NotFoundError as error:
            if error.code != "not_found":
                raise
            return None

    async def put(
        self,
        path: str,
        value: Any,
        *,
        content_type: str | None = None,
        ttl: Duration | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        w: int | None = None,
        w_timeout: Duration | None = None,
    ) -> Version:
        """Store a value: bytes as a blob of `content_type`, anything else as a JSON document. Bytes with the content
        type `application/json` are a document, kept byte for byte.

        `if_match` is the uuid of the version that it may replace, `if_none_match="*"` lets it only make a new one; else
        PreconditionFailedError. With `w` the answer comes when so many nodes have it, or after `w_timeout` with
        `replicated` in the version. A document with exactly the members `data` and `ttl` lives for ever without a
        `ttl`, whatever the node's default is.
        """
        raw, kind = encode_value(value, content_type)
        query = {"ttl": duration_text(ttl)} if ttl is not None else {}
        body = raw
        if kind == JSON and is_ttl_form(raw):
            # A node would take it for a value with a time to live: so it becomes the value of one.
            body, query = b'{"data":%b,"ttl":%b}' % (raw, json_bytes(query.get("ttl", "0"))), {}
        patience_s = 0.0
        if w is not None:
            query["w"] = str(w)
            query["timeout"] = "5s" if w_timeout is None else duration_text(w_timeout)
            patience_s = _seconds(query["timeout"])
        target = key_target(path) + (f"?{query_text(query)}" if query else "")
        write = Write(target, history_target(path), body, kind, if_match, if_none_match, patience_s, raw)
        return _version(await make(self._http, write), w)

    async def delete(self, path: str, *, if_match: str | None = None, if_none_match: str | None = None) -> None:
        """Raises NotFoundError when there is no value."""
        await make(self._http, Write(key_target(path), history_target(path), None, JSON, if_match, if_none_match))

    # --- many values ---

    def range(
        self, prefix: str = "", *, start: str = "", end: str | None = None, page: int = 100, at: str = ""
    ) -> AsyncGenerator[Value, None]:
        """Values in key order, from `start` to `end`, both included, `page` in one request, of the node `at` this URL
        if one is named. Not one moment's state: what is written meanwhile may be seen or not."""
        query = {"prefix": prefix, "start_key": start, "limit": str(page)}
        if end is not None:
            query["end_key"] = end
        return paged(partial(self._page, "/kv/_range", query, at), _values)

    async def list(self, prefix: str = "", *, delimiter: str = "/", depth: int = 1) -> AsyncGenerator[Entry, None]:
        """One level of the hierarchy below `prefix`, or several: keys, and the prefixes that have more below them."""
        query = {"prefix": prefix, "delimiter": delimiter, "depth": str(depth), "limit": str(_PAGE)}
        async for entry in self.pages("/kv/_list", "entries", query):
            found = convert(entry, WireEntry)
            yield Entry(
                found.path,
                found.type == "prefix",
                found.uuid,
                found.timestamp,
                found.content_type,
                found.expires_at,
            )

    async def walk(self, prefix: str = "") -> AsyncGenerator[Entry, None]:
        """All keys that begin with `prefix`, in order, without their values."""
        # No key has as many segments.
        async for entry in self.list(prefix, depth=512):
            yield entry

    async def bulk(self, items: Iterable[BulkPut | BulkDelete], *, repeat: bool = False) -> Sequence[BulkResult]:
        """Many writes in one request and one commit; a result for each, in order. At most 10,000 items and 32 MiB.

        Items fail alone. If no answer comes, the outcome of all is unknown; `repeat` says that writing them once more
        does no harm, and has the request tried again.
        """
        lines = [json_bytes(_item(item)) for item in items]
        answer = await self._call("POST", "/kv/_bulk", body=b"\n".join(lines), repeatable=repeat)
        return [_result(raw, answer.url) for raw in decode(answer.body, WireBulk, answer.url).results]

    # --- history ---

    async def history(self, path: str) -> Sequence[Revision]:
        """The kept versions of a key, newest first; empty if there are none."""
        revisions: list[Revision] = []
        target, at = history_target(path), ""
        while target:
            try:
                answer = await self._http.request("GET", target, repeatable=True, at=at)
            except NotFoundError as error:
                if error.code != "not_found":
                    raise
                break
            revisions += [_revision(path, found) for found in decode(answer.body, list[WireValue], answer.url)]
            rest = _REST.fullmatch(answer.headers.get("Link", ""))
            target = f"{history_target(path)}?from={rest[1]}" if rest is not None else ""
            at = answer.url  # a history is each node's own
        return revisions

    async def revision(self, path: str, number: int) -> Revision:
        """One of them. Raises NotFoundError."""
        answer = await self._http.request("GET", f"{history_target(path)}/{number}", repeatable=True)
        return _revision(path, decode(answer.body, WireValue, answer.url))

    async def restore(
        self, path: str, number: int, *, if_match: str | None = None, if_none_match: str | None = None
    ) -> Version:
        """Write that revision once more, as a new version."""
        headers = {}
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        if if_none_match is not None:
            headers["If-None-Match"] = if_none_match if if_none_match == "*" else f'"{if_none_match}"'
        answer = await self._call("POST", f"{history_target(path)}/{number}/restore", headers=headers)
        written = decode(answer.body, WireWritten, answer.url)
        return Version(written.uuid, written.timestamp)

    async def undo(self, path: str) -> Version | None:
        """Put back what the key held before its last change: the value before, none if there was none (None), or the
        value that was deleted or has expired. Raises PreconditionFailedError when somebody changes it at the same
        moment, and NotFoundError when nothing is kept that could be put back."""
        versions = await self.history(path)
        if not versions:
            raise _nothing_kept(path)
        current, before = versions[0], next((one for one in versions if one.number == 2), None)
        if current.number != 1:  # the current one has expired: there is no value, as behind a deletion
            if before is None or before.value is None:
                raise _nothing_kept(path)
            return await self.restore(path, 2, if_none_match="*")
        if before is None:
            if current.value is None:
                raise _nothing_kept(path)
            await self.delete(path, if_match=current.uuid)
            return None
        if before.value is None:
            await self.delete(path, if_match=current.uuid)
            return None
        if current.value is None:
            return await self.restore(path, 2, if_none_match="*")
        return await self.restore(path, 2, if_match=current.uuid)

    # --- watching ---

    def watch(
        self, prefix: str = "", *, since: str | None = None, tell: Tell | None = None
    ) -> AsyncGenerator[Event, None]:
        """Every change of the keys that begin with `prefix`, as it happens, without an end.

        `since` is `"snapshot"`, for the values that are there and then their changes; or the `position` of an event
        that was got earlier; None for now. When the stream breaks it goes on where it was. When that is not possible,
        because too much time has passed or another node has to take over, an event `resync` comes and then a snapshot.
        An event may come twice.

        Raises UnreachableError when no node answers for `retry_s` at the beginning. One that answered once is waited
        for; `tell` hears why it cannot be reached, once, and None when it is there again.
        """
        return follow(self._http, prefix, since, tell)

    async def position(self, prefix: str = "") -> tuple[str, str]:
        """The URL of the node that is asked now, and where its change log is."""
        url = self._http.endpoints.current
        return url, await position_of(self._http, url, prefix)

    def changes(self, prefix: str, since: str, *, at: str) -> AsyncGenerator[Event, None]:
        """What happened at the node at the URL `at` since a position of its change log, each key as it is now; with an
        end, unlike `watch`. With a `range` that began behind the position it makes a snapshot of one moment: see
        `kvs.client.snapshot`. Raises ResyncRequiredError when the log does not reach back so far."""
        return changes_since(self._http, at, prefix, since)

    # --- metadata ---

    async def metadata(self, path: str, *, effective: bool = False) -> Metadata:
        """What was set for a key (NotFoundError if nothing was); with `effective` what applies."""
        query = "?effective=true" if effective else ""
        answer = await self._http.request("GET", f"{key_target(path)}/metadata{query}", repeatable=True)
        return _metadata(answer)

    async def set_metadata(
        self, path: str, *, owner_uuid: str | None = KEEP, group_uuid: str | None = KEEP, permissions: int = KEEP
    ) -> Metadata:
        """Set what is named; the rest stays."""
        named = {"owner_uuid": owner_uuid, "group_uuid": group_uuid, "permissions": permissions}
        fields = {name: value for name, value in named.items() if value is not KEEP}
        return _metadata(await self._call("PUT", f"{key_target(path)}/metadata", document=fields))

    # --- the node and its cluster ---

    async def health(self) -> Mapping[str, Any]:
        """How the node is, also when it is not well."""
        return await self._node_state("/health")

    async def ready(self) -> bool:
        """Whether the node takes writes now."""
        return bool((await self._node_state("/ready")).get("ready"))

    async def cluster_status(self) -> Mapping[str, Any]:
        """The cluster as the node sees it."""
        return dict((await self._http.request("GET", "/api/cluster/status", repeatable=True)).json)

    async def members(self) -> Sequence[Mapping[str, Any]]:
        """The members of the cluster, as the node sees them."""
        return list((await self._http.request("GET", "/members/", repeatable=True)).json)


def key_target(path: str) -> str:
    """Raises BadRequestError for what is no key: some of those are routes of their own."""
    try:
        check_key(path.encode(errors="surrogatepass"))
    except node_errors.BadRequest as error:
        raise BadRequestError(400, {"status": 400, "code": error.code, "detail": error.detail}, "") from None
    return f"/kv/{quote(path, safe='/')}"


_REST = re.compile(r'<\?from=(\d+)>; rel="next"')
"""Where a history goes on that is too large for one answer."""


def history_target(path: str) -> str:
    return f"/api/data/{key_target(path).removeprefix('/kv/')}/history"


def encode_value(value: Any, content_type: str | None) -> tuple[bytes, str]:
    """The bytes of a value and their content type. Raises TypeError for what is no JSON."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), content_type or OCTETS
    if content_type not in (None, JSON):
        raise TypeError(f"a value of the content type {content_type} is bytes")
    return orjson.dumps(value), JSON


def is_ttl_form(raw: bytes) -> bool:
    """Whether a node would read this document as `{"data", "ttl"}`, a value with a time to live."""
    if b'"ttl"' not in raw and b"\\u" not in raw:
        return False
    try:
        return bool(orjson.loads(raw).keys() == {"data", "ttl"})
    except (ValueError, AttributeError):
        return False


def _item(item: BulkPut | BulkDelete) -> dict[str, object]:
    fields: dict[str, object] = {"path": item.path}
    if item.if_match is not None:
        fields["if_match"] = item.if_match
    if item.if_none_match is not None:
        fields["if_none_match"] = item.if_none_match
    if isinstance(item, BulkDelete):
        return {"op": "delete", **fields}
    raw, kind = encode_value(item.value, item.content_type)
    if item.ttl is not None:
        fields["ttl"] = duration_text(item.ttl)
    if kind == JSON and stands_on_a_line(raw):
        return {"op": "put", **fields, "data": orjson.Fragment(raw)}
    return {"op": "put", **fields, "content_type": kind, "encoding": "base64", "data": b64encode(raw).decode()}


def _values(answer: Answer) -> list[Value]:
    """Of a page of a range. Raises ProtocolError."""
    return [pair.value(answer.url) for pair in decode(answer.body, WireRange, answer.url).pairs]


def _result(raw: msgspec.Raw, url: str) -> BulkResult:
    found = decode(raw, WireResult, url)
    problem = orjson.loads(bytes(raw)) if found.status >= 300 else None
    return BulkResult(found.status, found.uuid, found.timestamp, problem)


def _version(made: Made, w: int | None) -> Version:
    if made.version is not None:
        return Version(made.version.uuid, made.version.timestamp, made.is_first, 1 if w is not None and w > 1 else None)
    assert made.answer is not None
    written = decode(made.answer.body, WireWritten, made.answer.url)
    return Version(written.uuid, written.timestamp, made.answer.status == 201, written.replicated)


def _revision(path: str, found: WireValue) -> Revision:
    value = None if found.deleted else found.value(path)
    return Revision(found.revision, found.uuid, found.timestamp, value)


def _metadata(answer: Answer) -> Metadata:
    return decode(answer.body, Metadata, answer.url)


def _nothing_kept(path: str) -> NotFoundError:
    detail = f"nothing is kept of what {path} held before"
    return NotFoundError(404, {"status": 404, "code": "not_found", "detail": detail}, "")


def _seconds(text: str) -> float:
    """Raises UnsendableError for what is no duration."""
    try:
        return parse_duration(text) / 1000
    except ValueError as error:
        raise UnsendableError(str(error)) from None
