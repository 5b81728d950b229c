"""The socket side of HTTP: deadlines for slow clients, a cap on connections, errors of the parser as problems.

aiohttp bounds sizes and idle connections; it does not bound how long a request's headers or a response may take, nor
how long a stop takes altogether, and it hangs up on clients that have sent all they want. All of it is watched here, at
the connection's protocol object, with no cost for requests that arrive in one piece.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

import structlog
from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.http import RawRequestMessage, StreamWriter
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError

from kvs.errors import BadRequest, KvsError, Unavailable, let_go
from kvs.limits import (
    CONNECTIONS_MAX,
    HEADER_MAX_BYTES,
    HEADER_TIMEOUT_S,
    HEADERS_MAX_COUNT,
    KEEPALIVE_TIMEOUT_S,
    LINGER_TIMEOUT_S,
    REQUEST_LINE_MAX_BYTES,
    RESPONSE_MIN_BYTES_PER_S,
    RESPONSE_STALL_TIMEOUT_S,
    TLS_PIECE_BYTES,
    TLS_RECEIVE_BYTES,
)
from kvs.server import request_id
from kvs.server.eager import EagerHandler
from kvs.server.meters import Meters
from kvs.server.problems import problem
from kvs.server.ratelimit import network_of
from kvs.server.response import Response
from kvs.server.room import Room, Rooms

log = structlog.get_logger()

_RESET = struct.pack("ii", 1, 0)
"""Linger for 0 s (socket(7)): what is unsent is dropped, the other side is told."""


class Watcher(Protocol):
    """Who is told of connections."""

    def made(self, connection: "Connection") -> None: ...

    def lost(self, connection: "Connection") -> None: ...


class Connection(EagerHandler):
    """One client's connection."""

    __slots__ = (
        "_answers",
        "_body",
        "_header_deadline",
        "_input_ended",
        "_is_broken",
        "_is_tls",
        "_meters",
        "_on_lost",
        "_stall_deadline",
        "_stream",
        "_unsent_bytes",
        "client",
        "credential",
        "credential_mark",
        "is_stalled",
        "watcher",
    )

    def __init__(self, manager: "HttpServer", **options: Any) -> None:
        super().__init__(manager, **options)
        self._answers = manager.answers
        self._meters = manager.meters
        self._header_deadline: asyncio.TimerHandle | None = None
        self._stall_deadline: asyncio.TimerHandle | None = None
        self._stream: asyncio.Transport | None = None
        """aiohttp drops its own reference when it begins to close; the client may take its time even then."""
        self._unsent_bytes = 0
        self._body: StreamReader | None = None
        """Of the request that was taken last. aiohttp names that one only a turn of the loop later."""
        self._input_ended = False
        self._is_broken = False
        self.client = ""
        """The network that it comes from, as clients are counted; what headers say of that is not believed."""
        self.credential = ""
        self.credential_mark = b""
        """The field `Authorization` that was good last, which most clients show again, and what the gate knows it by.
        The two change together only."""
        self._is_tls = False
        self._on_lost: Callable[[], None] | None = None
        self.is_stalled = False
        """It was ended because the client took nothing."""
        self.watcher: Watcher | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.client = network_of(str(transport.get_extra_info("peername", ("",))[0]))
        self._stream = stream = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it
        if self._meters is not None:
            self._meters.connections += 1
        if self.watcher is not None:
            self.watcher.made(self)
        self._is_tls = stream.get_extra_info("ssl_object") is not None
        # `pause_writing` comes whenever something waits for the client, so that no wait goes unwatched. What TLS has
        # passed on is unseen; `Response` keeps that small, and the end of an idle connection is behind it.
        stream.set_write_buffer_limits(high=1 if self._is_tls else 0)
        if self._is_tls:
            # What is not decrypted yet comes beside what the parser holds.
            stream.set_read_buffer_limits(high=TLS_RECEIVE_BYTES)  # type: ignore[attr-defined]  # uvloop's have it
        assert isinstance(self._manager, HttpServer)
        if len(self._manager.connections) > CONNECTIONS_MAX:
            refusal = self._refuse(Unavailable("too many connections", code="overloaded"), request_id.fresh())
            stream.write(refusal.head(HttpVersion11) + refusal.body)
            self.force_close()
            return
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        if self._is_broken:
            return  # aiohttp would make an error of every further piece, which quotes it
        requests = self._request_count
        super().data_received(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._end_input()
        if self._messages or self._request_in_progress or self._request_count != requests:
            if self._header_deadline is not None:
                self._header_deadline.cancel()
                self._header_deadline = None
        elif self._header_deadline is None:
            self._await_headers()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's declaration; aiohttp's narrows it to None
        """The client has sent all it wants. What came whole is answered; only then, or at once, the connection ends.
        TLS has no such half: its end is that of both sides. Behind a stream that has begun it means that the client is
        gone: no end of the stream will ever come."""
        super().eof_received()
        if self._on_lost is not None:
            self._on_lost()
            return False
        if self._is_tls:
            return False
        bodies = [payload for _, payload in self._messages]
        if self._body is not None:
            bodies.append(self._body)
        is_busy = bool(self._messages) or (self._request_count > 0 and self._waiter is None)
        self._input_ended = is_busy and all(body.is_eof() for body in bodies)
        self._close_behind_the_last()
        return self._input_ended

    @property
    def requests_seen(self) -> int:
        """How many requests all connections of the server have brought; 0 when this one is lost."""
        return 0 if self._manager is None else int(self._manager.requests_count)

    def request_taken(self, body: StreamReader) -> None:
        """A request with this body left the queue."""
        self._body = body
        self._close_behind_the_last()

    def _close_behind_the_last(self) -> None:
        """Behind the last request of a client that sends no more comes the end."""
        if self._input_ended and not self._messages:
            self._close = True

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # the signature is aiohttp's
        """As aiohttp's, which takes the timeout for each of two steps: longer than a stop may take."""
        try:
            async with asyncio.timeout(timeout):
                await super().shutdown(timeout)
        except TimeoutError:
            if self._task_handler is not None:
                self._task_handler.cancel()
            self.force_close()
            self.abort()
        if self._on_lost is not None:
            self.end_stream()  # closing it would wait for a client who takes nothing

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_stall()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_deadline is not None:
            self._stall_deadline.cancel()
            self._stall_deadline = None

    def connection_lost(self, exc: BaseException | None) -> None:
        for deadline in (self._header_deadline, self._stall_deadline):
            if deadline is not None:
                deadline.cancel()
        self._stream = None
        if self._meters is not None:
            self._meters.connections -= 1
        if self._waiter is not None and self._waiter.done() and self._task_handler is not None:
            self._task_handler.cancel()  # it was woken for a request that is dropped here
        super().connection_lost(exc)
        if self.watcher is not None:
            self.watcher.lost(self)
        if self._on_lost is not None:
            self._on_lost()
        # These refer to their connection: with a way back they would stay until cycles are looked for, which is rare.
        for message, _ in self._messages:
            if not isinstance(message, RawRequestMessage):
                let_go(message.exc)
        self._messages.clear()
        self._body = self._on_lost = None

    # --- answers without an end ---

    def begin_stream(self, on_lost: Callable[[], None]) -> None:
        """From here on nothing is read any more: the answer that begins is the last one."""
        self._close = True
        self._on_lost = on_lost
        if self._input_ended:
            on_lost()  # the end came before, with the request

    def send(self, data: bytes, unsent_max_bytes: int) -> bool:
        """Write a piece of a stream, without waiting. False: more than `unsent_max_bytes` wait for the client already,
        and it is cut off."""
        stream = self._stream
        if stream is None or stream.is_closing():
            return True
        if stream.get_write_buffer_size() > unsent_max_bytes:
            self.abort()
            return False
        self._unsent_bytes += len(data)
        stream.write(data)
        return True

    def end_stream(self) -> None:
        """Drop what the client has not taken yet. How much that is with TLS is unseen."""
        if self._stream is not None and (self._is_tls or self._stream.get_write_buffer_size()):
            self.abort()

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
        return cast(web.StreamResponse, self._refuse(error, request_id.of(request)))

    def _refuse(self, error: KvsError, request_id: str) -> Response:
        """What no handler answers; nothing can follow on this connection."""
        if self._meters is not None:
            self._meters.refused(error, None)
        response = problem(error, request_id)
        response.close = True
        return response

    async def deliver(self, writer: StreamWriter, head: bytes, response: Response) -> None:
        """Send a large answer, and wait until the client has taken it. Raises ConnectionError when it is gone."""
        size_bytes = len(response.body)
        # TLS passes on at once what it is given, and says nothing of how much of that waits for the client.
        piece_bytes = TLS_PIECE_BYTES if self._is_tls else size_bytes
        with self._in_room(writer, size_bytes):
            try:
                await writer.write(head, drain=False)
                for start in range(0, size_bytes, piece_bytes):
                    await writer.write(response.body[start : start + piece_bytes], drain=False)
                    if self.writing_paused:
                        await writer.drain()
            finally:
                response.body = b""

    async def drain(self, writer: StreamWriter, size_bytes: int) -> None:
        """Wait until the client has taken an answer that is written. Raises ConnectionError when it is gone."""
        with self._in_room(writer, size_bytes):
            await writer.drain()

    @contextmanager
    def _in_room(self, writer: StreamWriter, size_bytes: int) -> Iterator[None]:
        room, leaving = self._answers, _Leaving(self, writer)
        room.occupy(leaving, size_bytes)
        try:
            yield
        finally:
            room.leave(leaving)

    @property
    def unsent_bytes(self) -> int:
        return 0 if self._stream is None else self._stream.get_write_buffer_size()

    def _end_input(self) -> None:
        """What came is no HTTP; nothing behind it can be. When it is a body that turns out not to be framed as its
        headers said, aiohttp queues the error behind the request that is being read, whose reader would wait for the
        rest until its deadline."""
        self._is_broken = True
        error, payload = self._messages[-1]
        assert not isinstance(error, RawRequestMessage)
        let_go(error.exc)  # aiohttp's frame holds it, with the bytes that came
        short = type(error)(status=error.status, exc=BadHttpMessage("malformed"), message="")
        self._messages[-1] = (short, payload)
        body = self._body
        if body is not None and not body.is_eof():
            body.set_exception(web.RequestPayloadError("the body is not framed as the headers say"))
            self._loop.call_soon(_fail_reader, body)
            self._lingering_time = 0.0  # there is no rest of the body that could be read

    def _await_headers(self) -> None:
        self._header_deadline = self._loop.call_later(HEADER_TIMEOUT_S, self._headers_late)

    def _watch_stall(self) -> None:
        assert self._stream is not None
        self._unsent_bytes = self._stream.get_write_buffer_size()
        self._stall_deadline = self._loop.call_later(RESPONSE_STALL_TIMEOUT_S, self._check_stall)

    def _check_stall(self) -> None:
        assert self._stream is not None
        taken_bytes = self._unsent_bytes - self._stream.get_write_buffer_size()
        if taken_bytes < RESPONSE_STALL_TIMEOUT_S * RESPONSE_MIN_BYTES_PER_S:
            self.is_stalled = True
            self.abort()
        else:
            self._watch_stall()

    def _headers_late(self) -> None:
        self._header_deadline = None
        self.force_close()
        if self._is_tls and self._stream is not None:
            self._stream.abort()  # a client this late would not take part in the end of TLS either

    def abort(self) -> None:
        """End it at once, with a reset: after a mere close the kernel would go on offering what it holds to a client
        that takes nothing, for as long as that client likes."""
        if self._stream is not None:
            raw: socket.socket = self._stream.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._stream.abort()


class _Leaving:
    """An answer on its way, as it is known in the room."""

    def __init__(self, connection: Connection, writer: StreamWriter) -> None:
        self._connection = connection
        self._writer = writer

    def moved_bytes(self) -> int:
        return self._writer.output_size - self._connection.unsent_bytes

    def put_out(self) -> None:
        self._connection.abort()


def client_of(request: web.BaseRequest) -> str:
    """The network that a request comes from."""
    client: str = request.protocol.client  # type: ignore[attr-defined]  # all are of the class above
    return client


class HttpServer(web.Server):
    """aiohttp's low-level server with this project's connections."""

    def __init__(self, handler: Any, meters: Meters | None = None, answers: Room | None = None) -> None:
        """`answers`: where those are that clients are taking."""
        self.meters = meters
        self.answers = answers or Rooms.make().answers
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

    def _make_request(
        self, message: Any, payload: StreamReader, protocol: web.RequestHandler, *others: Any
    ) -> web.BaseRequest:
        assert isinstance(protocol, Connection)
        protocol.request_taken(payload)
        if message.upgrade:  # no other protocol is spoken here, but the parser may have dropped what came behind
            message = message._replace(should_close=True)
        return super()._make_request(message, payload, protocol, *others)

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)


def _fail_reader(body: StreamReader) -> None:
    """Tell whoever waits for more of a body that none comes. The end of a chunk wakes him too, and when that is in one
    piece with an error, aiohttp forgets to tell him."""
    waiter, error = body._waiter, body.exception()
    if waiter is not None and not waiter.done() and error is not None:
        body._waiter = None
        waiter.set_exception(error)
