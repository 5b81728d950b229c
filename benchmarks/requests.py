"""GET and PUT of a small document, in turn, so that all meet the same machine: KVS with a user's token, KVS without
authentication, the same as a member of a cluster, and bare handlers."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks import processes
from benchmarks.load import DOCUMENT, GET_PATH, Outcome, run_wrk, write_script
from benchmarks.processes import Running
from benchmarks.report import Row, say
from benchmarks.spread import Spread

GET_AIM = 0.70
PUT_AIM = 0.60
AUTH_AIM = 0.90
TREE_AIM = 0.90

_SERVERS = {"bare": processes.bare, "open": processes.open_node, "member": processes.member, "KVS": processes.node}


def measure(rounds: int, seconds: int) -> list[Row]:
    """All servers run at once and are asked in turn, for `seconds` each: what else happens on the machine then meets
    all of them. A first round warms up and does not count."""
    outcomes: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory(prefix="kvs-bench-") as folder, ExitStack() as running:
        script = write_script(Path(folder))
        servers = {name: running.enter_context(start(_made(Path(folder) / name))) for name, start in _SERVERS.items()}
        for server in servers.values():
            _write_document(server)
        for method, used in (("GET", None), ("PUT", script)):
            for number in range(rounds + 1):
                for name, server in servers.items():
                    url = server.url if used else server.url + GET_PATH
                    outcome = run_wrk(url, server.headers, seconds, used)
                    if number:
                        outcomes.setdefault(f"{name} {method}", []).append(outcome)
                if number:
                    rates = (f"{name} {outcomes[f'{name} {method}'][-1].rate:,.0f}/s" for name in servers)
                    say(f"{method} round {number}: " + ", ".join(rates))
    return [
        _row("GET of a 100 byte document, against constant bytes", outcomes["KVS GET"], outcomes["bare GET"], GET_AIM),
        _row("PUT with fsync, against one batch without", outcomes["KVS PUT"], outcomes["bare PUT"], PUT_AIM),
        _row("GET with a token, against none asked for", outcomes["KVS GET"], outcomes["open GET"], AUTH_AIM),
        _row("PUT with a token, against none asked for", outcomes["KVS PUT"], outcomes["open PUT"], AUTH_AIM),
        _row("PUT with clustering, against without", outcomes["member PUT"], outcomes["open PUT"], TREE_AIM),
    ]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _write_document(server: Running) -> None:
    status, _ = server.request("PUT", GET_PATH, DOCUMENT)
    if status not in (200, 201):
        raise RuntimeError(f"{server.url}: PUT answers {status}")


def _row(what: str, kvs: list[Outcome], bare: list[Outcome], aim: float) -> Row:
    ratios = Spread.of([mine.rate / other.rate for mine, other in zip(kvs, bare, strict=True)])
    return Row(
        what,
        kvs=f"{Spread.of([o.rate for o in kvs]).median:,.0f}/s",
        other=f"{Spread.of([o.rate for o in bare]).median:,.0f}/s",
        figure=ratios,
        aim=aim,
        at_least=True,
        notes=f"KVS p50 {Spread.of([o.p50_ms for o in kvs]).median:.2f} ms, "
        f"p99 {Spread.of([o.p99_ms for o in kvs]).median:.2f} ms",
    )
