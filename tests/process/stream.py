"""A second process that writes at a steady pace, whatever the node makes of it."""

import asyncio
import multiprocessing
import time
from http.client import HTTPException
from itertools import count
from multiprocessing.connection import Connection
from typing import NamedTuple
from urllib.parse import urlsplit

_CONNECTIONS = 8
_KEYS = 5_000


class Sent(NamedTuple):
    """Writes that were acknowledged, and over how many seconds."""

    writes: int
    seconds: float

    @property
    def per_s(self) -> float:
        return self.writes / self.seconds


class Stream:
    """Small PUTs to the node at `url`, `per_s` of them a second over several connections, until it is ended."""

    def __init__(self, url: str, per_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, url, per_s), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it writes

    def end(self) -> Sent:
        self._pipe.send("end")
        sent = self._pipe.recv()
        self._pipe.close()
        self._process.join()
        assert isinstance(sent, Sent)
        return sent


def _serve(pipe: Connection, url: str, per_s: float) -> None:
    pipe.send(asyncio.run(_write(pipe, url, per_s)))


async def _write(pipe: Connection, url: str, per_s: float) -> Sent:
    address = urlsplit(url)
    streams = [await asyncio.open_connection(address.hostname, address.port) for _ in range(_CONNECTIONS)]
    numbers, start = count(), time.monotonic()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), ended.set)
    pipe.send("started")

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        written = 0
        while not ended.is_set():
            number = next(numbers)
            await _until(start + number / per_s, ended)
            body = b'{"number":%d,"text":"%b"}' % (number, b"x" * 60)
            head = f"PUT /kv/stream/{number % _KEYS} HTTP/1.1\r\nHost: kvs\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await _read_answer(reader)
            written += 1
        writer.close()
        return written

    written = await asyncio.gather(*(write(*stream) for stream in streams))
    asyncio.get_running_loop().remove_reader(pipe.fileno())
    return Sent(sum(written), time.monotonic() - start)


async def _until(moment_s: float, ended: asyncio.Event) -> None:
    """Until this moment of the monotonic clock, or the end."""
    left_s = moment_s - time.monotonic()
    if left_s > 0:
        try:
            async with asyncio.timeout(left_s):
                await ended.wait()
        except TimeoutError:
            return


async def _read_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if head[9:12] not in (b"200", b"201"):
        raise HTTPException(head.decode("latin-1"))
    size_bytes = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    await reader.readexactly(size_bytes)
