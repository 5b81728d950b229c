"""NATS: a key-value bucket of JetStream, asked in its own protocol by a client in Python, which is slower than wrk and
than the server: the rates are those of the client."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import uvloop

from benchmarks.load import CONNECTIONS, DOCUMENT, KEYS, Outcome
from benchmarks.peers.process import free_port, listens, program, running, version

_STREAM = {
    "name": "KV_bench",
    "subjects": ["$KV.bench.>"],
    "storage": "file",
    "max_msgs_per_subject": 1,
    "discard": "new",
    "allow_rollup_hdrs": True,
    "allow_direct": True,
}
"""What `nats kv add bench` makes."""


class Nats:
    """One server. It acknowledges a write before an fsync, which it makes every two minutes."""

    name = "nats"
    hint = "apt install nats-server"
    told = "its own protocol, a client in Python; no fsync for a write"

    def __init__(self) -> None:
        self._port = 0

    def version(self) -> str:
        return version([program("nats-server", self.hint), "--version"])

    @contextmanager
    def started(self, folder: Path) -> Iterator["Nats"]:
        self._port = free_port()
        command = [program("nats-server", self.hint), "--addr", "127.0.0.1", "--port", str(self._port)]
        command += ["--jetstream", "--store_dir", str(folder / "data")]
        with running(command, folder, lambda: listens(self._port)):
            uvloop.run(self._prepare())
            yield self

    def run(self, method: str, seconds: int, folder: Path, pause_ms: float = 0.0) -> Outcome:
        if pause_ms:
            raise NotImplementedError("this client makes no pauses")
        return uvloop.run(self._load(_put if method == "PUT" else _get, seconds))

    async def _prepare(self) -> None:
        client = await _Client.connected(self._port)
        await client.asked(b"$JS.API.STREAM.CREATE.KV_bench", json.dumps(_STREAM).encode())
        await _put(client, 1)
        client.close()

    async def _load(self, ask: "Callable[[_Client, int], Awaitable[None]]", seconds: int) -> Outcome:
        clients = [await _Client.connected(self._port) for _ in range(CONNECTIONS)]
        numbers, latencies = count(), list[float]()
        begin = time.perf_counter()

        async def one(client: _Client) -> None:
            while (before := time.perf_counter()) < begin + seconds:
                await ask(client, next(numbers) % KEYS)
                latencies.append(time.perf_counter() - before)

        await asyncio.gather(*map(one, clients))
        took_s = time.perf_counter() - begin
        for client in clients:
            client.close()
        latencies.sort()
        return Outcome(
            len(latencies) / took_s,
            latencies[len(latencies) // 2] * 1000,
            latencies[len(latencies) * 99 // 100] * 1000,
        )


class _Client:
    """One connection with one question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inbox: bytes) -> None:
        self._reader, self._writer, self._inbox = reader, writer, inbox

    @classmethod
    async def connected(cls, port: int) -> "_Client":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        inbox = b"_INBOX.%d" % id(writer)
        await reader.readline()  # INFO
        writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB %b 1\r\n' % inbox)
        return cls(reader, writer, inbox)

    async def asked(self, subject: bytes, payload: bytes) -> bytes:
        """The answer to a message. Raises RuntimeError for one that tells of an error."""
        self._writer.write(b"PUB %b %b %d\r\n%b\r\n" % (subject, self._inbox, len(payload), payload))
        while True:
            line = await self._reader.readline()
            if line.startswith(b"PING"):
                self._writer.write(b"PONG\r\n")
            elif line.startswith((b"MSG", b"HMSG")):
                break
            else:
                raise RuntimeError(f"nats-server says {line!r}")
        answer = (await self._reader.readexactly(int(line.split()[-1]) + 2))[:-2]
        if b'"error"' in answer or answer.startswith((b"NATS/1.0 4", b"NATS/1.0 5")):
            raise RuntimeError(f"nats-server answers {answer!r}")
        return answer

    def close(self) -> None:
        self._writer.close()


async def _put(client: _Client, number: int) -> None:
    await client.asked(b"$KV.bench.%d" % number, DOCUMENT)


async def _get(client: _Client, _: int) -> None:
    await client.asked(b"$JS.API.DIRECT.GET.KV_bench.$KV.bench.1", b"")
