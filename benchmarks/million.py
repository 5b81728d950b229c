"""What a million small keys cost: the time to start, and memory."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks import processes
from benchmarks.processes import Running
from benchmarks.report import Findings, Row, say
from benchmarks.spread import Spread
from kvs.limits import BULK_MAX_ITEMS

START_RATIO_AIM = 2.0
MEMORY_AIM_MB = 250.0
GROWTH_AIM_BYTES = 60.0
_FEW = 1_000


def measure(keys: int, starts: int, findings: Findings) -> None:
    """Start a node with a thousand keys, one with a tenth of `keys` and one with `keys`, in turn, `starts` times; see
    their memory."""
    findings.rows += _rows(keys, starts, findings)


def _rows(keys: int, starts: int, findings: Findings) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="kvs-bench-") as folder:
        sizes = sorted({_FEW, max(keys // 10, 1), keys})
        folders = {size: Path(folder) / str(size) for size in sizes}
        after_writing = [fill(folders[size], size, processes.node) for size in sizes][-1]
        started: dict[int, list[float]] = {size: [] for size in sizes}
        memories: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(starts):
            for size in sizes:
                with processes.node(folders[size]) as server:
                    started[size].append(server.started_s)
                    memories[size].append(server.resident_mb())
        with processes.node(folders[keys]) as server:
            _read_all(server, keys)
            after_reading = server.resident_mb()
    for size in sizes:
        start_s, memory_mb = Spread.of(started[size]).median, Spread.of(memories[size]).median
        findings.add_point("growth", keys=size, start_s=start_s, memory_mb=memory_mb)
    small, large, memory = started[_FEW], started[keys], memories[keys]
    ratios = [many / few for many, few in zip(large, small, strict=True)]
    growth = [1e6 * (many - few) / (keys - _FEW) for many, few in zip(memory, memories[_FEW], strict=True)]
    largest = max(*memory, after_writing, after_reading)
    return [
        Row(
            f"start to ready with {keys:,} keys, against {_FEW:,}",
            kvs=f"{Spread.of(large).median:.2f} s",
            other=f"{Spread.of(small).median:.2f} s",
            figure=Spread.of(ratios),
            aim=START_RATIO_AIM,
            at_least=False,
        ),
        Row(
            f"largest resident memory with {keys:,} keys, MB",
            kvs=f"{largest:.0f} MB",
            other="",
            figure=Spread.of([largest]),
            aim=MEMORY_AIM_MB,
            at_least=False,
            notes=f"after writing {after_writing:.0f} MB, after a start {memory[0]:.0f} MB, "
            f"after reading all {after_reading:.0f} MB",
        ),
        Row(
            f"resident memory after a start for each key more, {_FEW:,} to {keys:,} keys, bytes",
            kvs=f"{Spread.of(memory).median:.0f} MB",
            other=f"{Spread.of(memories[_FEW]).median:.0f} MB",
            figure=Spread.of(growth),
            aim=GROWTH_AIM_BYTES,
            at_least=False,
        ),
    ]


def fill(folder: Path, keys: int, start: Callable[[Path], AbstractContextManager[Running]]) -> float:
    """Write the keys to a node in a new folder; its resident memory then, in MB."""
    folder.mkdir()
    begin = time.perf_counter()
    with start(folder) as server:
        for body in _bodies(keys):
            if server.write_many(body) != {201}:
                raise RuntimeError("not all keys are new")
        say(f"wrote {keys:,} keys in {time.perf_counter() - begin:.1f} s")
        return server.resident_mb()


def _bodies(keys: int) -> Iterator[bytes]:
    for first in range(0, keys, BULK_MAX_ITEMS):
        numbers = range(first, min(first + BULK_MAX_ITEMS, keys))
        items = [
            {"op": "put", "path": f"site/{n % 100}/device/{n:07}", "data": {"value": n, "unit": "C"}} for n in numbers
        ]
        yield json.dumps(items).encode()


def _read_all(server: Running, keys: int) -> None:
    query, seen = "", 0
    while True:
        status, answer = server.request("GET", f"/kv/_range?limit=1000{query}")
        if status != 200:
            raise RuntimeError(f"_range answers {status}")
        page = json.loads(answer)
        seen += len(page["pairs"])
        if page["next_cursor"] is None:
            break
        query = f"&cursor={page['next_cursor']}"
    if seen != keys:
        raise RuntimeError(f"_range gave {seen} keys, not {keys}")
