"""How fast a backup is made and restored, against the least that does the same with plyvel and zstd."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec
import plyvel
import zstandard

from benchmarks.processes import Running
from benchmarks.report import Row, say
from kvs.limits import BACKUP_ROWS_MAX, BACKUP_ZSTD_LEVEL
from kvs.storage.backup import SECTIONS
from kvs.storage.keyspace import after

BACKUP_AIM = RESTORE_AIM = 0.4
_CONFIG = "clustering_enabled: false\nport: 0\n"


def measure(full: Running, database: Path, folder: Path, rounds: int) -> list[Row]:
    """Back up the node `full`, and restore that into a new data directory, each followed by its bare loop. A copy of
    its `database` has to be there for the loops, which open it themselves."""
    backups, restores = [], []
    for number in range(rounds):
        begin = time.perf_counter()
        status, answer = full.request("POST", "/api/backup?timeout=10m")
        took_s = time.perf_counter() - begin
        made = json.loads(answer)
        if status != 201:
            raise RuntimeError(f"the backup answers {status}: {made}")
        size_mb = made["content_bytes"] / 1e6
        packed = folder / f"bare{number}.zst"
        backups.append((size_mb / took_s, size_mb / _pack(database, packed)))
        path = database.parent / "backups" / made["name"]
        restores.append((size_mb / _restore(path, folder / f"restored{number}"), size_mb / _unpack(packed, folder)))
        for what, rates in (("backup", backups), ("restore", restores)):
            say(f"{what} round {number + 1}: bare {rates[-1][1]:.0f} MB/s, KVS {rates[-1][0]:.0f} MB/s")
    return [
        Row.of_rates(f"{what}, MB/s of what it unpacks to, against zstd and plyvel alone", rates, aim, unit=" MB/s")
        for what, rates, aim in (("backup", backups, BACKUP_AIM), ("restore", restores, RESTORE_AIM))
    ]


def _restore(backup: Path, folder: Path) -> float:
    """Seconds of `kvs backup restore`, the start of the program and all checks included."""
    folder.mkdir()
    config = folder / "node.yaml"
    config.write_text(_CONFIG)
    command = [sys.executable, "-m", "kvs", "backup", "restore", str(backup), str(config)]
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "KVS_HOME": str(folder / "home")})
    return time.perf_counter() - begin


# --- the least ---


def _pack(database: Path, target: Path) -> float:
    """Seconds to write the same rows to one file, packed at the same level."""
    begin = time.perf_counter()
    source = plyvel.DB(str(database), create_if_missing=False)
    packer = zstandard.ZstdCompressor(level=BACKUP_ZSTD_LEVEL)
    with target.open("wb") as file:
        with packer.stream_writer(file, closefd=False) as packed:
            for section in SECTIONS:
                rows = source.iterator(start=section, stop=after(section))
                while portion := list(islice(rows, BACKUP_ROWS_MAX)):
                    body = msgspec.msgpack.encode(portion)
                    packed.write(len(body).to_bytes(4, "big") + body)
        file.flush()
        os.fsync(file.fileno())
    source.close()
    return time.perf_counter() - begin


def _unpack(packed: Path, folder: Path) -> float:
    """Seconds to read that file and write its rows to a new database, one batch for each portion."""
    target = folder / f"{packed.name}.db"
    begin = time.perf_counter()
    database = plyvel.DB(str(target), create_if_missing=True)
    for rows in _portions(packed):
        with database.write_batch() as batch:
            for key, value in rows:
                batch.put(key, value)
    database.close()
    return time.perf_counter() - begin


def _portions(packed: Path) -> Iterator[list[tuple[bytes, bytes]]]:
    decoder = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]])
    with packed.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as content:
        while size := content.read(4):
            yield decoder.decode(content.read(int.from_bytes(size, "big")))
