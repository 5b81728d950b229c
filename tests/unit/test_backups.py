"""Making backups on a node: one at a time, what is known of them, what becomes of old ones and of failures."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import patch

import pytest

from kvs.actions import ACTIONS
from kvs.cluster.events import Act, Put
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.runner import Runner
from kvs.cluster.trail import Trail
from kvs.errors import BackupFailed, Conflict
from kvs.server.backups import Backups, BackupSettings, Noted
from kvs.storage.audit import decode
from kvs.storage.backup import Standing, Summary, verify, write
from kvs.storage.backup_files import Made
from kvs.storage.compression import RAW
from kvs.storage.keyspace import AUDIT_ENTRIES, after
from kvs.storage.memory import MemoryStore
from kvs.storage.record import new_uuid
from kvs.storage.state import read_progress
from tests.backups import NOW_MS
from tests.nodes import LOG

DAY_MS = 24 * 3600 * 1000
WRITE = "kvs.storage.backup_files.write"
ADA = "d34cdb10-90f0-4c06-ab8b-72a38fff0fff"


class Site:
    """A node with a clock that the test moves, and its backups."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.now_ms = NOW_MS
        self.begin()

    def begin(self) -> None:
        settings = NodeSettings("node1", 1, 3, 1_000, 60_000)
        trail = Trail(LOG, ACTIONS, self.store)
        node = Node(settings, read_progress(self.store), None, trail)
        self.runner = Runner(self.store, node, lambda: self.now_ms)
        self.late: list[Act] = []
        self.runner.start()
        self.backups = Backups(
            BackupSettings(self.folder, 7, "node1", "i1"),
            self.store,
            self.runner,
            lambda: self.now_ms,
            lambda: Standing(self.now_ms - 20, self.now_ms - 10, had_peers=True),
            write_soon=self.late.append,
        )
        self.backups.start()

    async def end(self) -> None:
        await self.backups.stop()
        await self.runner.stop()

    async def restart(self) -> None:
        await self.end()
        self.store = self.store.crash()
        self.begin()

    async def put(self, key: str) -> None:
        await self.runner.write(Put(entry=b"d" + key.encode(), uuid=new_uuid(), codec=RAW, payload=b"1"))

    async def make(self) -> Made:
        outcome = await self.backups.begin(ADA)
        assert isinstance(outcome, Made), outcome
        return outcome

    async def fail(self) -> BackupFailed:
        outcome = await self.backups.begin(ADA)
        assert isinstance(outcome, BackupFailed)
        return outcome

    @property
    def logged(self) -> list[tuple[str, str, str]]:
        """(Action, user, resource) of the audit log, but for written values."""
        entries = [decode(raw) for _, raw in self.store.scan(AUDIT_ENTRIES, after(AUDIT_ENTRIES))]
        return [(one.action, one.user_uuid, one.resource) for one in entries if one.action != "data_write"]

    def is_running(self) -> bool:
        return self.backups.status.rows is not None

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path / "backups")
    yield made
    await made.end()


def look_at(made: Made) -> Summary:
    with made.path.open("rb") as file:
        return verify(file)


async def test_what_it_says_of_itself(site: Site) -> None:
    await site.put("a")
    made = await site.make()
    header = look_at(made).header
    assert (header.created_at, header.node_id, header.instance_id) == (NOW_MS, "node1", "i1")
    assert (header.floor, header.as_of, header.had_peers) == (NOW_MS - 20, NOW_MS - 10, True)
    assert header.progress == read_progress(site.store)[:3] == (NOW_MS, 0, 1)
    assert look_at(made).counts == made.counts
    assert made.size_bytes == made.path.stat().st_size


class Gate:
    """Holds a backup that is being written until the test lets it go on."""

    def __init__(self) -> None:
        self._write = write
        self._loop = asyncio.get_running_loop()
        self.reached = asyncio.Event()
        self.open = Event()

    def __call__(self, *arguments: Any) -> Any:
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self.open.wait(20)
        return self._write(*arguments)


async def test_one_at_a_time_while_writes_go_on(site: Site) -> None:
    await site.put("before")
    gate = Gate()
    with patch(WRITE, gate):
        task = site.backups.begin(ADA)
        await gate.reached.wait()
        assert site.is_running()
        with pytest.raises(Conflict) as refused:
            site.backups.begin(ADA)
        assert refused.value.code == "backup_running"
        site.backups.by_schedule()  # leaves it at that
        await site.put("meanwhile")
        gate.open.set()
        made = await task
    assert isinstance(made, Made)
    assert look_at(made).counts.records == 1
    assert not site.is_running()
    assert (await site.make()).counts.records == 2
    assert site.backups.status[2:] == (2, 0)


