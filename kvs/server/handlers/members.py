"""Who belongs to the cluster: what anybody may see, and what members tell each other."""

import msgspec
from aiohttp import web

from kvs.cluster import messages
from kvs.cluster.membership_events import Sender
from kvs.cluster.transport import NODE_HEADER
from kvs.server.body import read_body
from kvs.server.cluster import Cluster
from kvs.server.response import Response
from kvs.server.router import Call


class Members:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def list(self, _: Call) -> Response:
        return Response(200, msgspec.json.encode(self._cluster.members()))

    async def join(self, call: Call) -> Response:
        return await self._answer(call.request, messages.Join)

    async def leave(self, call: Call) -> Response:
        return await self._answer(call.request, messages.Leave)

    async def gossip(self, call: Call) -> Response:
        return await self._answer(call.request, messages.MemberList)

    async def ping(self, call: Call) -> Response:
        return await self._answer(call.request, messages.Ping)

    async def ping_req(self, call: Call) -> Response:
        return await self._answer(call.request, messages.PingReq)

    async def _answer(self, request: web.BaseRequest, kind: type[messages.Request]) -> Response:
        most = messages.ROUTES[kind].body_max_bytes
        message = messages.decode(kind, await read_body(request, most), most)
        sender = Sender(request.headers.get(NODE_HEADER, ""), request.remote or "")
        answer = await self._cluster.answer(message, sender)
        body = messages.encode(answer)
        return Response(200, body) if body else Response(204)
