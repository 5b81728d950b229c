"""What was acknowledged survives a power cut, at whatever moment it comes.

No machine is switched off: the node runs with a library in front of libc that writes down every change of its data and
every fsync, in order; from that journal the folder is made that a cut at a given moment would leave (see powercut.py).
The load, in a process of its own, notes with every acknowledgement how long the journal was at that time.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from struct import pack
from typing import NamedTuple

import pytest
import structlog

from kvs.errors import StoreCorrupt, StoreError
from kvs.storage.codec import decode
from kvs.storage.keyspace import DATA, after, change_row, data_key, time_row
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.state import read_progress
from tests.process.audit import audit
from tests.process.daemon import Daemon
from tests.process.eventually import eventually
from tests.process.ledger import Ledger
from tests.process.load import Load, Mix
from tests.process.powercut import Disk, Way, choose_cuts, read_journal, replay, write_folder
from tests.process.shim import Fault, Shim

SEED = int(os.environ.get("TEST_SEED", "1"))
SMALL = Mix(SEED, keys=20)
# Fills LevelDB's memtable (16 MiB) many times over: logs rotate, tables are written, merged and removed.
LARGE = Mix(SEED, keys=20, big_share=0.5, big_bytes=512 * 1024)
LEVELDB_NOTES = ("LOG", "LOG.old")
"""LevelDB's own diary; it is written past the journal and nothing depends on it."""


class Recording(NamedTuple):
    """A node's life. `served` holds the journal's length when each start was over."""

    ledger: Ledger
    journal: Path
    folder: Path
    served: list[int]


class Recorder(NamedTuple):
    """What makes recordings, for one test."""

    shim: Path
    folder: Path
    make_daemon: Callable[..., Daemon]
    make_load: Callable[[Mix], Load]

    def record(self, mix: Mix, acks: int, environment: dict[str, str] | None = None) -> Recording:
        """Three starts with `acks` acknowledged writes or more each; the first and last end at once, between two calls,
        the second by SIGTERM."""
        daemon = self.make_daemon()
        fault = Fault("write", "", "exit")
        shim = Shim(self.shim, self.folder / "shim", daemon.data_dir, fault).with_journal()
        load = self.make_load(mix._replace(journal=str(shim.journal)))
        served = []
        for ends_well in (False, True, False):
            shim.disarm()
            daemon.start(shim.environment | (environment or {}))
            served.append(shim.journal.stat().st_size)
            _run_until_acknowledged(load, daemon, acks)
            if ends_well:
                daemon.stop()
            else:
                shim.arm()
                assert daemon.wait() == 99
            load.pause()
        ledger = load.ledger()
        assert not ledger.violations, ledger.violations[:20]
        return Recording(ledger, shim.journal, daemon.data_dir, served)


def _run_until_acknowledged(load: Load, daemon: Daemon, writes: int) -> None:
    wanted = load.counts()["acknowledged"] + writes
    load.run(daemon.url)
    assert eventually(lambda: load.counts()["acknowledged"] >= wanted, 30)


@pytest.fixture
def recorder(
    shim: Path, tmp_path: Path, make_daemon: Callable[..., Daemon], make_load: Callable[[Mix], Load]
) -> Recorder:
    return Recorder(shim, tmp_path, make_daemon, make_load)


def _cut_everywhere(recording: Recording, cuts: int, scratch: Path) -> tuple[Counter[str], list[str]]:
    """Cut at so many moments in every way, open what is left, read every key; how many folders of which way were
    looked at, and what was wrong."""
    random = Random(SEED)
    marks = choose_cuts(recording.journal, cuts, random, recording.served[0])
    images, wrong = Counter[str](), []
    for mark, disk in replay(recording.journal, recording.folder, marks):
        for way in Way:
            write_folder(scratch, disk.cut(way, random))
            images[way.name] += 1
            wrong += [f"cut at {mark}, {way.name}: {text}" for text in _judge(scratch, recording.ledger.at(mark), way)]
    print(f"TEST_SEED={SEED} {recording.ledger.counts()}, {len(marks)} cuts, {dict(images)}, {len(wrong)} wrong")
    return images, wrong


