"""Three nodes in a cluster: how fast a write is on another node, and how evenly they work under a mixed load."""

import http.client
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import mixed, processes
from benchmarks.peers import moat
from benchmarks.processes import SECRET, Running
from benchmarks.report import Findings, Row, say
from benchmarks.spread import Spread
from tests.process.stream import Stream

WRITES_PER_S = 1_000
P50_AIM_MS, P99_AIM_MS, LAG_AIM_MS = 5.0, 50.0, 10.0
_NODES = 3
_POLL_S = 0.02
_ANSWER_TIMEOUT_S = 120.0
_LAG = re.compile(r'^kvs_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


def measure(probes: int, mixed_s: int, findings: Findings) -> None:
    """`probes` writes are followed for each figure of the push; the mixed load lasts `mixed_s`."""
    with _cluster() as nodes:
        idle = _push_ms(nodes, "idle", probes)
        stream = Stream(nodes[2].url, WRITES_PER_S)
        try:
            busy = _push_ms(nodes, "busy", probes)
        finally:
            sent = stream.end()
        findings.rows += _push_rows("a write on one node until it is read on another", idle)
        findings.rows += _push_rows(f"the same while a third node takes {sent.per_s:,.0f} writes/s", busy)
        findings.peers[moat.NAME] = moat.why_not()
        findings.rows += _mixed_rows(nodes, mixed_s)


@contextmanager
def _cluster() -> Iterator[list[Running]]:
    with tempfile.TemporaryDirectory(prefix="kvs-bench-") as name, ExitStack() as running:
        nodes: list[Running] = []
        for number in range(1, _NODES + 1):
            folder = Path(name) / f"n{number}"
            folder.mkdir()
            nodes.append(running.enter_context(processes.member(folder, seed=nodes[0] if nodes else None)))
        for node in nodes:
            node.wait_until_ready()
            _wait(partial(_knows_all, node))
        yield nodes


def _knows_all(node: Running) -> bool:
    return len(json.loads(node.request("GET", "/members/")[1])) == _NODES


# --- push ---


def _push_ms(nodes: list[Running], name: str, probes: int) -> list[float]:
    """From the acknowledgement of a write on the first node until the second has it."""
    source, target = (_Keeping(node) for node in nodes[:2])
    found = []
    for number in range(probes):
        path = f"/kv/push/{name}/{number}"
        if source.status("PUT", path, b'{"number":%d}' % number) != 201:
            raise RuntimeError("a write of the push was refused")
        begin = time.perf_counter()
        while target.status("GET", path) != 200:
            if time.perf_counter() > begin + _ANSWER_TIMEOUT_S:
                raise RuntimeError("a write never reached the other node")
        found.append((time.perf_counter() - begin) * 1000)
    return found


def _push_rows(what: str, found: list[float]) -> list[Row]:
    rows = []
    for name, part, aim in (("median", 0.5, P50_AIM_MS), ("p99", 0.99, P99_AIM_MS)):
        figure = _quantile(found, part)
        say(f"{what}: {name} {figure:.2f} ms")
        rows.append(Row(f"{what}: {name}, ms", f"{figure:.2f} ms", "", Spread.of([figure]), aim, at_least=False))
    return rows


def _quantile(found: list[float], part: float) -> float:
    return sorted(found)[min(int(len(found) * part), len(found) - 1)]


def _wait(condition: Callable[[], bool]) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + _ANSWER_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster does not get there")
        time.sleep(_POLL_S)


class _Keeping:
    """A client that keeps its connection."""

    def __init__(self, node: Running) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(node.url).netloc, timeout=_ANSWER_TIMEOUT_S)

    def status(self, method: str, path: str, body: bytes | None = None) -> int:
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        response.read()
        return response.status


# --- a mixed load ---


def _mixed_rows(nodes: list[Running], seconds: int) -> list[Row]:
    before = [_lag_counts(node) for node in nodes]
    told = mixed.run([node.url for node in nodes], seconds)
    lags = [lag_p99_ms(first, _lag_counts(node)) for first, node in zip(before, nodes, strict=True)]
    _wait(lambda: len({_root(node) for node in nodes}) == 1)
    lost = sum(told.lost_on(node.url) for node in nodes)
    what = f"{mixed.READS_PERCENT}/{100 - mixed.READS_PERCENT} reads and writes for {seconds} s on three nodes"
    say(f"{what}: {told.rate:,.0f}/s, lag p99 {max(lags):.1f} ms, {lost} lost")
    return [
        Row(
            f"{what}: lag of the event loop, p99 of the worst node, ms",
            f"{max(lags):.1f} ms",
            "",
            Spread.of(lags),
            LAG_AIM_MS,
            at_least=False,
            notes=f"{told.rate:,.0f} requests/s of {mixed.REQUESTS_PER_S:,} wanted, {told.writes:,} of them writes",
        ),
        Row(f"{what}: acknowledged writes that are missing", str(lost), "", Spread.of([lost]), 0.0, at_least=False),
    ]


def _lag_counts(node: Running) -> dict[float, float]:
    """Of the histogram: how many were at most so late, in seconds."""
    return {float(le): float(count) for le, count in _LAG.findall(node.request("GET", "/metrics")[1].decode())}


def lag_p99_ms(before: dict[float, float], after: dict[float, float]) -> float:
    """The bound of the bucket that holds it: it was no later."""
    counts = {le: after[le] - before.get(le, 0.0) for le in sorted(after)}
    wanted = 0.99 * max(counts.values())
    return next(le for le, count in counts.items() if count >= wanted) * 1000


def _root(node: Running) -> bytes:
    headers = {"X-Cluster-Secret": SECRET, "X-Node-ID": "bench"}
    connection = http.client.HTTPConnection(urlsplit(node.url).netloc, timeout=_ANSWER_TIMEOUT_S)
    connection.request("GET", "/merkle_tree/root", headers=headers)
    return connection.getresponse().read()
