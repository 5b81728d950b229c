"""What hostile clients do. Each attack goes on while `goes_on()` says so.

Those that are answered check that they are refused in the way they should, and nothing else.
"""

import asyncio
import os
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import count

from tests.process.siege import Field, crowd

GoesOn = Callable[[], bool]
LARGE_BYTES = 8 * 1024 * 1024
SMALL_BYTES = 60_000
_TRICKLE_S = 0.05
_MIB = 1024 * 1024


async def _moment() -> None:
    """Between two drops of a trickle."""
    passed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(_TRICKLE_S, passed.set_result, None)
    await passed


# --- slow ones ---


async def _trickle(field: Field, goes_on: GoesOn, begin: bytes, drop: bytes) -> None:
    """Send the begin at once, and then a drop now and then."""
    async with field.connected() as (reader, writer):
        writer.write(begin)
        while goes_on() and not reader.at_eof():
            await writer.drain()
            await _moment()
            writer.write(drop)


async def slow_headers(field: Field, goes_on: GoesOn) -> None:
    begins = [b"", b"GET /kv/a HT", b"GET /kv/a HTTP/1.1\r\nHost: a\r\nX: "]
    await crowd(800, lambda number: _trickle(field, goes_on, begins[number % 3], b"x"))


async def slow_bodies(field: Field, goes_on: GoesOn) -> None:
    head = b"PUT /kv/%d HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
    framings = [b"Content-Length: 16000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n200000\r\n"]
    begins = [head + framing + bytes(2_000_000) for framing in framings]
    await crowd(200, lambda number: _trickle(field, goes_on, begins[number % 2] % number, b"x"))


async def _read_little(field: Field, goes_on: GoesOn, asked: bytes) -> None:
    async with field.connected(receive_bytes=1024) as (reader, writer):
        writer.write(asked)
        while goes_on() and await reader.read(1):
            await _moment()


async def slow_readers(field: Field, goes_on: GoesOn) -> None:
    async def one(_: int) -> None:
        while goes_on():
            with suppress(ConnectionError):
                await _read_little(field, goes_on, b"GET /kv/large HTTP/1.1\r\nHost: a\r\n\r\n")

    await crowd(100, one)


async def readers_of_nothing(field: Field, goes_on: GoesOn) -> None:
    asked = b"GET /kv/small HTTP/1.1\r\nHost: a\r\n\r\n" * 2_000
    await crowd(150, lambda _: _read_little(field, goes_on, asked))


async def silent_connections(field: Field, goes_on: GoesOn) -> None:
    """On HTTPS they never begin a handshake."""

    async def one(_: int) -> None:
        async with field.connected(plain=True) as (reader, _writer):
            while goes_on() and not reader.at_eof():
                await _moment()

    await crowd(1_000, one)


# --- many and endless ones ---


async def pipelines(field: Field, goes_on: GoesOn) -> None:
    async def one(_: int) -> None:
        while goes_on():
            async with field.connected() as (reader, writer):
                sending = asyncio.ensure_future(_send(writer, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 10_000))
                got = 0
                while goes_on() and got < 10_000 and (part := await reader.read(65536)):
                    got += part.count(b"HTTP/1.1 200 OK")
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    await crowd(3, one)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def endless_bodies(field: Field, goes_on: GoesOn) -> None:
    """As chunks of one byte, as chunks of a mebibyte, and as a length that is a lie."""
    head = b"PUT /kv/endless HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    kinds = [
        (chunked, b"1\r\nx\r\n" * 10_000),
        (chunked, b"100000\r\n" + bytes(_MIB) + b"\r\n"),
        (chunked, b"1;" + b"e" * 8_000 + b"\r\nx\r\n"),
        (head + b"Content-Length: 16777216\r\n\r\n", bytes(_MIB)),
    ]

    async def one(number: int) -> None:
        begin, more = kinds[number % len(kinds)]
        while goes_on():
            with suppress(ConnectionError):
                async with field.connected() as (reader, writer):
                    writer.write(begin)
                    while goes_on() and not reader.at_eof():
                        writer.write(more)
                        await writer.drain()

    await crowd(8, one)