def _judge(folder: Path, ledger: Ledger, way: Way) -> list[str]:
    """What is wrong with the data in `folder`, by the ledger of that moment."""
    with structlog.testing.capture_logs() as complaints:
        try:
            store = LevelDBStore(folder, sync=True)
        except StoreError as error:
            return [f"it does not open: {error}"]
    if complaints and way is not Way.ZEROS:
        ledger.violations.append(f"it opens with complaints: {complaints}")
    try:
        _check_whole(store, ledger)
        found: dict[str, bytes | None] = {}
        for key in list(ledger.writes):
            entry = data_key(key.encode())
            raw = store.get(entry)
            record = None if raw is None else decode(entry, raw).record
            found[key] = None if record is None or record.deleted else record.data
            ledger.read(key, found[key], record.timestamp if record else 0)
        ledger.check_batches(found)
    except StoreCorrupt as error:
        ledger.violations.append(f"it is damaged: {error}")
    finally:
        store.close()
    return ledger.violations


def _check_whole(store: LevelDBStore, ledger: Ledger) -> None:
    """Every write came with all that belongs to it: its rows in the indexes, the clock's floor, the sequence."""
    progress = read_progress(store)
    if progress.timestamp < ledger.floor:
        ledger.violations.append(f"the clock stands at {progress.timestamp}, {ledger.floor} was acknowledged")
    for entry, raw in store.scan(DATA, after(DATA)):
        stored = decode(entry, raw)
        record, seq = stored.record, stored.seq
        version = (record.timestamp, record.counter)
        if store.get(change_row(seq)) != entry or store.get(time_row(*version, entry)) is None:
            ledger.violations.append(f"{entry!r}: the rows that lead to it are missing")
        if seq > progress.seq or version > (progress.timestamp, progress.counter):
            ledger.violations.append(f"{entry!r}: it is newer than the node's progress")


def _start_after_cuts(recording: Recording, recorder: Recorder, ways: tuple[Way, ...]) -> None:
    """A real node on what a late cut leaves: all is there, and it takes writes."""
    *_, (mark, disk) = replay(recording.journal, recording.folder, choose_cuts(recording.journal, 20, Random(SEED)))
    for way in ways:
        daemon = recorder.make_daemon(recorder.folder / way.name)
        write_folder(daemon.data_dir, disk.cut(way, Random(SEED)))
        daemon.start()
        audit(recording.ledger.at(mark), daemon.client)
        daemon.stop()
        daemon.assert_no_traceback()


def test_a_power_cut_loses_nothing_acknowledged(recorder: Recorder, tmp_path: Path) -> None:
    recording = recorder.record(SMALL, acks=150)
    images, wrong = _cut_everywhere(recording, cuts=80, scratch=tmp_path / "cut")
    assert not wrong, "\n".join(wrong[:20])
    assert all(images[way.name] > 20 for way in Way)
    _start_after_cuts(recording, recorder, (Way.LEAST, Way.TORN))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_power_cut_while_tables_are_written_and_merged_loses_nothing(recorder: Recorder, tmp_path: Path) -> None:
    recording = recorder.record(LARGE, acks=200)
    images, wrong = _cut_everywhere(recording, cuts=300, scratch=tmp_path / "cut")
    assert not wrong, "\n".join(wrong[:20])
    assert all(images[way.name] > 50 for way in Way)
    _start_after_cuts(recording, recorder, tuple(Way))


def test_without_fsync_the_same_cuts_lose_acknowledged_writes(recorder: Recorder, tmp_path: Path) -> None:
    # Were nothing found here, the test above would prove nothing. `os` promises no more than this.
    recording = recorder.record(SMALL, acks=50, environment={"KVS_WRITE_DURABILITY": "os"})
    _, wrong = _cut_everywhere(recording, cuts=20, scratch=tmp_path / "cut")
    lost = [text for text in wrong if "acknowledged" in text and "is lost" in text]
    assert len({text.split(":")[0] for text in lost}) > 20, wrong[:20]
    assert not [text for text in wrong if "there in part" in text or "are missing" in text], "a write is there by half"


def test_the_journal_tells_all_that_the_node_wrote(recorder: Recorder) -> None:
    recording = recorder.record(SMALL, acks=50)
    end = recording.journal.stat().st_size
    *_, (mark, disk) = replay(recording.journal, recording.folder, [end])
    assert mark == end
    # The key is no part of the database, and gets its name by a call that the journal does not know.
    left_out = {*LEVELDB_NOTES, "signing.key"}
    real = {file.name: file.read_bytes() for file in recording.folder.iterdir() if file.name not in left_out}
    assert disk.files() == real
    assert len(real) > 3


def _at(offset: int, data: bytes) -> bytes:
    return pack("=q", offset) + data


def _journal(file: Path, *steps: tuple[bytes, str, bytes]) -> Path:
    file.write_bytes(
        b"".join(pack("=cII", op, len(path), len(data)) + path.encode() + data for op, path, data in steps)
    )
    return file


