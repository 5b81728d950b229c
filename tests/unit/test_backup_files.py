"""The folder of backups: names, what is left behind, what goes."""

import errno
import os
import re
import stat
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

import pytest

from kvs.storage import backup_files
from kvs.storage.backup import Counts, Header
from kvs.storage.backup_files import Made, found, make, name_of, opened, outdated, remove, remove_unfinished
from kvs.storage.codec import Stored, encode
from kvs.storage.memory import MemoryStore
from tests.backups import NOW_MS, header
from tests.records import record
from tests.unit.test_backup import store_with


def made(folder: Path, about: Header | None = None, store: MemoryStore | None = None) -> Made:
    snapshot = (store or store_with(b"da")).snapshot()
    return make(folder, about or header(), snapshot, lambda _: None)


def large_store() -> MemoryStore:
    """More than is brought to the disk at one go, and nothing that could be packed."""
    store = MemoryStore()
    for key in (b"d%d" % number for number in range(10)):
        store.commit({key: encode(key, Stored(record(payload=os.urandom(1 << 20)), 1, 1, 0))})
    return store


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_names_tell_the_time_and_sort_by_it() -> None:
    assert name_of(NOW_MS) == "kvs-backup-20231114T221320.000Z.zst"
    assert name_of(NOW_MS + 7) == "kvs-backup-20231114T221320.007Z.zst"
    times = [0, 999, 1000, NOW_MS, NOW_MS + 1, NOW_MS + 10**10]
    assert sorted(map(name_of, times)) == list(map(name_of, times))


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = made(tmp_path / "a" / "backups").path
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_nothing_that_is_there_is_replaced(tmp_path: Path) -> None:
    paths = [made(tmp_path).path for _ in range(3)]
    assert [path.name for path in paths] == [name_of(NOW_MS), name_of(NOW_MS + 1), name_of(NOW_MS + 2)]
    assert [one.path for one in found(tmp_path)] == paths
    assert all(one.summary is not None and one.summary.counts.records == 1 for one in found(tmp_path))


def test_a_file_system_without_hard_links_will_do(tmp_path: Path) -> None:
    def refuse(*_: object) -> NoReturn:
        raise PermissionError(errno.EPERM, "no links here")

    with patch.object(os, "link", refuse):
        path = made(tmp_path).path
        assert names(tmp_path) == [path.name]
        with pytest.raises(PermissionError):
            made(tmp_path)
    assert names(tmp_path) == [path.name]
    assert found(tmp_path)[0].summary is not None


class Interrupted(Exception):
    pass


def test_what_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(_: Counts) -> NoReturn:
        assert names(tmp_path) == ["kvs-backup-i1.tmp"]
        raise Interrupted

    with pytest.raises(Interrupted):
        make(tmp_path, header(), store_with(b"da").snapshot(), interrupt)
    assert names(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "fdatasync", "link"])
def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, call: str) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error")

    with patch.object(os, call, fail), pytest.raises(OSError, match="Input/output"):
        made(tmp_path, store=large_store())
    assert names(tmp_path) == []


def test_it_ends_before_the_disk_is_full(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)

    class Full:
        f_frsize = disk.f_frsize
        f_blocks = disk.f_blocks
        f_bavail = 1

    with patch.object(os, "fstatvfs", lambda _: Full), pytest.raises(OSError, match="too little room") as full:
        made(tmp_path, store=large_store())
    assert full.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_what_a_killed_node_left_is_overwritten_or_removed_by_that_node_only(tmp_path: Path) -> None:
    for instance in ("i1", "i2"):
        (tmp_path / f"kvs-backup-{instance}.tmp").write_bytes(b"half of it")
    made(tmp_path)
    assert names(tmp_path) == [name_of(NOW_MS), "kvs-backup-i2.tmp"]
    remove_unfinished(tmp_path, "i1")
    remove_unfinished(tmp_path, "i2")
    assert names(tmp_path) == [name_of(NOW_MS)]


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder"])
def test_what_was_planted_in_its_way_is_not_followed(tmp_path: Path, kind: str) -> None:
    victim, planted = tmp_path / "victim", tmp_path / "backups" / "kvs-backup-i1.tmp"
    planted.parent.mkdir()
    victim.write_bytes(b"precious")
    if kind == "folder":
        planted.mkdir()
    else:
        planted.symlink_to(victim if kind == "link" else tmp_path / "nothing")
    with pytest.raises(OSError):
        made(planted.parent)
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()


def test_other_files_of_the_folder_are_no_backups(tmp_path: Path) -> None:
    for name in ("notes.txt", "kvs-backup-20231114T221320.000Z.zst.part", "kvs-backup-i1.tmp", "kvs-backup-x.zst"):
        (tmp_path / name).touch()
    (tmp_path / name_of(1)).mkdir()
    (tmp_path / name_of(2)).symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / name_of(3))
    assert found(tmp_path) == []
    assert found(tmp_path / "missing") == []


def test_a_damaged_one_is_listed_as_such(tmp_path: Path) -> None:
    path = made(tmp_path).path
    path.write_bytes(path.read_bytes()[:-1])
    (one,) = found(tmp_path)
    assert (one.path, one.summary, one.size_bytes) == (path, None, path.stat().st_size)
    assert one.document() == {"name": path.name, "readable": False, "size_bytes": one.size_bytes}


def test_a_file_to_read_may_be_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), opened(tmp_path / "missing"):
        pass
    with pytest.raises(IsADirectoryError), opened(tmp_path) as file:
        file.read()


# --- what goes ---


def test_old_ones_of_this_node_go_and_the_last_good_one_never(tmp_path: Path) -> None:
    old = [made(tmp_path, header(created_at=time)).path for time in (1, 2, 3)]
    others = made(tmp_path, header(created_at=2, instance_id="i2")).path
    damaged = made(tmp_path, header(created_at=1)).path
    damaged.write_bytes(b"not a backup any more")
    new = made(tmp_path).path
    assert outdated(found(tmp_path), "i1", 3, new) == old[:2]
    assert outdated(found(tmp_path), "i1", NOW_MS + 1, new) == old
    assert outdated(found(tmp_path), "i1", NOW_MS + 1, old[0]) == [*old[1:], new]
    remove(outdated(found(tmp_path), "i1", NOW_MS + 1, new))
    assert set(tmp_path.iterdir()) == {others, damaged, new}


def test_the_names_that_are_made_are_those_that_are_found() -> None:
    for time in (0, 1, 999, NOW_MS, 4102444800000):
        assert re.fullmatch(backup_files._NAME, name_of(time))
