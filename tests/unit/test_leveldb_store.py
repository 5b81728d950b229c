import stat
from pathlib import Path
from typing import Any

import plyvel
import pytest

from kvs.errors import StoreCorrupt, StoreError, StoreFailed
from kvs.storage.leveldb import LevelDBStore


class FailingBatch:
    """A LevelDB write batch that fails, before or after it reached the disk."""

    def __init__(self, database: Any, *, reaches_disk: bool) -> None:
        self._batch = database.write_batch(sync=True)
        self._reaches_disk = reaches_disk

    def put(self, key: bytes, value: bytes) -> None:
        self._batch.put(key, value)

    def delete(self, key: bytes) -> None:
        self._batch.delete(key)

    def write(self) -> None:
        if self._reaches_disk:
            self._batch.write()
        raise plyvel.IOError("IO error: No space left on device")


class FailingDatabase:
    """A LevelDB handle whose writes fail."""

    def __init__(self, database: Any, *, reaches_disk: bool) -> None:
        self._database = database
        self._reaches_disk = reaches_disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def write_batch(self, **_: Any) -> FailingBatch:
        return FailingBatch(self._database, reaches_disk=self._reaches_disk)


@pytest.mark.parametrize("reaches_disk", [False, True])
def test_after_a_failed_write_nothing_is_written_until_reopened(tmp_path: Path, reaches_disk: bool) -> None:
    store = LevelDBStore(tmp_path / "db", sync=True)
    store.commit({b"a": b"1", b"b": b"1"})
    store._db = FailingDatabase(store._db, reaches_disk=reaches_disk)
    with pytest.raises(StoreFailed, match="No space left"):
        store.commit({b"b": b"2"})
    with pytest.raises(StoreFailed, match="earlier write"):
        store.commit({b"c": b"3"})
    assert store.get(b"a") == b"1"
    store.probe()
    store.reopen()
    store.commit({b"d": b"4"})
    assert store.get(b"b") == (b"2" if reaches_disk else b"1")
    assert store.get(b"c") is None
    store.close()


def test_a_failed_write_that_took_effect_may_be_followed_by_another(tmp_path: Path) -> None:
    """What the first reopening found is what the second one must find."""
    store = LevelDBStore(tmp_path / "db", sync=True)
    store.commit({b"a": b"1", b"b": b"1"})
    for batch in ({b"b": b"2"}, {b"c": b"3"}, {b"a": None}):
        store._db = FailingDatabase(store._db, reaches_disk=True)
        with pytest.raises(StoreFailed, match="No space left"):
            store.commit(batch)
        store.reopen()
    assert [store.get(key) for key in (b"a", b"b", b"c")] == [None, b"2", b"3"]
    store._db.put(b"b", b"1", sync=True)
    with pytest.raises(StoreFailed, match="missing"):
        store.reopen()
    store.close()


def test_a_lost_acknowledged_write_is_noticed(tmp_path: Path) -> None:
    store = LevelDBStore(tmp_path / "db", sync=True)
    store.commit({b"a": b"1"})
    store._db.delete(b"a")
    with pytest.raises(StoreFailed, match="acknowledged"):
        store.reopen()
    with pytest.raises(StoreFailed):
        store.commit({b"b": b"2"})
    store.close()


def test_a_second_opening_is_refused_in_one_line(tmp_path: Path) -> None:
    store = LevelDBStore(tmp_path / "db", sync=True)
    with pytest.raises(StoreError, match="in use by another process") as refused:
        LevelDBStore(tmp_path / "db", sync=True)
    assert "\n" not in str(refused.value)
    store.close()


def test_a_path_that_cannot_be_a_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot use the data directory") as refused:
        LevelDBStore(tmp_path / "file" / "db", sync=True)
    assert "\n" not in str(refused.value)
    with pytest.raises(StoreError, match=r"cannot use the data directory .*/file: it is no folder$"):
        LevelDBStore(tmp_path / "file", sync=True)


def test_the_directory_is_private(tmp_path: Path) -> None:
    LevelDBStore(tmp_path / "db", sync=True).close()
    assert stat.S_IMODE((tmp_path / "db").stat().st_mode) == 0o700


def test_a_probe_follows_no_link_and_leaves_nothing(tmp_path: Path) -> None:
    store = LevelDBStore(tmp_path / "db", sync=True)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "db" / "probe.tmp").symlink_to(victim)
    with pytest.raises(StoreFailed):
        store.probe()
    assert victim.read_text() == "precious"
    store.probe()
    assert not (tmp_path / "db" / "probe.tmp").exists()
    store.close()


def test_a_rotten_table_is_reported_not_served(tmp_path: Path) -> None:
    store = LevelDBStore(tmp_path / "db", sync=True)
    store.commit({b"key%05d" % n: b"value%05d" % n for n in range(2000)})
    store._db.compact_range()
    store.close()
    (table,) = (tmp_path / "db").glob("*.ldb")
    raw = bytearray(table.read_bytes())
    raw[100] ^= 1
    table.write_bytes(raw)
    store = LevelDBStore(tmp_path / "db", sync=True)
    with pytest.raises(StoreCorrupt):
        store.get(b"key00000")
    with pytest.raises(StoreCorrupt):
        list(store.scan(b"", b"\xff"))
    store.close()