def test_only_what_was_synced_is_left(tmp_path: Path) -> None:
    steps = (
        (b"T", "/d/a", b""),
        (b"W", "/d/a", _at(0, b"one")),
        (b"S", "/d/a", b""),
        (b"W", "/d/a", _at(3, b"two")),
        (b"T", "/d/b.tmp", b""),
        (b"W", "/d/b.tmp", _at(0, b"new")),
        (b"S", "/d/b.tmp", b""),
        (b"R", "/d/b.tmp", b"/d/b"),
        (b"U", "/d/a", b""),
    )
    disk, random = Disk("/d"), Random(SEED)
    for step in read_journal(_journal(tmp_path / "journal", *steps)):
        disk.apply(step)
    assert disk.files() == {"b": b"new"}
    assert disk.cut(Way.LEAST, random) == {"a": b"one", "b.tmp": b"new"}
    assert disk.cut(Way.OWN, random) == {"a": b"one", "b.tmp": b"new"}
    assert disk.cut(Way.NAMES, random) == {"b": b"new"}
    torn = [disk.cut(Way.TORN, random) for _ in range(200)]
    assert {left["a"] for left in torn if "a" in left} == {b"one", b"onet", b"onetw", b"onetwo"}
    assert {tuple(sorted(left)) for left in torn} == {("a", "b.tmp"), ("a", "b"), ("b",)}
    for step in read_journal(_journal(tmp_path / "journal", (b"S", "/d", b""))):
        disk.apply(step)
    assert disk.cut(Way.LEAST, random) == disk.cut(Way.OWN, random) == {"b": b"new"}


def test_of_what_was_written_over_whole_sectors_are_left(tmp_path: Path) -> None:
    empty, a, b, c = (letter * 512 for letter in (b"0", b"a", b"b", b"c"))
    steps = (
        (b"T", "/d/1.log", b""),
        (b"W", "/d/1.log", _at(0, empty * 4)),
        (b"S", "/d/1.log", b""),
        (b"W", "/d/1.log", _at(0, a + b)),
        (b"L", "/d/1.log", pack("=q", 1024)),
        (b"W", "/d/1.log", _at(1024, c)),
    )
    disk, random = Disk("/d"), Random(SEED)
    for step in read_journal(_journal(tmp_path / "journal", *steps)):
        disk.apply(step)
    assert disk.files() == {"1.log": a + b + c}
    assert disk.cut(Way.LEAST, random) == {"1.log": empty * 4}
    torn = {disk.cut(Way.TORN, random)["1.log"] for _ in range(200)}
    over = {left for left in torn if len(left) == 2048}
    assert over == {empty * 4, a + empty * 3}
    assert all((a + b + c).startswith(left) and len(left) >= 1024 for left in torn - over)
    mixed = {disk.cut(Way.ZEROS, random)["1.log"] for _ in range(100)}
    assert mixed == {one + two + three for one in (a, empty) for two in (b, empty) for three in (c, empty)}


def test_names_wait_for_a_sync_that_needs_the_journal(tmp_path: Path) -> None:
    begin = (
        (b"T", "/d/1.log", b""),
        (b"W", "/d/1.log", _at(0, b"0000")),
        (b"S", "/d/1.log", b""),
        (b"T", "/d/a.tmp", b""),
        (b"S", "/d/a.tmp", b""),
        (b"R", "/d/a.tmp", b"/d/a"),
    )
    for write, names in ((_at(2, b"11"), {"1.log", "a.tmp"}), (_at(3, b"11"), {"1.log", "a"})):
        disk = Disk("/d")
        steps = (*begin, (b"W", "/d/1.log", write), (b"S", "/d/1.log", b""))
        for step in read_journal(_journal(tmp_path / "journal", *steps)):
            disk.apply(step)
        left = disk.cut(Way.LEAST, Random(SEED))
        assert set(left) == names
        assert left["1.log"] == disk.files()["1.log"]


def test_a_file_may_be_as_long_as_before_it_was_cut_short(tmp_path: Path) -> None:
    steps = (
        (b"T", "/d/1.log", b""),
        (b"W", "/d/1.log", _at(0, b"000000")),
        (b"S", "/d/1.log", b""),
        (b"L", "/d/1.log", pack("=q", 3)),
    )
    disk = Disk("/d")
    for step in read_journal(_journal(tmp_path / "journal", *steps)):
        disk.apply(step)
    assert disk.files() == {"1.log": b"000"}
    assert disk.cut(Way.LEAST, Random(SEED)) == {"1.log": b"000000"}
    assert disk.cut(Way.ZEROS, Random(SEED))["1.log"] in (b"000", b"000000")
