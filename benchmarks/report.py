"""What a run found: a Markdown table for people, JSON for programs."""

import json
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.spread import Spread

_PACKAGES = ("aiohttp", "uvloop", "plyvel", "orjson", "zstandard")


@dataclass(frozen=True)
class Row:
    """One comparison. `figure` is what counts: a ratio, or a size; it is to reach `aim`, or to stay under it."""

    what: str
    kvs: str
    other: str
    figure: Spread
    aim: float
    at_least: bool
    notes: str = ""

    @property
    def reached(self) -> bool:
        return self.figure.median >= self.aim if self.at_least else self.figure.median <= self.aim


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def table(rows: list[Row]) -> str:
    lines = [
        "| what | KVS | compared with | ratio or size, median (range) | aim | reached | notes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figure = f"{row.figure.median:.3g} ({row.figure.low:.3g} to {row.figure.high:.3g})"
        aim = f"{'at least' if row.at_least else 'at most'} {row.aim:g}"
        reached = "yes" if row.reached else "no"
        lines.append(f"| {row.what} | {row.kvs} | {row.other} | {figure} | {aim} | {reached} | {row.notes} |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def write_json(path: Path, rows: list[Row], settings: dict[str, Any]) -> None:
    results = [{**asdict(row), "reached": row.reached} for row in rows]
    path.write_text(json.dumps({"machine": machine(), "settings": settings, "results": results}, indent=2) + "\n")


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
