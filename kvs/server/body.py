"""Reads request bodies within their limits of size and time, and checks JSON."""

import asyncio
import re
from io import BytesIO
from typing import TypeVar

import msgspec
import orjson
from aiohttp import hdrs
from aiohttp.web import RequestPayloadError

from kvs.errors import BadRequest, RequestTimeout, TooLarge, Unavailable, UnsupportedMedia
from kvs.limits import BODY_FREE_BYTES, BODY_MIN_BYTES_PER_S, BODY_TIMEOUT_S, JSON_DEPTH_MAX
from kvs.server.room import Room
from kvs.server.router import Call

_Fields = TypeVar("_Fields")

_anything = msgspec.json.Decoder(msgspec.Raw)

_PARSER_DEPTH_MAX = 1_024
"""orjson's own."""
_TOO_DEEP = f"it has more than {JSON_DEPTH_MAX} levels of arrays and objects"


async def read_body(call: Call, limit_bytes: int) -> bytes:
    """The whole body. Raises TooLarge before reading when the declared size is over the limit, and while reading when
    the real one is; RequestTimeout when it trickles; Unavailable when there is no place for it, or when it comes slowly
    while others wait for one; UnsupportedMedia when it is compressed.

    Behind a body that was not there yet, `call.principal` is who asks now. Raises Unauthorized or Forbidden when it is
    somebody who is not let in any more.
    """
    request = call.request
    headers = request.headers
    if headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedMedia("compressed request bodies are not taken", field=hdrs.CONTENT_ENCODING)
    length = headers.get(hdrs.CONTENT_LENGTH)
    if length is None and headers.get(hdrs.TRANSFER_ENCODING, "chunked").lower() != "chunked":
        raise UnsupportedMedia("compressed request bodies are not taken", field=hdrs.TRANSFER_ENCODING)
    declared = int(length or 0)
    if declared > limit_bytes:
        raise _too_large(declared, limit_bytes)
    content = request.content
    if content.is_eof():
        body = content.read_nowait()
        if len(body) > limit_bytes:
            raise _too_large(len(body), limit_bytes)
        return body
    needed = declared or limit_bytes
    if call.room is None or needed <= BODY_FREE_BYTES:
        body = await _receive(call, declared, limit_bytes, None)
    else:
        await call.room.place(needed)
        body = await _receive(call, declared, limit_bytes, call.room)
    call.admit_again()
    return body


class _Arriving:
    """A body on its way, as it is known in the room."""

    def __init__(self, deadline: asyncio.Timeout) -> None:
        self.chunks = BytesIO()  # the one buffer of Python that gives its bytes away without a copy
        self.is_put_out = False
        self._deadline = deadline

    def moved_bytes(self) -> int:
        return self.chunks.tell()

    def put_out(self) -> None:
        self.is_put_out = True
        self._deadline.reschedule(asyncio.get_running_loop().time())


async def _receive(call: Call, declared: int, limit_bytes: int, room: Room | None) -> bytes:
    request = call.request
    deadline = asyncio.timeout(BODY_TIMEOUT_S + declared / BODY_MIN_BYTES_PER_S)
    arriving = _Arriving(deadline)
    if room is not None:
        room.occupy(arriving, declared or limit_bytes)
    try:
        async with deadline:
            if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0
            while chunk := await request.content.readany():
                arriving.chunks.write(chunk)
                if arriving.moved_bytes() > limit_bytes:
                    raise _too_large(arriving.moved_bytes(), limit_bytes)
        return arriving.chunks.getvalue()
    except TimeoutError:
        if arriving.is_put_out:
            raise Unavailable("the body came slowly while others waited for its place", code="overloaded") from None
        raise RequestTimeout("the body did not arrive in time") from None
    except RequestPayloadError:
        raise BadRequest("the body is not framed as its headers say", code="malformed_body") from None
    except (OSError, RuntimeError) as error:
        if not isinstance(error, ConnectionError) and request.protocol.connected:
            raise  # what else it is, is a lost connection only where there is none: the end of TLS, aiohttp's own words
        # Nobody is there to be told; it is no failure of the node either.
        raise BadRequest("the connection ended before the body", code="malformed_body") from None
    finally:
        if room is not None:
            room.leave(arriving)


def parse_json(body: bytes) -> object:
    """The document, for looking at. Raises BadRequest for anything that is not strict JSON: NaN, numbers that overflow
    a double, invalid UTF-8, lone surrogates, more than JSON_DEPTH_MAX levels.

    It runs on the event loop, because orjson keeps the interpreter's lock: measured, the loop stands still as long when
    a thread does it. 1 MiB of documents takes 6 ms, 16 MiB 260 ms; twice that with the look at the levels.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid(str(error)) from None
    if body.count(b"[") + body.count(b"{") > JSON_DEPTH_MAX and _is_too_deep(body):
        raise _invalid(_TOO_DEEP)
    return document


def _is_too_deep(text: bytes) -> bool:
    """Whether this JSON has more than JSON_DEPTH_MAX levels: within so many more that the parser's own bound shows."""
    around = _PARSER_DEPTH_MAX - JSON_DEPTH_MAX
    try:
        orjson.loads(b"[" * around + text + b"]" * around)
    except orjson.JSONDecodeError:
        return True
    return False


def take_apart(decoder: msgspec.json.Decoder[_Fields], text: bytes) -> _Fields:
    """What `decoder` reads out of a JSON text. No objects are made of the rest, which is looked at less strictly: a
    number there may overflow a double. Raises BadRequest for a text that is no JSON or has too many levels (some
    hundred more than JSON_DEPTH_MAX), msgspec.ValidationError for JSON of another shape."""
    try:
        text.decode()
        _anything.decode(text)
        return decoder.decode(text)
    except msgspec.ValidationError:
        raise
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise _invalid(str(error)) from None
    except RecursionError:
        raise _invalid(_TOO_DEEP) from None


def _invalid(reason: str) -> BadRequest:
    return BadRequest(f"the body is not a JSON document: {reason}", code="invalid_json")


async def read_fields(call: Call, kind: type[_Fields], limit_bytes: int) -> _Fields:
    """A JSON body with the fields of `kind`; unknown ones are ignored. Raises BadRequest that names the field, and what
    `read_body` raises."""
    body = await read_body(call, limit_bytes)
    parse_json(body)
    try:
        return take_apart(msgspec.json.Decoder(kind), body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not what is expected: {error}", code="invalid_body", **at_fault(error)) from None


_FIELD = re.compile(r"at `\$\.(\w+)|required field `(\w+)`")


def at_fault(error: msgspec.ValidationError) -> dict[str, str]:
    """The member `field` of the problem, if the error is one field's."""
    found = _FIELD.search(str(error))
    return {} if found is None else {"field": found[1] or found[2]}


def _too_large(size_bytes: int, limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit_bytes} bytes", limit=limit_bytes, actual=size_bytes)
