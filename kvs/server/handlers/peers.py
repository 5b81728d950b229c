"""What peers ask about records: roots, differences, records by key, range and time, and taking theirs.

Each answers in the form it was asked in: msgpack, which daemons use, or JSON. Nothing here keeps state.
"""

import asyncio
from itertools import islice

import msgspec
import orjson
from aiohttp import hdrs

from kvs.cluster import exchange
from kvs.cluster.diff import differences
from kvs.cluster.events import Merge, Merged, Outcome
from kvs.cluster.exchange import (
    EQUAL,
    ITEMS,
    KNOWN,
    OLDER,
    REFUSED,
    TAKEN,
    DiffAnswer,
    Difference,
    DiffRequest,
    FetchAnswer,
    RangeAnswer,
    RangeRequest,
    RecentAnswer,
    RecentRequest,
    ReplicateAnswer,
    ReplicateRequest,
    Span,
)
from kvs.cluster.ingest import Limits, fetched, merge_of, recent, records_between, sendable
from kvs.cluster.merkle import Tree, items
from kvs.cluster.node import Node
from kvs.cluster.transport import MSGPACK, NODE_HEADER, pack, unpack
from kvs.errors import BadMessage
from kvs.limits import (
    DIFF_LIST_BELOW,
    DIFF_PARTS,
    DIFF_RANGES_PER_TURN,
    FETCH_KEYS_MAX,
    OFFLOAD_MIN_BYTES,
    PEER_BODY_MAX_BYTES,
    SEND_MAX_BYTES,
)
from kvs.server import peer_json
from kvs.server.body import read_body
from kvs.server.handlers.context import Context
from kvs.server.render import key_json, pair_json
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.storage.keyspace import DATA, path_of, split_time, time_row

_WORDS = {TAKEN: "taken", KNOWN: "known", OLDER: "older", REFUSED: "refused"}


