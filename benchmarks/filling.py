"""What it costs an empty node to be filled by a peer, against a bare loop that writes the same batches; and a backup of
the full one."""

import shutil
import tempfile
import time
from bisect import bisect_right
from itertools import islice
from pathlib import Path
from typing import Any

import plyvel

from benchmarks import backing_up, million, processes
from benchmarks.report import Row, say
from benchmarks.spread import Spread
from kvs.limits import FETCH_KEYS_MAX
from kvs.storage.codec import decode
from kvs.storage.current import index_rows
from kvs.storage.keyspace import CHANGES, ITEMS, RUNS, after

FILLING_AIM = 0.25


def measure(keys: int, rounds: int) -> list[Row]:
    """Fill an empty node with `keys` records, `rounds` times, each followed by the loop; and back up the full one."""
    ratios, mine, bare = [], [], []
    with tempfile.TemporaryDirectory(prefix="kvs-bench-") as name:
        folder = Path(name)
        million.fill(folder / "full", keys, processes.member)
        shutil.copytree(folder / "full" / "data", folder / "full" / "copy")
        with processes.member(folder / "full") as full:
            for number in range(rounds):
                empty = folder / f"empty{number}"
                empty.mkdir()
                with processes.member(empty, seed=full) as server:
                    begin = time.perf_counter()
                    server.wait_until_ready()
                    mine.append(keys / (time.perf_counter() - begin))
                bare.append(keys / _write_again(empty / "data", folder / f"bare{number}"))
                ratios.append(mine[-1] / bare[-1])
                say(f"filling round {number + 1}: bare {bare[-1]:,.0f}/s, KVS {mine[-1]:,.0f}/s")
            backing = backing_up.measure(full, folder / "full" / "copy", folder, rounds)
    filled = Row(
        f"filling an empty node with {keys:,} records, unpaced, against writing the same batches",
        kvs=f"{Spread.of(mine).median:,.0f}/s",
        other=f"{Spread.of(bare).median:,.0f}/s",
        figure=Spread.of(ratios),
        aim=FILLING_AIM,
        at_least=True,
    )
    return [filled, *backing]


def _write_again(filled: Path, folder: Path) -> float:
    """Seconds to write what is in the database `filled` to a new one, in the batches in which it came there."""
    source = plyvel.DB(str(filled), create_if_missing=False)
    batches = _batches(source)
    source.close()
    begin = time.perf_counter()
    target = plyvel.DB(str(folder), create_if_missing=True)
    for rows in batches:
        with target.write_batch() as batch:
            for key, value in rows:
                batch.put(key, value)
    target.close()
    return time.perf_counter() - begin


def _batches(source: Any) -> list[list[tuple[bytes, bytes]]]:
    runs = [row[1:] for row, _ in source.iterator(start=RUNS, stop=after(RUNS))]
    batches = []
    changes = source.iterator(start=CHANGES, stop=after(CHANGES))
    while portion := list(islice(changes, FETCH_KEYS_MAX)):
        rows: dict[bytes, bytes] = dict(portion)
        for _, entry in portion:
            rows[entry] = source.get(entry)
            rows |= dict.fromkeys(index_rows(entry, decode(entry, rows[entry]).record), b"")
            rows[ITEMS + entry] = source.get(ITEMS + entry)
            run = RUNS + runs[bisect_right(runs, entry) - 1]
            rows[run] = source.get(run)
        batches.append(list(rows.items()))
    return batches
