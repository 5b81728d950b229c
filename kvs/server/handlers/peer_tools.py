"""What tools and people ask as peers do, in JSON, and what both forms need of the node."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeGuard, TypeVar

import orjson

from kvs.cluster.diff import differences
from kvs.cluster.events import Merge, Merged, Outcome
from kvs.cluster.exchange import EQUAL, ITEMS, KNOWN, OLDER, REFUSED, TAKEN, Difference, Span
from kvs.cluster.ingest import Limits, sendable
from kvs.cluster.membership_events import Sender
from kvs.cluster.merkle import Tree, items
from kvs.cluster.node import Node
from kvs.errors import BadMessage, let_go
from kvs.limits import (
    DIFF_LIST_BELOW,
    DIFF_PARTS,
    DIFF_RANGES_MAX,
    DIFF_RANGES_PER_TURN,
    FETCH_KEYS_MAX,
    SEND_MAX_BYTES,
)
from kvs.server import peer_json
from kvs.server.cluster import Cluster
from kvs.server.handlers.context import Context
from kvs.server.render import key_json, pair_json
from kvs.server.response import Response
from kvs.storage.keyspace import DATA, path_of, split_time, time_row
from kvs.storage.record import Record

_Sent = TypeVar("_Sent")
_WORDS = {TAKEN: "taken", KNOWN: "known", OLDER: "older", REFUSED: "refused"}


class PeerTools:
    def __init__(self, context: Context, cluster: Cluster, node: Node) -> None:
        self.cluster = cluster
        self.store = context.store
        self._context = context
        self._node = node

    def root(self) -> Response:
        root = self._tree.root
        node = peer_json.node_json(b"", b"", root.fingerprint)
        return _json({"root": node, "count": root.size, "ranges_max": DIFF_RANGES_MAX})

    async def diff(self, body: bytes, _: Sender) -> Response:
        spans, is_batch = peer_json.diff_asked(body)
        found = await self.differences(spans, DIFF_LIST_BELOW, DIFF_PARTS)
        answers = [self._difference_json(span, difference) for span, difference in zip(spans, found, strict=True)]
        return _json({"ranges": answers} if is_batch else answers[0])

    async def kv_range(self, body: bytes, _: Sender) -> Response:
        wanted: peer_json.RangeAsked = peer_json.decode(body, peer_json.RangeAsked)
        start, stop = peer_json.bound_of(wanted.start_key), peer_json.bound_of(wanted.end_key)
        pairs, rest = await self._pairs(start, stop, min(wanted.limit, FETCH_KEYS_MAX))
        next_key = b',"next_key":%b' % key_json(path_of(rest).encode()) if rest else b""
        return Response(200, b'{"pairs":[%b]%b}' % (b",".join(pairs), next_key))

    async def replicate(self, body: bytes, sender: Sender) -> Response:
        brought = one_by_one(peer_json.merge, peer_json.records(body), sender.node_id)
        codes = await self.take(brought, sender, is_counted=self.is_member(sender))
        return _json({"outcomes": [_WORDS[code] for code in codes]})

    async def pairs_by_time(self, body: bytes, _: Sender) -> Response:
        asked: peer_json.TimesAsked = peer_json.decode(body, peer_json.TimesAsked)
        end = asked.end_timestamp or self._node.now_ms(self._context.now_ms()) + 1
        found = await self._newest(asked, time_row(asked.start_timestamp, 0, b""), time_row(end, 0, b""))
        return _json(found) if found else Response(204)

    # --- for both forms ---

    def limits(self) -> Limits:
        """Raises Unavailable while this node may hold records that were deleted elsewhere."""
        self.cluster.check_shareable()
        now_ms = self._context.now_ms()
        return Limits(now_ms, self._node.tombstone_limit(now_ms))

    async def differences(self, spans: list[Span], list_below: int, parts: int = 0) -> list[Difference]:
        """Many ranges take their time: others get their turn in between."""
        self.limits()
        found: list[Difference] = []
        answers = differences(self._tree, self.store, spans, list_below, parts)
        while some := list(islice(answers, DIFF_RANGES_PER_TURN)):
            found += some
            await asyncio.sleep(0)
        return found

    def is_member(self, sender: Sender) -> bool:
        """Whether it asks by the id of another member: what a daemon sends and cannot be is counted in JSON too."""
        return sender.node_id in self.cluster.known()

    async def take(self, brought: Sequence[Merge | BadMessage], sender: Sender, *, is_counted: bool) -> list[int]:
        """What the sender is told of each of its records. `is_counted`: those that cannot be are held against it."""
        commands = [each for each in brought if isinstance(each, Merge)]
        taken = iter(await self._context.runner.submit(commands) if commands else [])
        codes = [_code(next(taken)) if isinstance(each, Merge) else REFUSED for each in brought]
        if self._context.meters is not None:
            lag, now_ms = self._context.meters.replication_lag, self._context.now_ms()
            for each, code in zip(brought, codes, strict=True):
                if isinstance(each, Merge) and code == TAKEN:
                    lag.add(max(0, now_ms - each.record.timestamp) / 1000)
        refusals = [each.detail for each in brought if isinstance(each, BadMessage)]
        if refusals and is_counted:
            self.cluster.blame(sender, len(refusals), refusals[0])
        return codes

    # --- parts ---

    @property
    def _tree(self) -> Tree:
        assert self._node.tree is not None
        return self._node.tree

    def _difference_json(self, span: Span, difference: Difference) -> dict[str, object]:
        kind, cuts, _ = difference
        if kind == EQUAL:
            return {"equal": True, "children": []}
        if kind == ITEMS:
            limits = self.limits()
            held = ((entry, sendable(self.store, entry, limits)) for entry in cuts)
            return {"keys": [peer_json.version_json(*each) for each in held if _is_shown(each, limits)]}
        edges = [span.start, *cuts, span.stop]
        sums = self._tree.sums(self.store, edges)
        parts = zip(edges, edges[1:], sums, strict=False)
        return {"children": [peer_json.node_json(start, stop, part.fingerprint) for start, stop, part in parts]}

    async def _pairs(self, start: bytes, stop: bytes, most: int) -> tuple[list[bytes], bytes]:
        """The live records of a range, as many as one answer takes, and where the rest begins (empty: no rest).
        Others get their turn in between."""
        pairs: list[bytes] = []
        size_bytes = 0
        while True:
            limits = self.limits()
            looked = [entry for entry, _ in islice(items(self.store, start, stop), FETCH_KEYS_MAX)]
            for entry in looked:
                record = sendable(self.store, entry, limits)
                if record is None or not record.is_live(limits.now_ms):
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
        prefix = DATA + asked.prefix.encode()
        found: list[dict[str, object]] = []
        while start < stop:
            limits = self.limits()
            rows = [row for row, _ in islice(self.store.scan(start, stop, backwards=True), FETCH_KEYS_MAX)]
            for _, entry in map(split_time, rows):
                record = sendable(self.store, entry, limits) if entry.startswith(prefix) else None
                if record is not None and record.is_live(limits.now_ms):
                    found.append(peer_json.version_json(entry, record))
                    if len(found) == asked.limit:
                        return found
            if len(rows) < FETCH_KEYS_MAX:
                break
            stop = rows[-1]
            await asyncio.sleep(0)
        return found


def _is_shown(held: tuple[bytes, Record | None], limits: Limits) -> TypeGuard[tuple[bytes, Record]]:
    """Tools see tombstones, and nothing that has expired."""
    _, record = held
    return record is not None and (record.deleted or record.is_live(limits.now_ms))


def one_by_one(make: Callable[[_Sent, str], Merge], sent: Iterable[_Sent], source: str) -> list[Merge | BadMessage]:
    """The commands for the records of the peer `source`, in their order; one that cannot be taken must not keep the
    others out."""
    found: list[Merge | BadMessage] = []
    for each in sent:
        try:
            found.append(make(each, source))
        except BadMessage as error:
            let_go(error)
            found.append(error)
    return found


def _code(outcome: Outcome) -> int:
    """What a peer is told of it."""
    if not isinstance(outcome, Merged):
        return REFUSED
    return {"wins": TAKEN, "known": KNOWN, "loses": OLDER}[outcome.verdict.kind]


def _json(document: object) -> Response:
    return Response(200, orjson.dumps(document))
