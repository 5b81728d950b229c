"""Who belongs to the cluster: what anybody may see, and what members tell each other."""

import msgspec

from kvs.cluster import messages
from kvs.cluster.membership_events import Sender
from kvs.cluster.transport import NODE_HEADER
from kvs.errors import BadRequest
from kvs.server.body import read_body
from kvs.server.cluster import Cluster
from kvs.server.response import Response
from kvs.server.router import Call


class _Order(msgspec.Struct, frozen=True):
    """What a leave says beside the message itself."""

    remove: bool = False


class Members:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def list(self, _: Call) -> Response:
        return Response(200, msgspec.json.encode(self._cluster.members()))

    async def join(self, call: Call) -> Response:
        return await self._answer(call, messages.Join)

    async def leave(self, call: Call) -> Response:
        """With `remove` it is an operator's word: the node will not come back."""
        body = await _body(call, messages.Leave)
        leave = messages.decode(messages.Leave, body)
        if not _read_order(body).remove:
            return await self._reply(call, leave)
        await self._cluster.remove(leave.id)
        return Response(204)

    async def gossip(self, call: Call) -> Response:
        return await self._answer(call, messages.MemberList)

    async def ping(self, call: Call) -> Response:
        return await self._answer(call, messages.Ping)

    async def ping_req(self, call: Call) -> Response:
        return await self._answer(call, messages.PingReq)

    async def _answer(self, call: Call, kind: type[messages.Request]) -> Response:
        return await self._reply(call, messages.decode(kind, await _body(call, kind)))

    async def _reply(self, call: Call, message: messages.Request) -> Response:
        sender = Sender(call.request.headers.get(NODE_HEADER, ""), call.request.remote or "")
        answer = await self._cluster.answer(message, sender)
        body = messages.encode(answer)
        return Response(200, body) if body else Response(204)


async def _body(call: Call, kind: type[messages.Request]) -> bytes:
    return await read_body(call, messages.ROUTES[kind].body_max_bytes)


def _read_order(body: bytes) -> _Order:
    """Raises BadRequest."""
    try:
        return msgspec.json.decode(body, type=_Order)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the message is not what is expected: {error}", code="invalid_body") from None
