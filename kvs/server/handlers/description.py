"""`/openapi.json`: the API for programs."""

import asyncio
from collections.abc import Sequence

import orjson

from kvs.server.handlers.context import Context
from kvs.server.openapi.document import document
from kvs.server.response import Response
from kvs.server.router import Call, Route


class Description:
    """Made when somebody asks for the first time: milliseconds, in a thread."""

    def __init__(self, context: Context, routes: Sequence[Route], *, asks: bool) -> None:
        self._context = context
        self._routes = routes
        self._asks = asks
        self._text = b""

    async def get(self, _: Call) -> Response:
        self._text = self._text or await asyncio.to_thread(self._make)
        return Response(200, self._text)

    def _make(self) -> bytes:
        config = self._context.config
        anonymous = [name for name in ("allow_anonymous_read", "allow_anonymous_write") if getattr(config, name)]
        return orjson.dumps(document(self._routes, asks=self._asks, anonymous=anonymous))
