"""How fast `kvs import` and `kvs export` move many small records, against the least that does the same with plyvel."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import plyvel

from benchmarks import processes
from benchmarks.filling import write_again
from benchmarks.processes import Running
from benchmarks.report import Row, say
from kvs.storage.codec import decode
from kvs.storage.keyspace import DATA, after, path_of
from kvs.storage.record import uuid_text

AIM = 0.4
_SETTINGS_OF_COMMANDS = ("KVS_URL", "KVS_TOKEN", "KVS_HOME")


def measure(keys: int, rounds: int) -> list[Row]:
    """Import `keys` lines into an empty node and export them, `rounds` times, each followed by the loops."""
    imports: list[tuple[float, float]] = []
    exports: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="kvs-bench-") as name:
        folder = Path(name)
        source = folder / "lines.ndjson"
        _write_lines(source, keys)
        for number in range(rounds):
            here = folder / f"node{number}"
            here.mkdir()
            with processes.node(here) as server:
                import_s = _run(server, "import", source, here)
                target = here / "out.ndjson"
                export_s = _run(server, "export", target, here)
            if sum(1 for _ in target.open("rb")) != keys:
                raise RuntimeError("the export does not hold what was imported")
            imports.append((keys / import_s, keys / write_again(here / "data", here / "bare")))
            exports.append((keys / export_s, keys / _export(here / "data", here / "bare.ndjson")))
            for what, rates in (("import", imports), ("export", exports)):
                say(f"{what} round {number + 1}: bare {rates[-1][1]:,.0f}/s, KVS {rates[-1][0]:,.0f}/s")
    return [
        Row.of_rates(f"import of {keys:,} lines, against writing the same batches", imports, AIM),
        Row.of_rates(f"export of {keys:,} lines, against reading the records and writing the same lines", exports, AIM),
    ]


def _write_lines(target: Path, keys: int) -> None:
    with target.open("wb") as file:
        for n in range(keys):
            file.write(b'{"path":"site/%d/device/%07d","data":{"value":%d,"unit":"C"}}\n' % (n % 100, n, n))


def _run(server: Running, command: str, file: Path, folder: Path) -> float:
    """Seconds of the command, the start of the program included."""
    token = server.headers["Authorization"].removeprefix("Bearer ")
    own = dict(zip(_SETTINGS_OF_COMMANDS, (server.url, token, str(folder / "home")), strict=True))
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "kvs", command, str(file)], check=True, capture_output=True, env={**os.environ, **own}
    )
    return time.perf_counter() - begin


def _export(database: Path, target: Path) -> float:
    """Seconds to write the same lines out of the database."""
    begin = time.perf_counter()
    source = plyvel.DB(str(database), create_if_missing=False)
    with target.open("wb") as file:
        for entry, raw in source.iterator(start=DATA, stop=after(DATA)):
            record = decode(entry, raw).record
            line = {
                "op": "put",
                "path": path_of(entry),
                "uuid": uuid_text(record.uuid),
                "timestamp": record.timestamp,
                "data": orjson.Fragment(record.data),
            }
            file.write(orjson.dumps(line) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    source.close()
    return time.perf_counter() - begin
