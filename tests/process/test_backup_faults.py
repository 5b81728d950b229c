"""Backups and restores that are killed, run out of room, or are made while everything changes."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from subprocess import Popen
from threading import Event, Thread

import orjson
import pytest

from kvs.limits import LEVELDB_WRITE_BUFFER_BYTES
from kvs.storage.backup import verify
from kvs.storage.codec import decode
from kvs.storage.keyspace import DATA, after
from kvs.storage.leveldb import LevelDBStore
from tests.backups import exported, restored
from tests.process.cli import Cli
from tests.process.daemon import Client, Daemon
from tests.process.disks import Disk
from tests.process.eventually import eventually
from tests.process.shim import Shim

MIB = 1024 * 1024


def fill(client: Client, records: int, *, random_bytes: int = 100) -> None:
    """So many random bytes in each, which no compression makes smaller."""
    for start in range(0, records, 2_000):
        items = [
            {"op": "put", "path": f"k{number:06d}", "data": os.urandom(random_bytes).hex()}
            for number in range(start, min(start + 2_000, records))
        ]
        assert client.request("POST", "/kv/_bulk", orjson.dumps(items)).status == 200


def make(client: Client) -> dict[str, object]:
    made = client.request("POST", "/api/backup?timeout=2m")
    assert made.status == 201, made
    found = made.json()
    assert isinstance(found, dict)
    return found


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """Its backups are in `backups` of its folder."""
    made = make_daemon()
    made.start()
    yield made
    made.assert_no_traceback()


def backups_of(daemon: Daemon) -> Path:
    return daemon.folder / "backups"


# --- a moment ---


def test_a_backup_shows_one_moment_while_everything_changes(daemon: Daemon, tmp_path: Path) -> None:
    """Every bulk request gives ten keys the same number: no backup shows two numbers."""
    fill(daemon.client, 4_000)
    ended, begun, written = Event(), Event(), count(1)

    def write() -> None:
        client = Client(daemon.url)
        for number in written:
            items = [{"op": "put", "path": f"pair/{key}", "data": number} for key in range(10)]
            assert client.request("POST", "/kv/_bulk", orjson.dumps(items)).status == 200
            begun.set()
            if ended.is_set():
                break
        client.close()

    writers = [Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    assert begun.wait(20)
    names = [str(make(daemon.client)["name"]) for _ in range(4)]
    ended.set()
    for writer in writers:
        writer.join()
    seen: list[int] = []
    for name in names:
        store = restored((backups_of(daemon) / name).read_bytes(), tmp_path / name)
        records = {key: decode(key, raw).record for key, raw in store.scan(b"dpair/", after(b"dpair/"))}
        numbers = {int(record.data) for record in records.values()}
        assert (len(records), len(numbers)) == (10, 1), numbers
        seen += numbers
        assert sum(1 for _ in store.scan(DATA, after(DATA))) == 4_010
        store.close()
    assert len(set(seen)) > 1, "nothing changed meanwhile"


# --- kills ---


def test_a_restore_that_is_killed_leaves_nothing_or_everything(daemon: Daemon, tmp_path: Path) -> None:
    fill(daemon.client, 20_000)
    path = backups_of(daemon) / str(make(daemon.client)["name"])
    kvs = Cli(tmp_path / "other")
    config = kvs.config("node.yaml", "data_dir: ./data\n")
    data = config.parent / "data"
    workshop = config.parent / "data.restoring"

    def written_bytes() -> int:
        return sum(file.stat().st_size for file in workshop.glob("*") if file.exists())

    def has_come_so_far(process: "Popen[str]", wanted_bytes: int) -> bool:
        return process.poll() is not None or (workshop.exists() and written_bytes() >= wanted_bytes)

    outcomes = []
    for wanted in (0, 1, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 1 << 40):
        process = kvs.popen("backup", "restore", path, config)
        assert eventually(partial(has_come_so_far, process, wanted), 60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not data.exists():
            outcomes.append("nothing")
            continue
        outcomes.append("everything")
        store = LevelDBStore(data, sync=False)
        assert sum(1 for _ in store.scan(DATA, after(DATA))) == 20_000
        store.close()
        shutil.rmtree(data)
    print(outcomes)
    assert outcomes[0] == "nothing"
    assert outcomes[-1] == "everything"
    assert kvs.run("backup", "restore", path, config).code == 0
    assert not workshop.exists()
    whole, again = restored(path.read_bytes(), tmp_path / "whole"), LevelDBStore(data, sync=False)
    assert exported(whole) == exported(again)
    whole.close()
    again.close()


def test_a_node_that_is_killed_while_it_makes_one_leaves_the_old_ones(daemon: Daemon) -> None:
    fill(daemon.client, 20_000)
    first = make(daemon.client)
    status = daemon.client.request("GET", "/api/backup/status").json()
    assert daemon.client.request("POST", "/api/backup?timeout=0").status == 202
    assert eventually(lambda: any(name.endswith(".tmp") for name in files(backups_of(daemon))), 20)
    daemon.kill()
    left = files(backups_of(daemon))
    assert first["name"] in left
    for name in left:
        if name.endswith(".zst"):
            verify(BytesIO((backups_of(daemon) / name).read_bytes()))
    daemon.start()
    assert not any(name.endswith(".tmp") for name in files(backups_of(daemon)))
    again = daemon.client.request("GET", "/api/backup/status").json()
    assert again["last_backup_path"] == status["last_backup_path"]
    assert again["backups_running"] == 0
    make(daemon.client)


def test_sigterm_while_one_is_made_ends_soon_and_leaves_nothing(daemon: Daemon) -> None:
    fill(daemon.client, 20_000)
    assert daemon.client.request("POST", "/api/backup?timeout=0").status == 202
    assert eventually(lambda: files(backups_of(daemon)), 20)
    daemon.stop()
    assert not any(name.endswith(".tmp") for name in files(backups_of(daemon)))


def test_sigterm_while_the_one_of_the_schedule_is_made_ends_soon_and_leaves_nothing(
    shim: Path, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    daemon = make_daemon(settings={"backup_schedule": "0 * * * *"})
    clock = Shim(shim, tmp_path / "shim", daemon.data_dir).with_clock()
    daemon.environment = clock.environment
    daemon.start()
    fill(daemon.client, 20_000)
    clock.set_clock(3_600_000)
    assert eventually(lambda: files(backups_of(daemon)), 20)
    daemon.stop()
    assert not any(name.endswith(".tmp") for name in files(backups_of(daemon)))
    daemon.assert_no_traceback()


# --- full disks ---


def test_a_full_disk_fails_the_backup_and_nothing_else(
    make_disk: Callable[[int], Disk], make_daemon: Callable[..., Daemon]
) -> None:
    disk = make_disk(32 * MIB)
    disk.fill(20 * MIB)
    folder = disk.folder / "backups"
    daemon = make_daemon(settings={"backup_path": str(folder)})
    daemon.start()
    fill(daemon.client, 4_000, random_bytes=4_000)  # 16 MB
    failed = daemon.client.request("POST", "/api/backup?timeout=2m")
    assert (failed.status, failed.json()["code"]) == (503, "backup_failed")
    assert files(folder) == []
    status = daemon.client.request("GET", "/api/backup/status").json()
    assert (status["last_backup_success"], status["last_backup_path"]) == (False, None)
    assert "room" in status["last_backup_error"] or "space" in status["last_backup_error"]
    assert daemon.client.request("GET", "/health").status == 200
    assert daemon.client.put("still/there", b"1").status == 201
    disk.ballast.unlink()
    made = make(daemon.client)
    assert files(folder) == [made["name"]]
    # A second one does not fit beside it. The first stays.
    disk.fill(MIB)
    assert daemon.client.request("POST", "/api/backup?timeout=2m").status == 503
    assert files(folder) == [made["name"]]
    verify(BytesIO((folder / str(made["name"])).read_bytes()))
    daemon.stop()
    daemon.assert_no_traceback()


def test_a_backup_on_the_disk_of_the_data_leaves_room_for_writes(
    make_disk: Callable[[int], Disk], make_daemon: Callable[..., Daemon]
) -> None:
    disk = make_disk(96 * MIB)
    daemon = make_daemon(data_dir=disk.folder / "data", settings={"backup_path": str(disk.folder / "backups")})
    daemon.start()
    # Less than LevelDB makes a table of: while it does, that is on the disk twice, and the free room moves.
    assert LEVELDB_WRITE_BUFFER_BYTES > 3_000 * 4_500 + MIB
    fill(daemon.client, 3_000, random_bytes=4_000)
    disk.leave(12 * MIB)
    ended, refused = Event(), list[int]()

    def write() -> None:
        client = Client(daemon.url)
        for number in count():
            answer = client.put(f"meanwhile/{number % 50}", b'"small"')
            if answer.status >= 300:
                refused.append(answer.status)
            if ended.is_set():
                break
        client.close()

    writer = Thread(target=write)
    writer.start()
    failed = daemon.client.request("POST", "/api/backup?timeout=2m")
    ended.set()
    writer.join()
    assert (failed.status, failed.json()["code"]) == (503, "backup_failed")
    assert refused == []
    assert daemon.client.request("GET", "/health").json()["status"] == "healthy"
    daemon.stop()
    daemon.assert_no_traceback()
