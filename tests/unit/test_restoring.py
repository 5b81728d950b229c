"""Restoring into a data directory: what is there afterwards, what is refused, and that nothing is left half."""

import fcntl
import os
import stat
from io import BytesIO
from pathlib import Path

import msgspec
import pytest

from kvs.cluster.events import Put, Submission
from kvs.cluster.floor import Stored as StoredFloor
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.tree_building import open_tree
from kvs.errors import BackupDamaged, RestoreRefused
from kvs.limits import RESTORED_SEQ_STEP
from kvs.server.restoring import check_target, restore
from kvs.storage.audit import decode, moment
from kvs.storage.backup_files import name_of
from kvs.storage.current import history
from kvs.storage.keyspace import AUDIT, after, audit_row, data_key
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.memory import MemoryStore
from kvs.storage.record import new_uuid
from kvs.storage.state import FILLED_ROW, FLOOR_ROW, IDENTITY_ROW, TREE_ROW, open_state, read_progress
from tests.auditing import check_rows
from tests.backups import NOW_MS, backup_of, exported, header, restored
from tests.nodes import LoneNode
from tests.unit.test_backup import store_with

KEY = data_key(b"k")


def put(value: bytes) -> Put:
    return Put(entry=KEY, uuid=new_uuid(), codec=0, payload=value)


def node_with_history() -> LoneNode:
    node = LoneNode(in_cluster=True)
    open_state(node.store, NOW_MS)
    for number in range(3):
        node.do(NOW_MS + number, put(b"%d" % number))
    return node


def restore_bytes(backup: bytes, folder: Path) -> None:
    restore(BytesIO(backup), folder, NOW_MS, drift_max_ms=60_000)


def test_it_is_a_new_instance_that_goes_on_above_the_old_one(tmp_path: Path) -> None:
    node = node_with_history()
    store = restored(backup_of(node.store), tmp_path / "data", NOW_MS + 10)
    identity = open_state(store, NOW_MS + 99)
    assert store.get(IDENTITY_ROW) != node.store.get(IDENTITY_ROW)
    assert identity.joined_timestamp == NOW_MS + 10
    before = read_progress(node.store)
    assert read_progress(store) == before._replace(seq=before.seq + RESTORED_SEQ_STEP)
    # By a clock that was set back a year.
    settings = NodeSettings("n", 1, 3, 1, 60_000)
    again = Node(settings, read_progress(store), open_tree(store))
    store.commit(again.plan_group([Submission(1, (put(b"new"),), 0)], store, NOW_MS - 10**10).batch)
    kept = [(record.timestamp, record.counter) for _, record in history(store, KEY, NOW_MS, 3)]
    assert kept == sorted(kept, reverse=True)
    assert len(set(kept)) == 3
    assert kept[0] > before[:2]
    store.close()


def test_histories_come_back_as_they_were(tmp_path: Path) -> None:
    node = node_with_history()
    store = restored(backup_of(node.store), tmp_path / "data")
    found = list(history(store, KEY, NOW_MS, 3))
    assert found == node.history(KEY, NOW_MS)
    assert [record.payload for _, record in found] == [b"2", b"1", b"0"]
    store.close()


def test_what_it_knows_of_others(tmp_path: Path) -> None:
    about = header(had_peers=True, floor=NOW_MS - 9, as_of=NOW_MS - 5)
    store = restored(backup_of(store_with(b"da"), about), tmp_path / "data")
    raw = store.get(FLOOR_ROW)
    assert raw is not None
    stored = msgspec.json.decode(raw, type=StoredFloor)
    assert stored == StoredFloor(NOW_MS - 9, {}, NOW_MS - 5, had_peers=True)
    assert store.get(FILLED_ROW) == b""
    assert store.get(TREE_ROW) is None
    store.close()


def test_a_backup_from_the_future_knows_nothing_of_the_future(tmp_path: Path) -> None:
    about = header(floor=NOW_MS + 10**9, as_of=NOW_MS + 10**9)
    store = restored(backup_of(store_with(b"da"), about), tmp_path / "data")
    raw = store.get(FLOOR_ROW)
    assert raw is not None
    stored = msgspec.json.decode(raw, type=StoredFloor)
    assert (stored.floor, stored.as_of) == (NOW_MS, NOW_MS)
    store.close()