async def churn(field: Field, goes_on: GoesOn) -> None:
    """Connections that come and go, with a request, half of one, or nothing."""

    async def one(number: int) -> None:
        for turn in count(number):
            if not goes_on():
                return
            with suppress(OSError):
                async with field.connected(plain=turn % 4 == 0) as (reader, writer):
                    writer.write((b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\n", b"")[turn % 3])
                    if turn % 3 == 0:
                        await reader.read(100)

    await crowd(20, one)


# --- broken and oversized ones ---


def _put(fields: bytes, body: bytes = b"") -> bytes:
    return b"PUT /kv/hostile HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n" + body


SMUGGLED = b"PUT /kv/smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1"
REFUSED: dict[str, tuple[bytes, Sequence[int]]] = {
    "length and chunks": (
        _put(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
        (400,),
    ),
    "two lengths": (_put(b"Content-Length: 5\r\nContent-Length: 0\r\n", b"hello" + SMUGGLED), (400,)),
    "length with a sign": (_put(b"Content-Length: +5\r\n", b"hello" + SMUGGLED), (400,)),
    "unknown coding": (_put(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + SMUGGLED), (400,)),
    "space before the colon": (_put(b"Content-Length : 5\r\n", b"hello" + SMUGGLED), (400,)),
    "bad chunk": (_put(b"Transfer-Encoding: chunked\r\n", b"0x5\r\nhello\r\n0\r\n\r\n" + SMUGGLED), (400,)),
    "chunk of 16 EiB": (_put(b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\n" + SMUGGLED), (400, 413)),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (200, 400)),
    "request line": (b"GET /" + b"a" * 200_000, (400,)),
    "field": (b"GET / HTTP/1.1\r\nX: " + b"a" * _MIB, (400,)),
    "fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 100_000, (400,)),
    "2 GiB announced": (_put(b"Content-Type: text/plain\r\nContent-Length: 2147483648\r\n", bytes(_MIB)), (413,)),
    "JSON too large": (_put(b"Content-Length: 3000000\r\n", b"1" * 3_000_000), (413,)),
    "deep JSON": (_put(b"Content-Length: 1000000\r\n", b"[" * 1_000_000), (400,)),
    "deep objects": (_put(b"Content-Length: 1000000\r\n", b'{"a":' * 200_000), (400,)),
    "long number": (_put(b"Content-Length: 1000000\r\n", b"1" * 1_000_000), (200, 201, 400)),
    "many keys": (
        _put(b"Content-Length: 1000001\r\n", b"{" + b",".join(b'"%07d":1' % n for n in range(83_333)) + b"}    "),
        (200, 201, 400),
    ),
    "gzip": (
        _put(b"Content-Encoding: gzip\r\nContent-Length: 10000\r\n", zlib.compress(bytes(10_000_000))[:10_000]),
        (415,),
    ),
    "zstd": (_put(b"Content-Encoding: zstd\r\nContent-Length: 5\r\n", b"\x28\xb5\x2f\xfd1"), (415,)),
    "garbage": (os.urandom(100_000), (400,)),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    "TLS on a port that does not speak it": (b"\x16\x03\x01\x02\x00" + os.urandom(600), (400,)),
    "query": (b"GET /kv/_range?" + b"a=b&" * 3_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    "entity tags": (b"GET /kv/small HTTP/1.1\r\nHost: a\r\nIf-None-Match: " + b'"a",' * 1_500 + b"\r\n\r\n", (400,)),
}
"""What no client would send, and what the first answer to it may be; nothing behind it may be carried out."""


async def broken_requests(field: Field, goes_on: GoesOn) -> None:
    """All of them, again and again. An answer of another kind ends the attack with an error."""

    async def one(number: int) -> None:
        for turn in count(number):
            if not goes_on():
                return
            name, (sent, expected) = list(REFUSED.items())[turn % len(REFUSED)]
            answer = await field.answered(sent)
            status = int(answer[9:12] or 0)
            if answer and status not in (*expected, 503):
                raise AssertionError(f"{name}: {answer[:300]!r}")

    await crowd(10, one)


# --- costly ones ---


async def costly_reads(field: Field, goes_on: GoesOn) -> None:
    targets = (
        b"/kv/_range?limit=1000",
        b"/kv/_range?prefix=x&limit=1000&keys_only",
        b"/kv/_list?depth=512&limit=1000",
        b"/kv/_list?delimiter=e",
        b"/api/data/large/history",
    )

    async def one(number: int) -> None:
        asked = b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % targets[number % len(targets)]
        while goes_on():
            async with field.connected() as (reader, writer):
                writer.write(asked)
                while goes_on() and await reader.read(_MIB):
                    pass

    await crowd(20, one)


async def costly_writes(field: Field, goes_on: GoesOn) -> None:
    """Bulk requests whose items are all wrong, or all for one key."""
    wrong = b'{"op":"put","path":"' + b"/" * 1_000 + b'","data":1}\n'
    same = b'{"op":"put","path":"hostile","data":[]}\n'
    bodies = [wrong * 3_000, same * 10_000, b'{"op":' * 100_000, b"\n" * 5_000_000]

    async def one(number: int) -> None:
        body = bodies[number % len(bodies)]
        head = b"POST /kv/_bulk HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        while goes_on():
            await field.answered(head + body)

    await crowd(4, one)


ON_HTTP: Sequence[Callable[[Field, GoesOn], Awaitable[None]]] = (
    slow_headers,
    slow_bodies,
    slow_readers,
    readers_of_nothing,
    silent_connections,
    pipelines,
    endless_bodies,
    churn,
    broken_requests,
    costly_reads,
    costly_writes,
)
ON_HTTPS: Sequence[Callable[[Field, GoesOn], Awaitable[None]]] = (
    slow_bodies,
    slow_readers,
    silent_connections,
    churn,
)
