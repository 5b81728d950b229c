"""GET and PUT of a small document, in turn, so that all meet the same machine: KVS with a user's token, KVS without
authentication, and bare handlers."""

import tempfile
from pathlib import Path

from benchmarks import processes
from benchmarks.load import DOCUMENT, GET_PATH, Outcome, run_wrk, write_script
from benchmarks.report import Row, say
from benchmarks.spread import Spread

GET_AIM = 0.70
PUT_AIM = 0.60
AUTH_AIM = 0.90

_SERVERS = {"bare": processes.bare, "open": processes.open_node, "KVS": processes.node}


def measure(rounds: int, seconds: int) -> list[Row]:
    """One warm-up round, which does not count, then `rounds` rounds of `seconds` for each figure."""
    outcomes: dict[str, list[Outcome]] = {
        name: [] for server in _SERVERS for name in (f"{server} GET", f"{server} PUT")
    }
    for number in range(rounds + 1):
        for name, outcome in _round(seconds if number else 1).items():
            if number:
                outcomes[name].append(outcome)
        if number:
            say(f"round {number}: " + ", ".join(f"{name} {all_[-1].rate:,.0f}/s" for name, all_ in outcomes.items()))
    return [
        _row("GET of a 100 byte document, against constant bytes", outcomes["KVS GET"], outcomes["bare GET"], GET_AIM),
        _row("PUT with fsync, against one batch without", outcomes["KVS PUT"], outcomes["bare PUT"], PUT_AIM),
        _row("GET with a token, against none asked for", outcomes["KVS GET"], outcomes["open GET"], AUTH_AIM),
        _row("PUT with a token, against none asked for", outcomes["KVS PUT"], outcomes["open PUT"], AUTH_AIM),
    ]


def _round(seconds: int) -> dict[str, Outcome]:
    found = {}
    for name, start in _SERVERS.items():
        with tempfile.TemporaryDirectory(prefix="kvs-bench-") as name_of_folder:
            folder = Path(name_of_folder)
            script = write_script(folder)
            with start(folder) as server:
                status, _ = server.request("PUT", GET_PATH, DOCUMENT)
                if status not in (200, 201):
                    raise RuntimeError(f"{name}: PUT answers {status}")
                found[f"{name} GET"] = run_wrk(server.url + GET_PATH, server.headers, seconds)
                found[f"{name} PUT"] = run_wrk(server.url, server.headers, seconds, script)
    return found


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
