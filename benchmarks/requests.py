"""GET and PUT of a small document, in turn, so that all meet the same machine: KVS with a user's token, KVS without
authentication, the same as a member of a cluster, bare handlers, and other databases."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks import processes
from benchmarks.load import CONNECTIONS, KEYS, Outcome
from benchmarks.peers.http import Etcd, Pouchdb
from benchmarks.peers.kvs import Local
from benchmarks.peers.nats import Nats
from benchmarks.peers.process import Missing
from benchmarks.peers.redis import Redis
from benchmarks.report import Findings, Row, say
from benchmarks.spread import Spread

GET_AIM = 0.70
PUT_AIM = 0.60
AUTH_AIM = 0.90
TREE_AIM = 0.90
ETCD_GET_AIM, ETCD_PUT_AIM = 3.0, 1.0
POUCHDB_AIM = 15.0
P99_AIM = 1.0
METHODS = ("GET", "PUT")


class Server(Protocol):
    """One that is measured. `hint`: how it is installed. `told`: what a reader has to know of its figures."""

    name: str
    hint: str
    told: str

    def version(self) -> str: ...

    def started(self, folder: Path) -> AbstractContextManager["Server"]:
        """It, running. Raises Missing when it cannot be had here."""

    def run(self, method: str, seconds: int, folder: Path, pause_ms: float = 0.0) -> Outcome: ...


def servers() -> list[Server]:
    return [
        Local("bare", "constant bytes; a LevelDB batch without fsync", processes.bare),
        Local("plain", "the same on asyncio's own event loop", partial(processes.bare, loop="asyncio")),
        Local("open", "KVS without authentication", processes.open_node),
        Local("member", "KVS in a cluster, without authentication", processes.member),
        Local("KVS", "all defaults, with a user's token", processes.node),
        Etcd(),
        Pouchdb(),
        Redis(),
        Nats(),
    ]


def measure(rounds: int, seconds: int, findings: Findings) -> None:
    """All servers run at once and are asked in turn, for `seconds` each: what else happens on the machine then meets
    all of them. A first round warms up and does not count."""
    with tempfile.TemporaryDirectory(prefix="kvs-bench-") as name, _all_started(Path(name), findings) as started:
        outcomes = {(server.name, method): list[Outcome]() for server in started for method in METHODS}
        for method in METHODS:
            for number in range(rounds + 1):
                for server in started:
                    outcome = server.run(method, seconds, Path(name))
                    if number:
                        outcomes[server.name, method].append(outcome)
                if number:
                    rates = (f"{server.name} {outcomes[server.name, method][-1].rate:,.0f}/s" for server in started)
                    say(f"{method} round {number}: {', '.join(rates)}")
        findings.rows += _rates(outcomes)
        findings.rows.append(_in_turn(started, rounds, seconds, Path(name)))
        findings.rows += _at_half_of_the_peak(started, outcomes, rounds, seconds, Path(name))
    for server in started:
        for method in METHODS:
            findings.add_point("throughput", server=server.name, method=method, **_summary(outcomes, server, method))


@contextmanager
def _all_started(folder: Path, findings: Findings) -> Iterator[list[Server]]:
    """Those that can be had; why the others are missing is noted."""
    started: list[Server] = []
    with ExitStack() as running:
        for server in servers():
            try:
                (folder / server.name).mkdir()
                running.enter_context(server.started(folder / server.name))
                findings.peers[server.name] = f"{server.version()}: {server.told}"
                started.append(server)
            except Missing as missing:
                findings.peers[server.name] = f"not compared: {missing}"
                say(f"{server.name} is left out: {missing}")
        yield started


def _rates(outcomes: dict[tuple[str, str], list[Outcome]]) -> list[Row]:
    wanted = [
        ("GET of a 100 byte document, against constant bytes", "KVS", "bare", "GET", GET_AIM),
        ("PUT with fsync, against one batch without, on uvloop as KVS", "KVS", "bare", "PUT", PUT_AIM),
        ("PUT with fsync, against one batch without, on asyncio's own loop", "KVS", "plain", "PUT", PUT_AIM),
        ("GET with a token, against none asked for", "KVS", "open", "GET", AUTH_AIM),
        ("PUT with a token, against none asked for", "KVS", "open", "PUT", AUTH_AIM),
        ("PUT with clustering, against without", "member", "open", "PUT", TREE_AIM),
        ("GET, against a serializable range of etcd's gateway", "KVS", "etcd", "GET", ETCD_GET_AIM),
        ("PUT, against a put of etcd's gateway", "KVS", "etcd", "PUT", ETCD_PUT_AIM),
        ("GET, against pouchdb-server", "KVS", "pouchdb-server", "GET", POUCHDB_AIM),
        ("PUT, against pouchdb-server", "KVS", "pouchdb-server", "PUT", POUCHDB_AIM),
        ("GET, against Redis in its own protocol", "KVS", "redis", "GET", None),
        ("PUT, against Redis in its own protocol", "KVS", "redis", "PUT", None),
        ("GET, against NATS in its own protocol", "KVS", "nats", "GET", None),
        ("PUT, against NATS in its own protocol", "KVS", "nats", "PUT", None),
    ]
    return [
        _rate_row(what, outcomes[mine, method], outcomes[other, method], aim)
        for what, mine, other, method, aim in wanted
        if (other, method) in outcomes
    ]


def _rate_row(what: str, kvs: Sequence[Outcome], other: Sequence[Outcome], aim: float | None) -> Row:
    return Row.of_rates(
        what,
        [(mine.rate, theirs.rate) for mine, theirs in zip(kvs, other, strict=True)],
        aim,
        notes=f"p50 {Spread.of([o.p50_ms for o in kvs]).median:.2f} ms, "
        f"p99 {Spread.of([o.p99_ms for o in kvs]).median:.2f} ms",
    )


def _in_turn(started: Sequence[Server], rounds: int, seconds: int, folder: Path) -> Row:
    """GET of many keys, one behind the other."""
    servers = [server for server in started if isinstance(server, Local) and server.name in ("KVS", "bare")]
    next(server for server in servers if server.name == "KVS").fill()
    found = {server.name: list[Outcome]() for server in servers}
    for _ in range(rounds):
        for server in servers:
            found[server.name].append(server.run("GET in turn", seconds, folder))
    what = f"GET of {KEYS:,} such documents in turn, against constant bytes"
    return _rate_row(what, found["KVS"], found["bare"], None)


def _at_half_of_the_peak(
    started: Sequence[Server],
    outcomes: dict[tuple[str, str], list[Outcome]],
    rounds: int,
    seconds: int,
    folder: Path,
) -> list[Row]:
    """The 99th percentile of each, at half of the rate that it reached itself."""
    by_name = {server.name: server for server in started}
    if "etcd" not in by_name:
        return []
    rows = []
    for method in METHODS:
        pauses = {name: _pause_ms(outcomes[name, method]) for name in ("KVS", "etcd")}
        found: dict[str, list[Outcome]] = {"KVS": [], "etcd": []}
        for number in range(rounds):
            for name, pause_ms in pauses.items():
                found[name].append(by_name[name].run(method, seconds, folder, pause_ms))
            p99s = ", ".join(f"{name} {found[name][-1].p99_ms:.2f} ms" for name in found)
            say(f"{method} at half of the peak, p99, round {number + 1}: {p99s}")
        mine, theirs = ([outcome.p99_ms for outcome in found[name]] for name in ("KVS", "etcd"))
        rates = [Spread.of([outcome.rate for outcome in found[name]]).median for name in ("KVS", "etcd")]
        rows.append(
            Row(
                f"{method} at half of the peak rate of each: p99, against etcd's",
                kvs=f"{Spread.of(mine).median:.2f} ms",
                other=f"{Spread.of(theirs).median:.2f} ms",
                figure=Spread.of([a / b for a, b in zip(mine, theirs, strict=True)]),
                aim=P99_AIM,
                at_least=False,
                notes=f"KVS at {rates[0]:,.0f}/s, etcd at {rates[1]:,.0f}/s",
            )
        )
    return rows


def _pause_ms(outcomes: Sequence[Outcome]) -> float:
    """Of each connection between two requests, so that half of the rate is left: as long as a request took when all of
    them were waiting for answers, and as long again as it takes less now."""
    peak = Spread.of([outcome.rate for outcome in outcomes]).median
    turn_ms = 1000 * CONNECTIONS / (peak / 2)
    return turn_ms - turn_ms / 8  # an answer takes about a quarter of what it took at the peak


def _summary(outcomes: dict[tuple[str, str], list[Outcome]], server: Server, method: str) -> dict[str, float]:
    found = outcomes[server.name, method]
    rate = Spread.of([outcome.rate for outcome in found])
    return {
        "median": rate.median,
        "low": rate.low,
        "high": rate.high,
        "p50_ms": Spread.of([outcome.p50_ms for outcome in found]).median,
        "p99_ms": Spread.of([outcome.p99_ms for outcome in found]).median,
    }
