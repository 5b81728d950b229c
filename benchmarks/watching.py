"""What watchers cost those who write: two nodes are written to in turn, and one of them has 1,000 clients that watch
every key of it.

The watchers are in a process of their own, which throws away what it gets inside the kernel: that they read costs the
machine something too, and is not what is measured.
"""

import multiprocessing
import resource
import selectors
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import processes
from benchmarks.load import CONNECTIONS, PUTS, Outcome, run_wrk
from benchmarks.processes import Running
from benchmarks.report import Row, say
from benchmarks.spread import Spread

WATCHERS = 1_000
AIM = 2 / 3
"""A writer loses a third at most."""
_WRITERS = {"one writer": 1, f"{CONNECTIONS} writers": CONNECTIONS}
_REQUEST = b"GET /watch?prefix=bench/ HTTP/1.1\r\nHost: kvs\r\n\r\n"
_FILES = 4_096
_PIECE_BYTES = 1 << 20


def measure(rounds: int, seconds: int) -> list[Row]:
    """As `benchmarks.requests.measure`."""
    outcomes: dict[tuple[str, str], list[Outcome]] = {}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(_FILES, hard)), hard))
    with tempfile.TemporaryDirectory(prefix="kvs-bench-") as folder, ExitStack() as running:
        servers = {}
        for name in ("watched", "alone"):
            (Path(folder) / name).mkdir()
            servers[name] = running.enter_context(processes.open_node(Path(folder) / name))
        running.enter_context(_watchers(servers["watched"]))
        for writers, connections in _WRITERS.items():
            for number in range(rounds + 1):
                for name, server in servers.items():
                    outcome = run_wrk(server.url, server.headers, seconds, PUTS, Path(folder), connections=connections)
                    if number:
                        outcomes.setdefault((writers, name), []).append(outcome)
                if number:
                    rates = (f"{name} {outcomes[writers, name][-1].rate:,.0f}/s" for name in servers)
                    say(f"{writers}, round {number}: " + ", ".join(rates))
    return [_row(writers, outcomes[writers, "watched"], outcomes[writers, "alone"]) for writers in _WRITERS]


def _row(writers: str, watched: list[Outcome], alone: list[Outcome]) -> Row:
    return Row.of_rates(
        f"PUT by {writers} with {WATCHERS:,} watchers of these keys, against none",
        [(one.rate, other.rate) for one, other in zip(watched, alone, strict=True)],
        AIM,
        notes=f"p99 {Spread.of([one.p99_ms for one in watched]).median:.2f} ms, "
        f"{Spread.of([one.p99_ms for one in alone]).median:.2f} ms",
    )


@contextmanager
def _watchers(server: Running) -> Iterator[None]:
    """Raises RuntimeError, at the end, if the node cut one of them off."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_watch, args=(server.url, theirs), daemon=True)
    process.start()
    try:
        assert mine.recv() == "watching"
        yield
        mine.send("end")
        lost, got_bytes = mine.recv()
    finally:
        process.terminate()
        process.join()
    say(f"the watchers got {got_bytes / WATCHERS / 1e6:,.1f} MB each")
    if lost:
        raise RuntimeError(f"{lost} watchers were cut off")


def _watch(url: str, pipe: Connection) -> None:
    """The other process."""
    parts = urlsplit(url)
    ready = selectors.DefaultSelector()
    for _ in range(WATCHERS):
        stream = socket.create_connection((parts.hostname or "", parts.port or 0))
        stream.sendall(_REQUEST)
        assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        ready.register(stream, selectors.EVENT_READ)
    ready.register(pipe, selectors.EVENT_READ)
    pipe.send("watching")
    lost = got_bytes = 0
    nothing = bytearray(_PIECE_BYTES)
    while True:
        for key, _ in ready.select():
            if key.fileobj is pipe:
                pipe.send((lost, got_bytes))
                return
            stream = key.fileobj  # type: ignore[assignment]  # the others are sockets
            try:
                size_bytes = stream.recv_into(nothing, _PIECE_BYTES, socket.MSG_TRUNC)
            except ConnectionError:
                size_bytes = 0
            got_bytes += size_bytes
            if not size_bytes:
                ready.unregister(stream)
                lost += 1
