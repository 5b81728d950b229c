"""The socket side of HTTP: deadlines for slow clients, a cap on connections, errors of the parser as problems.

aiohttp bounds sizes and idle connections; it does not bound how long a request's headers or a response may take. Both
are watched here, at the connection's protocol object, with no cost for requests that arrive in one piece.
"""

import asyncio
from typing import Any, cast

import structlog
from aiohttp import HttpVersion11, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError

from kvs.errors import BadRequest, KvsError, Unavailable
from kvs.limits import (
    CONNECTIONS_MAX,
    HEADER_MAX_BYTES,
    HEADER_TIMEOUT_S,
    HEADERS_MAX_COUNT,
    KEEPALIVE_TIMEOUT_S,
    LINGER_TIMEOUT_S,
    REQUEST_LINE_MAX_BYTES,
    RESPONSE_STALL_TIMEOUT_S,
)
from kvs.server import request_id
from kvs.server.problems import problem

log = structlog.get_logger()


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_header_deadline", "_stall_deadline")

    def __init__(self, manager: "HttpServer", **options: Any) -> None:
        super().__init__(manager, **options)
        self._header_deadline: asyncio.TimerHandle | None = None
        self._stall_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(self._manager, HttpServer)
        if len(self._manager.connections) > CONNECTIONS_MAX:
            assert isinstance(transport, asyncio.Transport)
            refusal = problem(Unavailable("too many connections", code="overloaded"), request_id.fresh())
            refusal.close = True
            transport.write(refusal.head(HttpVersion11) + refusal.body)
            self.force_close()
            return
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages and self._current_request is not None:
            self._tell_of_broken_body(self._current_request)
        if self._messages or self._request_in_progress:
            if self._header_deadline is not None:
                self._header_deadline.cancel()
                self._header_deadline = None
        elif self._header_deadline is None:
            self._await_headers()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_deadline is None:
            self._stall_deadline = self._loop.call_later(RESPONSE_STALL_TIMEOUT_S, self._abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_deadline is not None:
            self._stall_deadline.cancel()
            self._stall_deadline = None

    def connection_lost(self, exc: BaseException | None) -> None:
        for deadline in (self._header_deadline, self._stall_deadline):
            if deadline is not None:
                deadline.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp answers by itself: requests that its parser refused, and bugs."""
        error: KvsError
        if isinstance(exc, HttpProcessingError):
            error = BadRequest("the request is not well-formed HTTP", code="malformed_request")
        else:
            log.error("A request failed beyond its handler", exc_info=exc)
            error = KvsError("the node failed to answer; its log says more")
        response = problem(error, request_id.of(request))
        response.close = True
        return cast(web.StreamResponse, response)

    def _tell_of_broken_body(self, request: web.BaseRequest) -> None:
        """When a body turns out not to be framed as its headers said, aiohttp queues the error behind the request
        that is being read, whose reader would wait for the rest until its deadline."""
        if not isinstance(self._messages[-1][0], RawRequestMessage) and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("the body is not framed as the headers say"))
            self._lingering_time = 0.0  # there is no rest of the body that could be read

    def _await_headers(self) -> None:
        self._header_deadline = self._loop.call_later(HEADER_TIMEOUT_S, self._headers_late)

    def _headers_late(self) -> None:
        self._header_deadline = None
        self.force_close()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class HttpServer(web.Server):
    """aiohttp's low-level server with this project's connections."""

    def __init__(self, handler: Any) -> None:
        super().__init__(
            handler,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_TIMEOUT_S,
            lingering_time=LINGER_TIMEOUT_S,
            max_line_size=REQUEST_LINE_MAX_BYTES,
            max_field_size=HEADER_MAX_BYTES,
            max_headers=HEADERS_MAX_COUNT,
        )

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)