@pytest.mark.parametrize(("ahead_ms", "followed"), [(60_000, True), (60_001, False)])
def test_a_record_from_a_clock_that_was_far_ahead_moves_no_clock(tmp_path: Path, ahead_ms: int, followed: bool) -> None:
    node = node_with_history()
    node.do(NOW_MS + ahead_ms, Put(entry=data_key(b"ahead"), uuid=new_uuid(), codec=0, payload=b"1"))
    about = header(progress=(NOW_MS, 0, 3))
    store = restored(backup_of(node.store, about), tmp_path / "data")
    assert (read_progress(store).timestamp == NOW_MS + ahead_ms) == followed
    assert exported(store) == exported(node.store)
    store.close()


def test_its_audit_log_begins_with_the_restore(tmp_path: Path) -> None:
    node = node_with_history()
    backup = backup_of(node.store, header(created_at=NOW_MS - 7))
    for logged in ((), ("data_write",), ("restore",)):
        folder = tmp_path / f"data-{len(logged)}-{'restore' in logged}"
        restore(BytesIO(backup), folder, NOW_MS, 60_000, logged=logged)
        store = LevelDBStore(folder, sync=False)
        rows = dict(store.scan(AUDIT, after(AUDIT)))
        log = open_state(store, NOW_MS).instance_id
        store.close()
        report = check_rows(rows, log=log)
        assert (report.findings, report.last) == ([], int("restore" in logged))
        if report.last:
            entry = decode(rows[audit_row(1)])
            assert entry[1:5] == (moment(NOW_MS).decode(), "restore", "local", f"/backup/{name_of(NOW_MS - 7)}")


# --- where to ---


def test_a_folder_that_is_missing_or_empty_is_taken(tmp_path: Path) -> None:
    for name in ("missing", "empty", "a/b/c"):
        folder = tmp_path / name
        if name == "empty":
            folder.mkdir()
        restored(backup_of(store_with(b"da")), folder).close()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not folder.with_name(f"{folder.name}.restoring").exists()


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    restored(backup_of(store_with(b"da")), tmp_path / "data").close()
    assert (tmp_path / "disk" / "CURRENT").exists()
    assert (tmp_path / "data").is_symlink()


@pytest.mark.parametrize("what", ["signing.key", "CURRENT", ".hidden"])
def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / what).write_bytes(b"precious")
    with pytest.raises(RestoreRefused, match="is not empty"):
        restore_bytes(backup_of(store_with(b"da")), tmp_path / "data")
    assert (tmp_path / "data" / what).read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"precious")
    with pytest.raises(RestoreRefused, match="Not a directory"):
        restore_bytes(backup_of(store_with(b"da")), tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 12345, 12345)
    with pytest.raises(RestoreRefused, match="belongs to another user"):
        check_target(tmp_path / "data")


def test_what_a_killed_restore_has_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / "data.restoring"
    left.mkdir()
    (left / "CURRENT").write_bytes(b"half")
    restored(backup_of(store_with(b"da")), tmp_path / "data").close()
    assert not left.exists()


def test_another_restore_at_the_same_place_is_refused(tmp_path: Path) -> None:
    held = tmp_path / "data.restoring"
    held.mkdir()
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(RestoreRefused, match="another restore"):
        restore_bytes(backup_of(store_with(b"da")), tmp_path / "data")
    os.close(descriptor)
    assert held.exists()
    assert not (tmp_path / "data").exists()


def test_a_link_where_it_would_work_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious").touch()
    (tmp_path / "data.restoring").symlink_to(tmp_path / "victim")
    with pytest.raises(RestoreRefused):
        restore_bytes(backup_of(store_with(b"da")), tmp_path / "data")
    assert (tmp_path / "victim" / "precious").exists()


# --- damage ---


def test_a_damaged_backup_changes_nothing_however_far_it_got(tmp_path: Path) -> None:
    backup = backup_of(store_with(*(b"d%06d" % number for number in range(5_000))))
    (tmp_path / "data").mkdir()
    for at in (10, len(backup) // 2, len(backup) - 40, len(backup) - 1):
        flipped = bytearray(backup)
        flipped[at] ^= 1
        with pytest.raises(BackupDamaged):
            restore_bytes(bytes(flipped), tmp_path / "data")
        assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        restore_bytes(backup_of(MemoryStore()), tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
