"""What LevelDB itself makes of a log that was laid out in advance, and of one that a power cut left unfinished."""

import fcntl
import os
from collections.abc import Iterator
from itertools import count, pairwise
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest

from kvs.limits import LEVELDB_LOG_AHEAD_BYTES
from kvs.storage import leveldb_log
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.store import Batch
from tests.process.flips import written_bytes
from tests.process.powercut import write_folder

BLOCK_BYTES, SECTOR_BYTES = 32 * 1024, 512
BUFFER_BYTES = 3 * 1024 * 1024


def _log(folder: Path) -> Path:
    """The log that is written; LevelDB removes the one before it in the background."""
    return max(folder.glob("*.log"))


def _held(folder: Path) -> tuple[dict[bytes, bytes], str]:
    """Everything there is, and what the store says of damage."""
    store = LevelDBStore(folder, sync=True)
    try:
        return dict(store.scan(b"", b"\xff")), store.damage
    finally:
        store.close()


def _batches(random: Random, sizes: list[int]) -> list[Batch]:
    """Every one has three entries and a last byte that is zero, as the store's batches have."""
    numbers = count()
    return [{b"%05d" % next(numbers): random.randbytes(size // 3) + b"\0" for _ in range(3)} for size in sizes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "db"


def _write(folder: Path, batches: list[Batch]) -> list[bytes]:
    """What the log held before the first batch and after each of them, zeros at its end left out."""
    store = LevelDBStore(folder, sync=True)
    log = _log(folder)
    states = [written_bytes(log)]
    for batch in batches:
        store.commit(batch)
        states.append(written_bytes(log))
    store.close()
    return states


def _all(batches: list[Batch]) -> Batch:
    return {key: value for batch in batches for key, value in batch.items()}


# --- laid out in advance ---


def test_a_synced_log_is_laid_out_in_front_of_what_is_written(folder: Path) -> None:
    store = LevelDBStore(folder, sync=True)
    sizes = []
    for batch in _batches(Random(1), [3_000] * 600):
        store.commit(batch)
        assert _log(folder).stat().st_size > len(written_bytes(_log(folder))), "nothing in front"
        sizes.append(_log(folder).stat().st_size)
    assert 3 <= len(set(sizes)) <= 6, "one piece of zeros for many commits"
    assert max(sizes) <= 600 * 3_100 + 2 * LEVELDB_LOG_AHEAD_BYTES
    store.close()


@pytest.mark.parametrize(("size", "count"), [(30, 14_000), (5_000, 1_000), (60_000, 100)])
def test_the_zeros_do_not_become_more_and_more(size: int, count: int, folder: Path) -> None:
    store = LevelDBStore(folder, sync=True)
    sizes, ahead = {0}, 0
    for batch in _batches(Random(7), [size] * count):
        store.commit(batch)
        if (now := _log(folder).stat().st_size) not in sizes:
            sizes.add(now)
            ahead = now - len(written_bytes(_log(folder)))
    assert len(sizes) > 3
    assert ahead < LEVELDB_LOG_AHEAD_BYTES + 16 * 1024
    store.close()


def test_files_of_others_are_left_alone(folder: Path) -> None:
    names = ("node-output.log", "12345.log", "a.log", "٣٣٣٣٣٣٣.log")
    store = LevelDBStore(folder, sync=True)
    for name in names:
        (folder / name).write_text("start\n")
    store.commit({b"a": b"1"})
    store.close()
    (folder / "999998.log").mkdir()
    leveldb_log.drop_torn_ends(folder)
    assert {(folder / name).read_text() for name in names} == {"start\n"}


def test_without_fsync_nothing_is_laid_out(folder: Path) -> None:
    store = LevelDBStore(folder, sync=False)
    store.commit({b"a": b"1"})
    assert _log(folder).stat().st_size == len(written_bytes(_log(folder)))
    store.close()


def test_the_next_log_is_laid_out_too(folder: Path) -> None:
    store = LevelDBStore(folder, sync=True, write_buffer_bytes=BUFFER_BYTES)
    logs, in_front = set(), 0
    for batch in _batches(Random(2), [30_000] * 400):
        store.commit(batch)
        logs.add(_log(folder).name)
        in_front += _log(folder).stat().st_size > len(written_bytes(_log(folder))) + SECTOR_BYTES
    assert len(logs) > 3
    assert in_front > 300, "a new log goes without for 512 KiB at most"
    store.close()


def test_everything_is_read_back_from_a_log_with_zeros_behind(folder: Path) -> None:
    random = Random(3)
    batches = _batches(random, [random.choice([30, 3_000, 40_000, 100_000]) for _ in range(60)])
    states = _write(folder, batches)
    assert len(states[-1]) > 10 * BLOCK_BYTES
    assert _held(folder) == (_all(batches), "")


@pytest.mark.parametrize("failing", ["scandir", "open", "pwrite", "fstatvfs"])
def test_a_log_that_cannot_be_laid_out_is_written_all_the_same(
    failing: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    store = LevelDBStore(folder, sync=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        store.commit({b"a": b"1"})
    store.commit({b"b": b"2"})
    store.close()
    assert _held(folder) == ({b"a": b"1", b"b": b"2"}, "")


def test_on_a_disk_that_is_nearly_full_nothing_is_laid_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstatvfs

    def nearly_full(descriptor: int) -> os.statvfs_result:
        found = list(real(descriptor))
        found[4] = LEVELDB_LOG_AHEAD_BYTES // found[1]
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "fstatvfs", nearly_full)
    store = LevelDBStore(folder, sync=True)
    store.commit({b"a": b"1"})
    assert _log(folder).stat().st_size == len(written_bytes(_log(folder)))
    store.close()


# --- what a power cut leaves ---


def _files(folder: Path) -> dict[str, bytes]:
    """To put back: LevelDB goes on to another log when it is opened."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _torn(states: list[bytes], random: Random) -> Iterator[tuple[int, bytes]]:
    """How many batches are whole, and the log when of the next one only the first sectors reached the disk."""
    for whole, (before, after) in enumerate(pairwise(states)):
        first, last = len(before) // SECTOR_BYTES + 1, (len(after) - 1) // SECTOR_BYTES
        for sector in {first, last, random.randint(first, max(first, last))}:
            if len(before) < sector * SECTOR_BYTES < len(after):
                yield whole, after[: sector * SECTOR_BYTES]


def test_a_batch_that_is_there_in_part_is_dropped_in_silence(folder: Path) -> None:
    random = Random(4)
    # Some begin so near to the end of a block that their first piece is a head alone, or that they leave a trailer.
    batches = _batches(random, [random.choice([30, 700, 3_000, 33_000, 70_000]) for _ in range(40)])
    states = _write(folder, batches)
    log, kept, seen = _log(folder), _files(folder), 0
    for whole, left in _torn(states, random):
        write_folder(folder, kept)
        log.write_bytes(left.ljust(len(states[-1]) + LEVELDB_LOG_AHEAD_BYTES, b"\0"))
        assert _held(folder) == (_all(batches[:whole]), ""), (whole, len(left))
        seen += 1
    assert seen > 40


def test_a_piece_of_a_head_at_the_end_is_no_damage(folder: Path) -> None:
    _write(folder, [{b"a": b"1"}])
    log, kept = _log(folder), _files(folder)
    for piece in (b"\1\2\3\4", b"\1\2\3\4\5", b"\1\2\3\4\5\1"):
        write_folder(folder, kept)
        log.write_bytes((written_bytes(log) + piece).ljust(log.stat().st_size, b"\0"))
        assert _held(folder) == ({b"a": b"1"}, ""), piece


def test_a_torn_end_of_the_log_is_survived(folder: Path) -> None:
    """Of one without zeros, as it is without fsync."""
    store = LevelDBStore(folder, sync=False)
    store.commit({b"a": b"1"})
    store.close()
    with _log(folder).open("ab") as file:
        file.write(b"\x01\x02\x03\x04\x20\x00\x01torn")
    assert _held(folder) == ({b"a": b"1"}, "")


def test_a_turned_bit_in_a_whole_record_is_told(folder: Path) -> None:
    states = _write(folder, _batches(Random(5), [300, 300, 300]))
    log = _log(folder)
    raw = bytearray(log.read_bytes())
    raw[len(states[-2]) + 100] ^= 1
    log.write_bytes(raw)
    before = bytes(raw)
    leveldb_log.drop_torn_ends(folder)
    assert log.read_bytes() == before, "cut off although it may have been whole"
    _, damage = _held(folder)
    assert "checksum mismatch" in damage


def test_a_whole_record_stays_whatever_zeros_it_ends_in(folder: Path) -> None:
    batches: list[Batch] = [{b"a": b"1"}, {b"b": b"2" + bytes(5_000)}]
    _write(folder, batches)
    log = _log(folder)
    leveldb_log.drop_torn_ends(folder)
    assert log.stat().st_size < LEVELDB_LOG_AHEAD_BYTES
    assert _held(folder) == (_all(batches), "")


def test_a_database_that_is_open_is_left_alone(folder: Path) -> None:
    """Its log is written while it is looked at."""
    states = _write(folder, _batches(Random(6), [3_000, 3_000]))
    log = _log(folder)
    log.write_bytes(states[-1][: len(states[-1]) - 1_500].ljust(100_000, b"\0"))
    with (folder / "LOCK").open("r+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        other = get_context("spawn").Process(target=leveldb_log.drop_torn_ends, args=(folder,))
        other.start()
        other.join(30)
        assert other.exitcode == 0
        assert log.stat().st_size == 100_000
    leveldb_log.drop_torn_ends(folder)
    assert log.stat().st_size < 10_000
