"""A node under attack, and what a healthy client sees of it meanwhile.

The healthy client is a process of its own, so that the attackers, which run here, do not take its time. It asks in
rounds: /health on a new connection, a GET and a PUT on one that stays. An attack goes on until it has seen enough.
"""

import asyncio
import multiprocessing
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from multiprocessing.connection import Connection
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from tests.process.daemon import Client

ROUNDS = 100
_ANSWER_TIMEOUT_S = 20.0
_MIB = 1024 * 1024


class Seen(NamedTuple):
    """What the healthy client saw. Durations in seconds, sizes in MiB."""

    health_max_s: float
    p99_s: float
    grown_mib: float
    failures: list[str]

    def __str__(self) -> str:
        return (
            f"/health at most {self.health_max_s * 1000:.0f} ms, p99 {self.p99_s * 1000:.0f} ms, "
            f"grown by {self.grown_mib:.0f} MiB, {len(self.failures)} failures"
        )


class Watch:
    """The healthy client of a node."""

    def __init__(self, url: str, pid: int, authority: str = "") -> None:
        """`authority` is the file of the authority of a node on HTTPS."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_watch, args=(theirs, url, pid, authority), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it has seen the node at peace

    def rounds(self) -> int:
        """How many are over."""
        self._pipe.send("rounds")
        found = self._pipe.recv()
        assert isinstance(found, int)
        return found

    def seen(self) -> Seen:
        """What it saw; it ends."""
        self._pipe.send("seen")
        found = self._pipe.recv()
        self._process.join()
        assert isinstance(found, Seen)
        return found


def _watch(pipe: Connection, url: str, pid: int, authority: str) -> None:
    """In the other process."""
    tls = ssl.create_default_context(cafile=authority) if authority else None
    node = psutil.Process(pid)
    client = Client(url, tls=tls)
    failures: list[str] = []
    health_s: list[float] = []
    others_s: list[float] = []

    def timed(asking: Client, method: str, path: str, body: bytes | None, expected: Sequence[int]) -> float:
        started_s = time.monotonic()
        try:
            answer = asking.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            if answer.status not in expected:
                failures.append(f"{method} {path}: {answer.status} {answer.body[:200]!r}")
        except Exception as error:  # whatever keeps it from an answer is what is looked for
            failures.append(f"{method} {path}: {type(error).__name__} {error}")
        return time.monotonic() - started_s

    def look() -> None:
        fresh = Client(url, tls=tls)
        health_s.append(timed(fresh, "GET", "/health", None, (200,)))
        fresh.close()
        others_s.append(timed(client, "PUT", "/kv/healthy", b'{"a": 1}', (200, 201)))
        others_s.append(timed(client, "GET", "/kv/healthy", None, (200,)))

    for _ in range(20):
        look()
    failures.clear()
    health_s.clear()
    others_s.clear()
    before = most = _own_bytes(node)
    pipe.send("ready")
    question = ""
    while question != "seen":
        look()
        most = max(most, _own_bytes(node))
        if pipe.poll():
            question = pipe.recv()
            if question == "rounds":
                pipe.send(len(health_s))
    p99_s = sorted(others_s)[int(len(others_s) * 0.99)]
    pipe.send(Seen(max(health_s), p99_s, (most - before) / _MIB, failures))


def _own_bytes(node: psutil.Process) -> int:
    """Without the files that LevelDB maps: their pages are the kernel's cache, which it takes back when it likes."""
    memory = node.memory_info()
    return int(memory.rss - memory.shared)


# --- attackers ---

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Field:
    """Where an attack takes place."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._tls = tls

    @asynccontextmanager
    async def connected(self, *, receive_bytes: int = 0, plain: bool = False) -> AsyncIterator[Stream]:
        """One connection, with TLS where the node has it; `receive_bytes` makes what it reads unasked small."""
        stream = await asyncio.open_connection(
            self._host, self._port, ssl=None if plain else self._tls, limit=receive_bytes or 65536
        )
        try:
            yield stream
        finally:
            stream[1].transport.abort()

    async def answered(self, sent: bytes) -> bytes:
        """What comes back until the node closes, at most so much; the node may close while it is sent."""
        async with self.connected() as (reader, writer):
            with suppress(ConnectionError, ssl.SSLError):
                writer.write(sent)
                await writer.drain()
            with suppress(ConnectionError, ssl.SSLError):
                return await asyncio.wait_for(reader.read(65536), _ANSWER_TIMEOUT_S)
        return b""


Attack = Callable[[Field, Callable[[], bool]], Awaitable[None]]
"""Goes on while the second argument says yes."""


def besiege(watch: Watch, field: Field, attack: Attack) -> Seen:
    """Attack until the healthy client has been through enough rounds."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        enough = False
        attacking = asyncio.ensure_future(attack(field, lambda: not enough))
        while not attacking.done() and await loop.run_in_executor(None, watch.rounds) < ROUNDS:
            pass
        enough = True
        attacking.cancel()  # some may wait for the node still
        with suppress(asyncio.CancelledError):
            await attacking

    asyncio.run(run())
    return watch.seen()


async def crowd(count: int, one: Callable[[int], Awaitable[None]]) -> None:
    """So many attackers at once. One whose connection the node ends is done."""

    async def guarded(number: int) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            await one(number)

    await asyncio.gather(*(guarded(number) for number in range(count)))
