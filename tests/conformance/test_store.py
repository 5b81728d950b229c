"""One suite for every store: what `kvs.storage.store.Store` promises."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvs.errors import StoreClosed, StoreFailed
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.memory import MemoryStore
from kvs.storage.store import Store

Open = Callable[[], Store]


@pytest.fixture(params=["memory", "leveldb-fsync", "leveldb-os"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[Store] = []
    kind: str = request.param

    def make() -> Store:
        directory = tmp_path / f"db{len(opened)}"
        store: Store = MemoryStore() if kind == "memory" else LevelDBStore(directory, sync=kind == "leveldb-fsync")
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


def test_a_staged_batch_is_there_once_it_is_written(store: Store) -> None:
    store.commit({b"a": b"1", b"b": b"1"})
    write = store.stage({b"a": b"2", b"b": None})
    assert (store.get(b"a"), store.get(b"b")) == (b"1", b"1")
    writer = Thread(target=write)
    writer.start()
    writer.join()
    assert (store.get(b"a"), store.get(b"b")) == (b"2", None)


def test_what_was_never_written_is_not_there(store: Store) -> None:
    assert store.get(b"a") is None
    assert list(store.scan(b"", b"\xff")) == []


def test_a_batch_writes_and_deletes(store: Store) -> None:
    store.commit({b"a": b"1", b"b": b"2"})
    store.commit({b"a": None, b"c": b"", b"never": None})
    assert [store.get(key) for key in (b"a", b"b", b"c")] == [None, b"2", b""]


def test_a_scan_is_ordered_and_bounded(store: Store) -> None:
    store.commit(dict.fromkeys([b"b", b"a\xff", b"a", b"a\0", b"c"], b""))
    assert [key for key, _ in store.scan(b"a", b"c")] == [b"a", b"a\0", b"a\xff", b"b"]
    assert list(store.scan(b"c", b"a")) == []


def test_a_scan_finds_a_lone_entry_from_both_sides(store: Store) -> None:
    store.commit(dict.fromkeys([b"a", b"b", b"c"], b""))
    for start, stop in ((b"b", b"c"), (b"b", b"b\0"), (b"a\0", b"c"), (b"c", b"z"), (b"a", b"b")):
        found = list(store.scan(start, stop))
        assert len(found) == 1
        assert list(store.scan(start, stop, backwards=True)) == found


def test_a_scan_shows_what_was_there_when_it_began(store: Store) -> None:
    store.commit({b"a": b"1", b"b": b"1"})
    scan = store.scan(b"", b"\xff")
    assert next(scan) == (b"a", b"1")
    store.commit({b"b": b"2", b"c": b"2"})
    assert list(scan) == [(b"b", b"1")]


def test_an_empty_batch_is_taken(store: Store) -> None:
    store.commit({})
    assert list(store.scan(b"", b"\xff")) == []


def test_reopening_keeps_everything_and_writes_go_on(store: Store) -> None:
    store.commit({b"a": b"1", b"gone": b""})
    store.commit({b"gone": None, b"b": b"2"})
    store.probe()
    store.reopen()
    assert list(store.scan(b"", b"\xff")) == [(b"a", b"1"), (b"b", b"2")]
    store.commit({b"c": b"3"})
    assert store.get(b"c") == b"3"


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreClosed):
        store.get(b"a")
    with pytest.raises(StoreClosed):
        list(store.scan(b"", b"\xff"))
    with pytest.raises((StoreClosed, StoreFailed)):
        store.commit({b"a": b""})


keys = st.binary(min_size=1, max_size=3)
batches = st.lists(st.dictionaries(keys, st.one_of(st.none(), st.binary(max_size=5)), max_size=6), max_size=6)


@given(batches, keys, keys)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
def test_it_is_an_ordered_dictionary(
    open_store: Open, batches: list[dict[bytes, bytes | None]], start: bytes, stop: bytes
) -> None:
    store = open_store()
    oracle: dict[bytes, bytes] = {}
    for batch in batches:
        store.commit(batch)
        for key, value in batch.items():
            if value is None:
                oracle.pop(key, None)
            else:
                oracle[key] = value
    assert dict(store.scan(b"", b"\xff\xff\xff\xff")) == oracle
    expected = sorted((k, v) for k, v in oracle.items() if start <= k < stop)
    assert list(store.scan(start, stop)) == expected
    assert list(store.scan(start, stop, backwards=True)) == expected[::-1]


def test_a_snapshot_shows_what_was_there_when_it_was_taken(store: Store) -> None:
    store.commit({b"a": b"1", b"b": b"1"})
    snapshot = store.snapshot()
    store.commit({b"a": None, b"b": b"2", b"c": b"2"})
    assert [snapshot.get(key) for key in (b"a", b"b", b"c")] == [b"1", b"1", None]
    assert list(snapshot.scan(b"", b"\xff")) == [(b"a", b"1"), (b"b", b"1")]
    assert list(snapshot.scan(b"", b"\xff", backwards=True)) == [(b"b", b"1"), (b"a", b"1")]
    assert list(snapshot.scan(b"a", b"b")) == [(b"a", b"1")]
    snapshot.close()
    snapshot.close()
    assert store.get(b"c") == b"2"


@pytest.mark.parametrize("end", ["close", "reopen"])
def test_a_snapshot_ends_with_the_store_or_its_reopening(store: Store, end: str) -> None:
    store.commit({b"%d" % number: b"" for number in range(10)})
    snapshot = store.snapshot()
    scan = snapshot.scan(b"", b"\xff")
    next(scan)
    getattr(store, end)()
    with pytest.raises(StoreClosed):
        snapshot.get(b"1")
    with pytest.raises(StoreClosed):
        list(snapshot.scan(b"", b"\xff"))
    scan.close()  # type: ignore[attr-defined]  # both are generators
    snapshot.close()
    if end == "close":
        with pytest.raises(StoreClosed):
            store.snapshot()


def test_a_closed_snapshot_says_so(store: Store) -> None:
    snapshot = store.snapshot()
    snapshot.close()
    with pytest.raises(StoreClosed):
        snapshot.get(b"a")
    with pytest.raises(StoreClosed):
        list(snapshot.scan(b"", b"\xff"))


def test_a_snapshot_is_read_in_a_thread_while_the_store_is_written_and_reopened(store: Store) -> None:
    """Each batch writes one number everywhere: a snapshot that shows two has torn a batch."""
    keys = [b"%03d" % number for number in range(300)]
    store.commit(dict.fromkeys(keys, b"0"))
    seen: list[int] = []
    closed: list[StoreClosed] = []
    ended = Event()

    def look() -> None:
        while not ended.is_set():
            try:
                snapshot = store.snapshot()
                values = {value for _, value in snapshot.scan(b"", b"\xff")}
                snapshot.close()
            except StoreClosed as error:
                closed.append(error)
            else:
                seen.append(len(values))

    reader = Thread(target=look)
    reader.start()
    for number in range(1, 200):
        store.commit(dict.fromkeys(keys, b"%d" % number))
        if number % 20 == 0:
            store.reopen()
    ended.set()
    reader.join()
    assert seen
    assert set(seen) == {1}