class Peers:
    def __init__(self, context: Context, node: Node) -> None:
        self._context = context
        self._node = node

    async def root(self, _: Call) -> Response:
        root = self._tree.root
        node = peer_json.node_json(b"", b"", root.fingerprint)
        return _json({"root": node, "count": root.size})

    async def diff(self, call: Call) -> Response:
        body, is_binary = await _body(call)
        if is_binary:
            asked = exchange.decode(body, DiffRequest)
            found = await self._differences(asked.spans(), asked.list_below)
            return _binary(DiffAnswer.of(found))
        spans, is_batch = peer_json.diff_asked(body)
        found = await self._differences(spans, DIFF_LIST_BELOW, DIFF_PARTS)
        answers = [self._difference_json(span, difference) for span, difference in zip(spans, found, strict=True)]
        return _json({"ranges": answers} if is_batch else answers[0])

    async def kv_range(self, call: Call) -> Response:
        body, is_binary = await _body(call)
        limits = self._limits()
        if is_binary:
            asked = exchange.decode_wanted(body)
            if isinstance(asked, RangeRequest):
                return _binary(RangeAnswer(*records_between(self._context.store, asked.start, asked.stop, limits)))
            return _binary(FetchAnswer(*fetched(self._context.store, asked.wanted(), limits)))
        wanted: peer_json.RangeAsked = peer_json.decode(body, peer_json.RangeAsked)
        start, stop = peer_json.bound_of(wanted.start_key), peer_json.bound_of(wanted.end_key)
        pairs, rest = await self._pairs(start, stop, min(wanted.limit, FETCH_KEYS_MAX))
        next_key = b',"next_key":%b' % key_json(path_of(rest).encode()) if rest else b""
        return Response(200, b'{"pairs":[%b]%b}' % (b",".join(pairs), next_key))

    async def replicate(self, call: Call) -> Response:
        source = call.request.headers.get(NODE_HEADER, "")
        body, is_binary = await _body(call)
        if not is_binary:
            outcomes = await self._take(peer_json.merges(body, source))
            return _json({"outcomes": [_WORDS[outcome] for outcome in outcomes]})
        records = exchange.decode(body, ReplicateRequest).records
        if len(records) > FETCH_KEYS_MAX:
            raise BadMessage(f"there are more than {FETCH_KEYS_MAX} records")
        if len(body) < OFFLOAD_MIN_BYTES:
            commands = _merges(records, source)
        else:
            commands = await asyncio.to_thread(_merges, records, source)
        taken = iter(await self._take([command for command in commands if command is not None]))
        return _binary(ReplicateAnswer(bytes(REFUSED if command is None else next(taken) for command in commands)))

    async def pairs_by_time(self, call: Call) -> Response:
        body, is_binary = await _body(call)
        if is_binary:
            newest = exchange.decode(body, RecentRequest)
            return _binary(RecentAnswer(*recent(self._context.store, newest.before, newest.since_ms, self._limits())))
        asked: peer_json.TimesAsked = peer_json.decode(body, peer_json.TimesAsked)
        end = asked.end_timestamp or self._node.now_ms(self._context.now_ms()) + 1
        found = await self._newest(asked, time_row(asked.start_timestamp, 0, b""), time_row(end, 0, b""))
        return _json(found) if found else Response(204)

    # --- parts ---

    @property
    def _tree(self) -> Tree:
        assert self._node.tree is not None
        return self._node.tree

    def _limits(self) -> Limits:
        if self._context.cluster is not None:
            self._context.cluster.check_shareable()
        now_ms = self._context.now_ms()
        return Limits(now_ms, self._node.tombstone_limit(now_ms))

    async def _differences(self, spans: list[Span], list_below: int, parts: int = 0) -> list[Difference]:
        """Many ranges take their time: others get their turn in between."""
        self._limits()
        found: list[Difference] = []
        answers = differences(self._tree, self._context.store, spans, list_below, parts)
        while some := list(islice(answers, DIFF_RANGES_PER_TURN)):
            found += some
            await asyncio.sleep(0)
        return found

    def _difference_json(self, span: Span, difference: Difference) -> dict[str, object]:
        kind, cuts, _ = difference
        if kind == EQUAL:
            return {"equal": True, "children": []}
        if kind == ITEMS:
            limits = self._limits()
            held = ((entry, sendable(self._context.store, entry, limits)) for entry in cuts)
            return {"keys": [peer_json.version_json(entry, record) for entry, record in held if record is not None]}
        edges = [span.start, *cuts, span.stop]
        sums = self._tree.sums(self._context.store, edges)
        parts = zip(edges, edges[1:], sums, strict=False)
        return {"children": [peer_json.node_json(start, stop, part.fingerprint) for start, stop, part in parts]}

    async def _pairs(self, start: bytes, stop: bytes, most: int) -> tuple[list[bytes], bytes]:
        """The live records of a range, as many as one answer takes, and where the rest begins (empty: no rest).
        Others get their turn in between."""
        store = self._context.store
        pairs: list[bytes] = []
        size_bytes = 0
        while True:
            limits = self._limits()
            looked = [entry for entry, _ in islice(items(store, start, stop), FETCH_KEYS_MAX)]
            for entry in looked:
                record = sendable(store, entry, limits)
                if record is None or record.deleted:
                    continue
                if len(pairs) == most or size_bytes > SEND_MAX_BYTES:
                    return pairs, entry
                pairs.append(pair_json(path_of(entry).encode(), record))
                size_bytes += len(pairs[-1])
            if len(looked) < FETCH_KEYS_MAX:
                return pairs, b""
            start = looked[-1] + b"\0"
            await asyncio.sleep(0)

    async def _newest(self, asked: peer_json.TimesAsked, start: bytes, stop: bytes) -> list[dict[str, object]]:
        """What the rows of the time index between `start` and `stop` lead to, newest first. Others get their turn in
        between."""
        store, prefix = self._context.store, DATA + asked.prefix.encode()
        found: list[dict[str, object]] = []
        while start < stop:
            limits = self._limits()
            rows = [row for row, _ in islice(store.scan(start, stop, backwards=True), FETCH_KEYS_MAX)]
            for _, entry in map(split_time, rows):
                record = sendable(store, entry, limits) if entry.startswith(prefix) else None
                if record is not None and not record.deleted:
                    found.append(peer_json.version_json(entry, record))
                    if len(found) == asked.limit:
                        return found
            if len(rows) < FETCH_KEYS_MAX:
                break
            stop = rows[-1]
            await asyncio.sleep(0)
        return found

    async def _take(self, commands: list[Merge]) -> list[int]:
        outcomes = await self._context.runner.submit(commands) if commands else []
        codes = [_code(outcome) for outcome in outcomes]
        if self._context.meters is not None:
            lag, now_ms = self._context.meters.replication_lag, self._context.now_ms()
            for command, code in zip(commands, codes, strict=True):
                if code == TAKEN:
                    lag.add(max(0, now_ms - command.record.timestamp) / 1000)
        return codes


def _code(outcome: Outcome) -> int:
    if not isinstance(outcome, Merged):
        return REFUSED
    return {"wins": TAKEN, "known": KNOWN, "loses": OLDER}[outcome.verdict.kind]


def _merges(records: list[tuple[bytes, bytes]], source: str) -> list[Merge | None]:
    """The commands for a peer's records, None for one that cannot be taken: it must not keep the others out."""
    found: list[Merge | None] = []
    for entry, raw in records:
        try:
            found.append(merge_of(entry, raw, source))
        except BadMessage:
            found.append(None)
    return found


async def _body(call: Call) -> tuple[bytes, bool]:
    """The body, and whether it is binary."""
    body = await read_body(call, PEER_BODY_MAX_BYTES)
    is_binary = call.request.headers.get(hdrs.CONTENT_TYPE, "").startswith(MSGPACK)
    return (unpack(body) if is_binary else body), is_binary


def _binary(message: msgspec.Struct) -> Response:
    return Response(200, pack(exchange.encode(message)), MSGPACK)


def _json(document: object) -> Response:
    return Response(200, orjson.dumps(document))
