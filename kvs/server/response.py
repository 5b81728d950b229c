"""A whole response, rendered at once.

aiohttp asks little of what a handler returns: `prepare`, `write_eof`, `keep_alive`. Its own response builds a header
map, completes and serialises it, which costs more than everything KVS does for a GET. This one joins bytes.
"""

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

from aiohttp import HttpVersion, HttpVersion11, web
from aiohttp.http import StreamWriter

from kvs.limits import OFFLOAD_MIN_BYTES
from kvs.storage.record import JSON

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_COMMON = b"Server: kvs\r\nX-Content-Type-Options: nosniff\r\n"
_BODILESS = (204, 304)


class Sender(Protocol):
    """What a connection does for large answers, and for clients that are slow."""

    async def deliver(self, writer: StreamWriter, head: bytes, response: "Response") -> None: ...

    async def drain(self, writer: StreamWriter, size_bytes: int) -> None: ...


class Response:
    """Status, header fields and body of one answer.

    `fields` are complete header lines, each with its CRLF: whoever builds them vouches that no value holds a control
    character. `Content-Length`, `Date`, `Connection` and the fields of every response are added here.
    """

    __slots__ = ("_request", "body", "close", "content_type", "fields", "keep_alive", "request_id", "status")

    def __init__(self, status: int, body: bytes = b"", content_type: str = JSON, fields: bytes = b"") -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.fields = fields
        self.request_id = ""
        self.close = False
        self.keep_alive = False
        """Whether the connection stays open behind this response; known once it is prepared."""
        self._request: web.BaseRequest | None = None

    async def prepare(self, request: web.BaseRequest) -> None:
        self._request = request
        self.keep_alive = not self.close and bool(request.keep_alive)

    async def write_eof(self) -> None:
        """Send everything and wait until the client takes it. Raises ConnectionError when the client is gone."""
        request = self._request
        assert request is not None
        writer: StreamWriter = request.writer  # type: ignore[assignment]  # the declaration is that of its base
        head = self.head(request.version)
        if request.method == "HEAD" or self.status in _BODILESS:
            self.body = b""
        # No variable here holds the body: the error of a client that is gone refers to this frame, which refers to the
        # error, and both live on until Python looks for such cycles.
        size_bytes = len(self.body)
        if size_bytes >= OFFLOAD_MIN_BYTES:
            await cast(Sender, request.protocol).deliver(writer, head, self)
            return
        await writer.write(head + self.body, drain=False)
        self.body = b""  # aiohttp keeps a response until the next request comes
        # Without this a client that asks on and on without reading would fill the memory with small answers.
        if request.protocol.writing_paused:
            await cast(Sender, request.protocol).drain(writer, size_bytes)

    def head(self, version: HttpVersion) -> bytes:
        """Status line and header fields, up to the empty line, for a client that speaks this version of HTTP."""
        if not self.keep_alive:
            connection = b"Connection: close\r\n"
        elif version < HttpVersion11:
            connection = b"Connection: keep-alive\r\n"
        else:
            connection = b""
        content = b"" if self.status in _BODILESS else self._content_fields()
        return b"%b%b%b%bX-Request-ID: %b\r\n%b%b\r\n" % (
            _STATUS_LINES[self.status],
            content,
            self.fields,
            _COMMON,
            self.request_id.encode(),
            _date(),
            connection,
        )

    def _content_fields(self) -> bytes:
        return b"Content-Type: %b\r\nContent-Length: %d\r\n" % (self.content_type.encode(), len(self.body))


_date_cache = (0, b"")


def _date() -> bytes:
    """The Date field, made anew once a second."""
    global _date_cache
    now_s = int(time.time())
    if _date_cache[0] != now_s:
        _date_cache = (now_s, f"Date: {formatdate(now_s, usegmt=True)}\r\n".encode())
    return _date_cache[1]
