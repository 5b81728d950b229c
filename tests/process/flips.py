"""A stopped node's data, and where to turn a bit in them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.process.daemon import Daemon

KINDS = (".log", ".ldb", "MANIFEST", "CURRENT")
"""How the names of LevelDB's files begin or end."""
_KEYS, _WRITES_A_START, _STARTS = 400, 250, 3
_BLOCK_BYTES = 32 * 1024
_SECTOR_BYTES = 512
_HEADER_BYTES = 7
"""A log is made of blocks, these of records: checksum:u32 length:u16 type:u8 data (LevelDB's doc/log_format.md)."""
_TABLE_END_BYTES = 512
"""The end of a table: its index, its footer."""


class Victim(NamedTuple):
    """A stopped node's data. `written` holds every value of a key, oldest first; `settled` the keys whose last value
    stands in a table, not in the log."""

    folder: Path
    written: dict[str, list[bytes]]
    settled: set[str]

    def file(self, kind: str) -> Path:
        """The largest file whose name begins or ends so."""
        files = (file for file in self.folder.iterdir() if kind in (file.name[: len(kind)], file.suffix))
        return max(files, key=lambda file: file.stat().st_size)


class Flip(NamedTuple):
    name: str
    offset: int
    bit: int

    def spoil(self, victim: Victim, copy: Path) -> None:
        """Make `copy` the victim's data with this bit turned."""
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(victim.folder, copy)
        self.turn(copy)

    def turn(self, folder: Path) -> None:
        """Turn the bit in this folder itself."""
        raw = bytearray((folder / self.name).read_bytes())
        raw[self.offset] ^= 1 << self.bit
        (folder / self.name).write_bytes(raw)


def make_victim(folder: Path, seed: int) -> Victim:
    """Each start makes a table of the log of the run before; the last run's writes stay in the log, and the last of
    them ends it: a node with an audit log writes something behind it when it stops."""
    daemon, random = Daemon(folder, settings={"tamper_logging_enabled": False}), Random(seed)
    written: dict[str, list[bytes]] = {}
    settled: set[str] = set()
    for start in range(_STARTS):
        settled = set(written)
        daemon.start()
        for number in range(_WRITES_A_START):
            key = f"k/{random.randrange(_KEYS)}"
            text = random.randbytes(random.randrange(250)).hex()
            value = f'{{"name":"{start}.{number}","text":"{text}"}}'.encode()
            assert daemon.client.put(key, value).status in (200, 201)
            written.setdefault(key, []).append(value)
            settled.discard(key)
        daemon.stop()
    victim = Victim(daemon.data_dir, written, settled)
    assert victim.file(".log").stat().st_size > 2 * _BLOCK_BYTES
    assert victim.file(".ldb").stat().st_size > 2 * _BLOCK_BYTES
    assert 50 < len(settled) < len(written) - 50
    return victim


def spread(file: Path, count: int, random: Random, first: int = 0) -> Iterator[Flip]:
    """One flip somewhere in each of `count` equal parts of the file behind `first`."""
    size = len(written_bytes(file)) - first
    for part in range(count):
        begin, end = part * size // count, (part + 1) * size // count
        yield Flip(file.name, first + random.randrange(begin, max(end, begin + 1)), random.randrange(8))


def written_bytes(file: Path) -> bytes:
    """Without the zeros in front of which a log is written: turned bits among them tell nothing and cost nothing."""
    return file.read_bytes().rstrip(b"\0")


def _log_headers(raw: bytes) -> Iterator[int]:
    """Where the records of a log begin."""
    at = 0
    while at + _HEADER_BYTES <= len(raw):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _HEADER_BYTES:
            at += left
            continue
        yield at
        at += _HEADER_BYTES + int.from_bytes(raw[at + 4 : at + 6], "little")


def all_flips(victim: Victim, count: int, seed: int) -> list[Flip]:
    """`count` flips spread over each kind of file, as many again over the headers of the log and the ends of tables."""
    random = Random(seed)
    flips = [flip for kind in KINDS for flip in spread(victim.file(kind), count, random)]
    log, table = victim.file(".log"), victim.file(".ldb")
    headers = list(_log_headers(written_bytes(log)))
    flips += (
        Flip(log.name, header + random.randrange(_HEADER_BYTES), random.randrange(8))
        for header in (*random.choices(headers, k=count), *headers[-3:])
    )
    flips.append(_longer(log, headers[-1]))
    return [*flips, *spread(table, count, random, first=table.stat().st_size - _TABLE_END_BYTES)]


def _longer(log: Path, header: int) -> Flip:
    """The lowest bit by which this record reaches a sector farther, behind the end of what was written."""
    raw = log.read_bytes()
    clear = (bit for bit in range(9, 15) if not int.from_bytes(raw[header + 4 : header + 6], "little") >> bit & 1)
    return Flip(log.name, header + 5, next(clear) - 8)


def looks_like_an_end(victim: Victim, flip: Flip) -> bool:
    """Whether the flip is in a length in the log's last block, or in a last record that ends in so many zeros that its
    last sector may never have reached the disk."""
    raw = written_bytes(victim.folder / flip.name)
    if flip.offset // _BLOCK_BYTES < (len(raw) - 1) // _BLOCK_BYTES:
        return False
    headers = list(_log_headers(raw))
    end = headers[-1] + _HEADER_BYTES + int.from_bytes(raw[headers[-1] + 4 : headers[-1] + 6], "little")
    if flip.offset >= headers[-1] and -(-len(raw) // _SECTOR_BYTES) * _SECTOR_BYTES < end:
        return True
    return any(flip.offset - header in (4, 5) for header in headers)