async def test_what_is_known_of_backups_outlives_a_restart(site: Site) -> None:
    assert site.backups.status.noted == Noted()
    assert site.backups.last_ms == 0
    made = await site.make()
    await site.restart()
    assert site.backups.status.noted == Noted(NOW_MS, success=True, path=str(made.path))
    assert site.backups.last_ms == NOW_MS
    site.now_ms += 5
    made.path.parent.rename(site.folder.with_name("moved"))
    site.folder.touch()
    await site.fail()
    await site.restart()
    noted = site.backups.status.noted
    assert (noted.time, noted.success, noted.path) == (NOW_MS + 5, False, str(made.path))
    assert noted.error is not None
    assert str(site.folder) not in noted.error
    assert site.backups.status[2:] == (0, 0)


async def test_a_failure_tells_no_path_and_leaves_nothing(site: Site) -> None:
    await site.put("a")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device", str(site.folder))

    with patch.object(os, "fsync", fail):
        failure = await site.fail()
    assert failure.detail == "the backup could not be written: No space left on device"
    assert site.names() == []
    assert site.backups.status[2:] == (0, 1)


async def test_a_bug_is_told_as_such(site: Site) -> None:
    with patch(WRITE, side_effect=RuntimeError("secret")):
        failure = await site.fail()
    assert "secret" not in failure.detail
    assert site.names() == []


async def test_a_stop_gives_up_the_one_that_is_running(site: Site) -> None:
    for number in range(20):
        await site.put(str(number))
    gate = Gate()
    with patch(WRITE, gate):
        task = site.backups.begin(ADA)
        await gate.reached.wait()
        stopping = asyncio.create_task(site.backups.stop())
        await asyncio.sleep(0)
        gate.open.set()
        await stopping
    assert isinstance(await task, BackupFailed)
    assert site.names() == []
    assert site.backups.status.noted.error == "the node stopped"


async def test_a_store_that_is_reopened_meanwhile_ends_it(site: Site) -> None:
    await site.put("a")
    gate = Gate()
    with patch(WRITE, gate):
        task = site.backups.begin(ADA)
        await gate.reached.wait()
        site.store.reopen()
        gate.open.set()
        assert isinstance(await task, BackupFailed)
    assert site.names() == []
    await site.make()


async def test_one_that_was_made_is_in_the_audit_log_as_of_who_asked(site: Site) -> None:
    made = await site.make()
    site.now_ms += 1
    site.backups.by_schedule()
    assert site.backups._running is not None
    await site.backups._running
    scheduled = site.backups.status.noted.path
    assert scheduled is not None
    site.now_ms += 1
    with patch(WRITE, side_effect=OSError(28, "No space left on device")):
        await site.fail()
    assert site.logged == [
        ("backup", ADA, f"/backup/{made.path.name}"),
        ("backup", "node", f"/backup/{Path(scheduled).name}"),
    ]
    await site.restart()
    assert len(site.logged) == 2
    assert site.late == []


async def test_what_cannot_be_noted_is_remembered_at_least(site: Site) -> None:
    await site.put("a")
    site.store.fail_writes("no space")
    made = await site.make()
    assert site.backups.status.noted.path == str(made.path)
    assert site.logged == []
    assert site.late == [Act("backup", ADA, f"/backup/{made.path.name}")]


async def test_old_ones_go_when_a_new_one_is_made(site: Site) -> None:
    first = await site.make()
    site.now_ms += 7 * DAY_MS
    second = await site.make()
    assert site.names() == [first.path.name, second.path.name]
    site.now_ms += 1
    third = await site.make()
    assert site.names() == [second.path.name, third.path.name]


async def test_none_goes_while_new_ones_fail(site: Site) -> None:
    first = await site.make()
    for _ in range(3):
        site.now_ms += 30 * DAY_MS
        with patch(WRITE, side_effect=OSError(28, "No space left on device")):
            await site.fail()
    assert site.names() == [first.path.name]
    assert site.backups.status.noted.path == str(first.path)
    look_at(first)


async def test_those_of_a_node_that_was_here_before_stay(site: Site) -> None:
    first = await site.make()
    site.backups._settings = site.backups._settings._replace(instance_id="i2")
    site.now_ms += 30 * DAY_MS
    second = await site.make()
    assert site.names() == [first.path.name, second.path.name]


async def test_a_damaged_old_one_stays_and_harms_nobody(site: Site) -> None:
    first = await site.make()
    first.path.write_bytes(b"damaged")
    site.now_ms += 30 * DAY_MS
    second = await site.make()
    assert site.names() == [first.path.name, second.path.name]
    assert [one.summary is None for one in await site.backups.list()] == [True, False]


async def test_what_a_killed_node_left_goes_at_the_start(site: Site) -> None:
    site.folder.mkdir()
    (site.folder / "kvs-backup-i1.tmp").write_bytes(b"half")
    await site.restart()
    assert site.names() == []


async def test_a_folder_that_cannot_be_used_keeps_no_node_from_starting(site: Site) -> None:
    site.folder.touch()
    await site.restart()
    await site.fail()


async def test_corrupt_records_are_left_out(site: Site) -> None:
    await site.put("a")
    await site.put("b")
    raw = site.store.get(b"da")
    assert raw is not None
    site.store.commit({b"da": raw[:-1] + b"9"})
    made = await site.make()
    assert (made.counts.records, made.counts.left_out) == (1, 1)
