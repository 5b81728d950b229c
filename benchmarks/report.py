"""What a run found: JSON for programs, and from that Markdown for people."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.spread import Spread

BUSY = 3
"""For each core, processes that want it: a run on a machine of its own stays below."""
_PACKAGES = ("aiohttp", "uvloop", "plyvel", "orjson", "zstandard")


@dataclass(frozen=True)
class Row:
    """One comparison. `figure` is what counts: a ratio, or a size; it is to reach `aim`, or to stay under it. Without
    an aim it is told only."""

    what: str
    kvs: str
    other: str
    figure: Spread
    aim: float | None
    at_least: bool
    notes: str = ""

    @classmethod
    def of_rates(
        cls, what: str, rates: Sequence[tuple[float, float]], aim: float | None, *, unit: str = "/s", notes: str = ""
    ) -> "Row":
        """Of KVS and of what it is compared with, measured in turn: what counts is their ratio in each round."""
        return cls(
            what,
            kvs=f"{Spread.of([mine for mine, _ in rates]).median:,.0f}{unit}",
            other=f"{Spread.of([theirs for _, theirs in rates]).median:,.0f}{unit}",
            figure=Spread.of([mine / theirs for mine, theirs in rates]),
            aim=aim,
            at_least=True,
            notes=notes,
        )

    @property
    def reached(self) -> bool:
        if self.aim is None:
            return True
        return self.figure.median >= self.aim if self.at_least else self.figure.median <= self.aim


@dataclass
class Findings:
    """Of one run. `peers`: the version of each server and what is to be known of it, or why it is missing. `series`:
    the points of each plot, by its name."""

    rows: list[Row] = field(default_factory=list)
    peers: dict[str, str] = field(default_factory=dict)
    series: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add_point(self, series: str, **values: Any) -> None:
        self.series.setdefault(series, []).append(values)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def document(findings: Findings, settings: dict[str, Any]) -> dict[str, Any]:
    """All of a run, for JSON."""
    results = [{**asdict(row), "reached": row.reached} for row in findings.rows]
    return {
        "machine": machine(),
        "settings": settings,
        "results": results,
        "peers": findings.peers,
        "series": findings.series,
    }


def machine() -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load_average": round(os.getloadavg()[1], 1),
        "packages": {name: version(name) for name in _PACKAGES},
    }


# --- Markdown, from the JSON ---


def markdown(found: dict[str, Any]) -> str:
    """The machine, the results and the peers of a run."""
    return "\n\n".join([_told_of(found), _results(found["results"]), _peers(found["peers"])])


_IN_SHORT = (
    "GET of a 100 byte document",
    "PUT with fsync",
    "GET, against a serializable range of etcd",
    "PUT, against a put of etcd",
    "a write on one node until it is read on another: median",
    "start to ready",
    "largest resident memory",
)


def summary(found: dict[str, Any]) -> str:
    """The few results that the README shows, with the machine and the commit that they belong to."""
    lines = ["| what | KVS | compared with | ratio or size, median (range) |", "|---|---|---|---|"]
    shown = [row for row in found["results"] if row["what"].startswith(_IN_SHORT)]
    lines += [f"| {row['what']} | {row['kvs']} | {row['other']} | {_figure(row)} |" for row in shown]
    return "\n".join([_told_of(found), "", *lines])


def _figure(row: dict[str, Any]) -> str:
    return "{median:.3g} ({low:.3g} to {high:.3g})".format(**row["figure"])


def _told_of(found: dict[str, Any]) -> str:
    on, settings = found["machine"], found["settings"]
    packages = ", ".join(f"{name} {number}" for name, number in on["packages"].items())
    warning = ""
    if on["load_average"] > BUSY * on["cores"]:
        warning = (
            " **Other work kept the machine busy, so these figures show that everything runs, and no more; sizes and "
            "numbers of questions hold all the same.**"
        )
    return (
        f"{on['time']}, commit {on['commit']}: {on['cores']} cores of {on['cpu']}, {on['memory_gb']} GB, "
        f"{on['system']}, Python {on['python']}, {packages}. {settings['rounds']} rounds of {settings['seconds']} s, "
        f"{settings['keys']:,} keys. Processes that wanted a core at the end of the run, the run's own included: "
        f"{on['load_average']}.{warning}"
    )


def _results(results: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| what | KVS | compared with | ratio or size, median (range) | aim | reached | notes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results:
        aim, reached = "", ""
        if row["aim"] is not None:
            aim = f"{'at least' if row['at_least'] else 'at most'} {row['aim']:g}"
            reached = "yes" if row["reached"] else "no"
        lines.append(
            f"| {row['what']} | {row['kvs']} | {row['other']} | {_figure(row)} | {aim} | {reached} | {row['notes']} |"
        )
    return "\n".join(lines)


def _peers(peers: dict[str, str]) -> str:
    lines = ["| server | version, and what to know of it |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {told.replace('|', '/')} |" for name, told in peers.items()])


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def write_json(path: Path, found: dict[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=2) + "\n")
