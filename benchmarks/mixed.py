"""Reads and writes at a steady pace over several nodes, and what of the writes is there in the end."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit

import uvloop

from benchmarks.load import CONNECTIONS

READS_PERCENT = 95
REQUESTS_PER_S = 3_000
"""Of all nodes together: a pace that a small machine with three nodes on it can keep."""
_KEYS = 200
"""Of each connection, which alone writes them: the last acknowledged number of a key is what has to be there."""


@dataclass
class Told:
    """What the nodes acknowledged: the last number of each key, the writes, and all requests per second."""

    numbers: dict[str, int] = field(default_factory=dict)
    writes: int = 0
    rate: float = 0.0

    def lost_on(self, url: str) -> int:
        """How many keys do not hold what was acknowledged last."""
        return uvloop.run(self._lost_on(url))

    async def _lost_on(self, url: str) -> int:
        client = await _Client.connected(url)
        lost = 0
        for key, number in self.numbers.items():
            status, body = await client.asked(b"GET", key)
            lost += status != 200 or json.loads(body)["data"]["number"] != number
        client.close()
        return lost


def run(urls: Sequence[str], seconds: int) -> Told:
    return uvloop.run(_run(urls, seconds))


async def _run(urls: Sequence[str], seconds: int) -> Told:
    told, turns, begin = Told(), count(), time.perf_counter()

    async def one(connection: int) -> None:
        clients = [await _Client.connected(url) for url in urls]
        for step in count():
            turn = next(turns)
            at_s = begin + turn / REQUESTS_PER_S
            if max(at_s, time.perf_counter()) > begin + seconds:
                break
            await asyncio.sleep(at_s - time.perf_counter())
            client = clients[step % len(clients)]
            key = f"mixed/{connection}/{turn % _KEYS}"
            if turn % 100 < READS_PERCENT:
                status, _ = await client.asked(b"GET", key)
                _check(status in (200, 404), status)
            else:
                # All writes of a connection go to one node: versions of a key follow each other as they were sent.
                status, _ = await clients[connection % len(clients)].asked(b"PUT", key, b'{"number":%d}' % turn)
                _check(status in (200, 201), status)
                told.numbers[key] = turn
                told.writes += 1
        for client in clients:
            client.close()

    await asyncio.gather(*map(one, range(CONNECTIONS)))
    told.rate = next(turns) / (time.perf_counter() - begin)
    return told


def _check(is_good: bool, status: int) -> None:
    if not is_good:
        raise RuntimeError(f"a node answers {status}")


class _Client:
    """One connection with one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connected(cls, url: str) -> "_Client":
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def asked(self, method: bytes, key: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer."""
        head = b"%b /kv/%b HTTP/1.1\r\nHost: kvs\r\nContent-Length: %d\r\n" % (method, key.encode(), len(body))
        self._writer.write(head + b"Content-Type: application/json\r\n\r\n" + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        size_bytes = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        return int(answer[9:12]), await self._reader.readexactly(size_bytes)

    def close(self) -> None:
        self._writer.close()
