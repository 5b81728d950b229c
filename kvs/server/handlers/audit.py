"""`/api/audit`: the audit log of this node, its heads, and the heads that it keeps of others; and taking theirs."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from itertools import islice

from kvs.cluster.audit_heads import Head, decode_head, decode_offer, encode
from kvs.cluster.transport import NODE_HEADER
from kvs.errors import BadMessage, BadRequest
from kvs.limits import AUDIT_OFFER_MAX_BYTES, PAGE_DEFAULT_ENTRIES, PAGE_MAX_ENTRIES, PAGE_MAX_SCANNED
from kvs.server import parse
from kvs.server.audit_reading import entries, read_filter
from kvs.server.body import read_body
from kvs.server.handlers.context import Context
from kvs.server.head_keeper import HeadKeeper
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.storage.audit import NO_TIP, Entry, Tip, decode, read_tip
from kvs.storage.keyspace import AUDIT_ENTRIES, AUDIT_HEADS, after, split_audit, split_audit_head

_Shown = Mapping[str, object]


class Audit:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def entries(self, call: Call) -> Response:
        """A page of entries, newest first or, with `order=asc`, oldest first."""
        query = parse.query(call.request)
        wanted, backwards, limit = read_filter(query), _is_backwards(query), _limit(query)
        start = self._start(query, AUDIT_ENTRIES)
        shown: list[_Shown] = []
        next_row: bytes | None = None
        found = entries(self._context.store, wanted, start, backwards=backwards)
        for scanned, (row, raw) in enumerate(found):
            if len(shown) == limit or scanned == PAGE_MAX_SCANNED:
                next_row = row
                break
            if raw is not None:
                number = split_audit(row)
                entry = _decoded(number, raw)
                if wanted.takes(entry):
                    shown.append(_damaged(number, raw) if entry is None else _entry(entry))
        return self._page({"entries": shown}, next_row)

    async def heads(self, call: Call) -> Response:
        """A page of this node's own heads, in the same two orders."""
        query = parse.query(call.request)
        backwards, limit, start = _is_backwards(query), _limit(query), self._start(query, AUDIT_HEADS)
        first, stop = AUDIT_HEADS, after(AUDIT_HEADS)
        if start is not None:
            first, stop = (first, start + b"\0") if backwards else (start, stop)
        rows = list(islice(self._context.store.scan(first, stop, backwards=backwards), limit + 1))
        next_row = rows[limit][0] if len(rows) > limit else None
        page = {
            "node_id": self._context.config.node_id,
            "log": self._context.log_id,
            "tip": _tip(read_tip(self._context.store)),
            "heads": [_head(row, raw) for row, raw in rows[:limit]],
        }
        return self._page(page, next_row)

    async def kept(self, call: Call) -> Response:
        """The heads that are kept of other nodes, or of one."""
        query = parse.query(call.request)
        keeper = self._context.keeper
        held: Mapping[str, Sequence[Head]] = {} if keeper is None else keeper.held
        names = [query["node_id"]] if "node_id" in query else sorted(held)
        return Response(200, encode({"nodes": {name: held.get(name, ()) for name in names}}))

    def _start(self, query: Mapping[str, str], prefix: bytes) -> bytes | None:
        """The row where the page begins. Raises BadRequest for a cursor of another list."""
        cursor = query.get("cursor")
        start = None if cursor is None else self._context.cursors.decode(cursor)
        if start is not None and not start.startswith(prefix):
            raise BadRequest("cursor is not one that this list gave", field="cursor", code="invalid_cursor")
        return start

    def _page(self, page: _Shown, next_row: bytes | None) -> Response:
        next_cursor = None if next_row is None else self._context.cursors.encode(next_row)
        return Response(200, encode({**page, "next_cursor": next_cursor}))


class AuditPeers:
    def __init__(self, keeper: HeadKeeper) -> None:
        self._keeper = keeper

    async def heads(self, call: Call) -> Response:
        """A peer offers its heads, or asks which are kept of it."""
        offer = decode_offer(await read_body(call, AUDIT_OFFER_MAX_BYTES))
        node_id = call.request.headers.get(NODE_HEADER, "")
        return Response(200, encode(await self._keeper.offered(node_id, offer)))


def _is_backwards(query: Mapping[str, str]) -> bool:
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise BadRequest("order is asc or desc", field="order")
    return order == "desc"


def _limit(query: Mapping[str, str]) -> int:
    return parse.integer(query, "limit", default=PAGE_DEFAULT_ENTRIES, least=1, most=PAGE_MAX_ENTRIES)


def _decoded(number: int | None, raw: bytes) -> Entry | None:
    """The entry, None for one that is damaged or stands under a number that is not its own."""
    try:
        entry = decode(raw)
    except ValueError:
        return None
    return entry if entry.number == number else None


def _entry(entry: Entry) -> _Shown:
    return {**entry._asdict(), "signature": entry.signature.hex()}


def _head(row: bytes, raw: bytes) -> Head | _Shown:
    try:
        head = decode_head(raw)
    except BadMessage:
        return _damaged(split_audit_head(row), raw)
    is_whole = encode(head) == raw and head.number == split_audit_head(row)
    return head if is_whole else _damaged(split_audit_head(row), raw)


def _tip(tip: Tip) -> _Shown | None:
    return None if tip == NO_TIP else {"number": tip.number, "signature": tip.signature.hex()}


def _damaged(number: int | None, raw: bytes) -> _Shown:
    """As it stands in the store: whoever verifies the log must see it."""
    return {"number": number, "damaged": b64encode(raw).decode()}
