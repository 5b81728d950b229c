"""What peers ask about records: roots, differences, records by key, range and time, and taking theirs.

Each question is answered in the form it was asked in: msgpack, which daemons use, or JSON (see `peer_tools.py`).
Nothing here keeps state. What daemons send and cannot be is counted, in either form: see `kvs/cluster/conduct.py`. Who
asks in JSON by an id that is no other member's is a person or a tool that tries things out, and may be wrong.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import hdrs

from kvs.cluster import exchange
from kvs.cluster.events import Merge
from kvs.cluster.exchange import (
    DiffAnswer,
    DiffRequest,
    FetchAnswer,
    RangeAnswer,
    RangeRequest,
    RecentAnswer,
    RecentRequest,
    ReplicateAnswer,
    ReplicateRequest,
)
from kvs.cluster.ingest import fetched, merge_of, recent, records_between
from kvs.cluster.membership_events import Sender
from kvs.cluster.transport import MSGPACK, NODE_HEADER, pack, unpack
from kvs.errors import BadMessage
from kvs.limits import FETCH_KEYS_MAX, OFFLOAD_MIN_BYTES, PEER_BODY_MAX_BYTES
from kvs.server.body import read_body
from kvs.server.handlers.peer_tools import PeerTools, one_by_one
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.storage.codec import value_bytes

_Answer = Callable[[bytes, Sender], Awaitable[msgspec.Struct]]


class Peers:
    def __init__(self, tools: PeerTools) -> None:
        self._tools = tools
        self._cluster = tools.cluster
        self._store = tools.store

    async def root(self, _: Call) -> Response:
        return self._tools.root()

    async def diff(self, call: Call) -> Response:
        return await self._answer(call, self._diff, self._tools.diff)

    async def kv_range(self, call: Call) -> Response:
        return await self._answer(call, self._kv_range, self._tools.kv_range)

    async def replicate(self, call: Call) -> Response:
        return await self._answer(call, self._replicate, self._tools.replicate)

    async def pairs_by_time(self, call: Call) -> Response:
        return await self._answer(call, self._pairs_by_time, self._tools.pairs_by_time)

    async def _answer(
        self, call: Call, as_daemon: _Answer, as_tool: Callable[[bytes, Sender], Awaitable[Response]]
    ) -> Response:
        sender = Sender(call.request.headers.get(NODE_HEADER, ""), call.request.remote or "")
        is_binary = call.request.headers.get(hdrs.CONTENT_TYPE, "").startswith(MSGPACK)
        is_counted = is_binary or self._tools.is_member(sender)
        if is_counted:
            self._cluster.check_conduct(sender)
        body = await read_body(call, PEER_BODY_MAX_BYTES)
        try:
            if not is_binary:
                return await as_tool(body, sender)
            answer = await as_daemon(unpack(body), sender)
        except BadMessage as error:
            if is_counted:
                self._cluster.blame(sender, 1, error.detail)
            raise
        return Response(200, pack(exchange.encode(answer)), MSGPACK)

    # --- as daemons ask ---

    async def _diff(self, body: bytes, _: Sender) -> DiffAnswer:
        asked = exchange.decode(body, DiffRequest)
        return DiffAnswer.of(await self._tools.differences(asked.spans(), asked.list_below))

    async def _kv_range(self, body: bytes, _: Sender) -> RangeAnswer | FetchAnswer:
        limits = self._tools.limits()
        asked = exchange.decode_wanted(body)
        if isinstance(asked, RangeRequest):
            return RangeAnswer(*records_between(self._store, asked.start, asked.stop, limits))
        return FetchAnswer(*fetched(self._store, asked.wanted(), limits))

    async def _pairs_by_time(self, body: bytes, _: Sender) -> RecentAnswer:
        asked = exchange.decode(body, RecentRequest)
        if self._cluster.is_filling:
            return RecentAnswer([], b"", filling=True, has_source=self._cluster.has_source)
        return RecentAnswer(*recent(self._store, asked.before, asked.since_ms, self._tools.limits()))

    async def _replicate(self, body: bytes, sender: Sender) -> ReplicateAnswer:
        records = exchange.decode(body, ReplicateRequest).records
        if len(records) > FETCH_KEYS_MAX:
            raise BadMessage(f"there are more than {FETCH_KEYS_MAX} records")
        if sum(value_bytes(raw) for _, raw in records) < OFFLOAD_MIN_BYTES:
            brought = _merges(records, sender.node_id)
        else:
            brought = await asyncio.to_thread(_merges, records, sender.node_id)
        return ReplicateAnswer(bytes(await self._tools.take(brought, sender, is_counted=True)))


def _merges(records: list[tuple[bytes, bytes]], source: str) -> list[Merge | BadMessage]:
    return one_by_one(lambda record, source: merge_of(*record, source), records, source)
