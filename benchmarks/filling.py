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
from kvs.limits import FETCH_KEYS_MAX
from kvs.storage.codec import decode
from kvs.storage.current import index_rows
from kvs.storage.keyspace import CHANGES, ITEMS, RUNS, after

FILLING_AIM = 0.25


def measure(keys: int, rounds: int) -> list[Row]:
    """Fill an empty node with `keys` records, `rounds` times, each followed by the loop; and back up the full one."""
    rates: list[tuple[float, float]] = []
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
                    filled_s = time.perf_counter() - begin
                rates.append((keys / filled_s, keys / write_again(empty / "data", folder / f"bare{number}")))
                say(f"filling round {number + 1}: bare {rates[-1][1]:,.0f}/s, KVS {rates[-1][0]:,.0f}/s")
            backing = backing_up.measure(full, folder / "full" / "copy", folder, rounds)
    what = f"filling an empty node with {keys:,} records, unpaced, against writing the same batches"
    return [Row.of_rates(what, rates, FILLING_AIM), *backing]


def write_again(filled: Path, folder: Path) -> float:
    """Seconds to write the records in the database `filled`, and the rows that belong to them, to a new one, in batches
    as they came there."""
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
            if runs:
                rows[ITEMS + entry] = source.get(ITEMS + entry)
                run = RUNS + runs[bisect_right(runs, entry) - 1]
                rows[run] = source.get(run)
        batches.append(list(rows.items()))
    return batches
