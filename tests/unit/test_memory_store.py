"""What only the fake can do: fail, and forget what was not synced."""

import pytest

from kvs.errors import StoreFailed
from kvs.storage.memory import MemoryStore


def test_a_failed_write_stops_all_writes_until_reopened() -> None:
    store = MemoryStore()
    store.commit({b"a": b"1"})
    store.fail_writes("ENOSPC")
    with pytest.raises(StoreFailed):
        store.commit({b"b": b"2"})
    with pytest.raises(StoreFailed):
        store.probe()
    store.fail_writes(None)
    with pytest.raises(StoreFailed):
        store.commit({b"b": b"2"})
    store.probe()
    store.reopen()
    store.commit({b"c": b"3"})
    assert dict(store.scan(b"", b"\xff")) == {b"a": b"1", b"c": b"3"}


def test_a_crash_keeps_what_was_synced() -> None:
    store = MemoryStore(sync=False)
    store.commit({b"a": b"1"})
    store.sync()
    store.commit({b"b": b"2"})
    assert dict(store.crash().scan(b"", b"\xff")) == {b"a": b"1"}

    synced = MemoryStore(sync=True)
    synced.commit({b"a": b"1"})
    assert dict(synced.crash().scan(b"", b"\xff")) == {b"a": b"1"}
