"""The writer on a store that can fail, be slow or break: what clients hear, and what is on the disk then."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import pytest
import structlog

from kvs.cluster import runner as runner_module
from kvs.cluster.events import Committed, Delete, Put, Submission, Written
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.runner import Runner
from kvs.errors import KvsError, NotFound, StoreError, Unavailable
from kvs.limits import GROUP_MAX_BYTES
from kvs.storage.compression import RAW
from kvs.storage.memory import MemoryStore
from kvs.storage.record import new_uuid
from kvs.storage.state import read_progress
from kvs.storage.store import Batch

NOW = 1_700_000_000_000


class GatedStore(MemoryStore):
    """A disk whose commits wait for the test's permission, and that counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[Batch] = []
        self.unforeseen: Exception | None = None
        self.reopened = 0

    def commit(self, batch: Batch) -> None:
        assert self.gate.wait(10)
        self.batches.append(batch)
        if self.unforeseen is not None:
            raise self.unforeseen
        super().commit(batch)

    def reopen(self) -> None:
        super().reopen()
        self.reopened += 1


def make_node(store: MemoryStore) -> Node:
    settings = NodeSettings("node1", 1, versions_max=3, tombstone_retention_ms=1000, clock_drift_max_ms=60_000)
    return Node(settings, read_progress(store))


@pytest.fixture
def store() -> GatedStore:
    return GatedStore()


@pytest.fixture
async def runner(store: GatedStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runner]:
    monkeypatch.setattr(runner_module, "RECOVERY_RETRY_MIN_MS", 1)
    made = Runner(store, make_node(store), lambda: NOW)
    made.start()
    yield made
    store.gate.set()
    await made.stop()


def put(key: str, data: bytes = b"1") -> Put:
    return Put(entry=b"d" + key.encode(), uuid=new_uuid(), codec=RAW, payload=data)


def version(written: Written) -> tuple[int, int]:
    return written.record.timestamp, written.record.counter


def keys_of(batch: Batch) -> list[bytes]:
    return [key for key in batch if key.startswith(b"d")]


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until the condition holds."""
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("it never came about")


async def hold_the_disk(store: GatedStore, runner: Runner) -> asyncio.Task[Written]:
    """Close the gate and let one write run into it, so that everything after it gathers."""
    store.gate.clear()
    first = asyncio.create_task(runner.write(put("first")))
    await until(lambda: not runner._waiting and bool(runner._replies))
    return first


async def test_writes_that_wait_share_one_batch_in_their_order(store: GatedStore, runner: Runner) -> None:
    first = await hold_the_disk(store, runner)
    rest = [asyncio.create_task(runner.write(put(f"k{number}"))) for number in range(50)]
    await asyncio.sleep(0)
    store.gate.set()
    versions = [version(await task) for task in (first, *rest)]
    assert [len(keys_of(batch)) for batch in store.batches] == [1, 50]
    assert keys_of(store.batches[1]) == [b"dk%d" % number for number in range(50)]
    assert versions == sorted(versions)


async def test_nobody_is_answered_before_the_commit(store: GatedStore, runner: Runner) -> None:
    writer = await hold_the_disk(store, runner)
    refused = asyncio.create_task(runner.write(Delete(entry=b"dabsent", uuid=new_uuid())))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not writer.done()
    assert store.get(b"dfirst") is None
    store.gate.set()
    await writer
    assert store.get(b"dfirst") is not None
    with pytest.raises(NotFound):
        await refused


async def test_a_refused_write_alone_costs_no_commit(store: GatedStore, runner: Runner) -> None:
    with pytest.raises(NotFound):
        await runner.write(Delete(entry=b"dabsent", uuid=new_uuid()))
    assert store.batches == []


async def test_a_group_ends_at_its_limit_of_bytes(store: GatedStore, runner: Runner) -> None:
    first = await hold_the_disk(store, runner)
    half = b"x" * (GROUP_MAX_BYTES // 2)
    rest = [asyncio.create_task(runner.write(put(f"k{number}", half))) for number in range(3)]
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(first, *rest)
    assert [len(keys_of(batch)) for batch in store.batches] == [1, 2, 1]


async def test_too_many_waiting_bytes_are_refused_and_those_before_kept(
    store: GatedStore, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "WAITING_MAX_BYTES", 10)
    first = await hold_the_disk(store, runner)
    kept = asyncio.create_task(runner.write(put("kept", b"x" * 10)))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await runner.write(put("late", b"x"))
    assert refused.value.code == "overloaded"
    store.gate.set()
    await asyncio.gather(first, kept)
    assert (await runner.write(put("later", b"x" * 10))).created


async def test_a_bug_in_planning_fails_that_group_alone(
    store: GatedStore, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(Node, "plan_group", fail)
        with pytest.raises(KvsError) as failed:
            await runner.write(put("a"))
    assert (failed.value.status, failed.value.code) == (500, "internal")
    assert "a bug" not in failed.value.detail
    assert not runner.degraded
    assert (await runner.write(put("a"))).created


async def test_a_bug_in_planning_one_write_fails_that_one_alone(store: GatedStore, runner: Runner) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    first = await hold_the_disk(store, runner)
    bad = asyncio.create_task(runner.write(msgspec.structs.replace(put("bad"), guard=fail)))
    writes = [asyncio.create_task(runner.write(put(key))) for key in "abc"]
    await asyncio.sleep(0)
    store.gate.set()
    assert all(written.created for written in await asyncio.gather(first, *writes))
    with pytest.raises(KvsError) as failed:
        await bad
    assert (failed.value.status, failed.value.code) == (500, "internal")
    assert not runner.degraded
    assert store.get(b"dbad") is None


async def test_a_bug_of_whoever_hears_of_writes_stops_no_later_one(runner: Runner) -> None:
    def fail(_: Committed) -> None:
        raise RuntimeError("a bug")

    heard: list[Committed] = []
    runner.on_committed.append(fail)
    with structlog.testing.capture_logs() as lines:
        for key in ("a", "b"):
            async with asyncio.timeout(10):
                assert (await runner.write(put(key))).created
    runner.on_committed[:] = [heard.append]
    await runner.write(put("c"))
    assert len(heard) == 1
    assert [line["event"] for line in lines] == ["What follows from a write failed"] * 2


@pytest.mark.parametrize("unforeseen", [None, ValueError("not a store's error")])
async def test_after_a_failed_commit_writes_are_refused_until_the_store_was_reopened(
    store: GatedStore, runner: Runner, unforeseen: Exception | None
) -> None:
    before = await runner.write(put("before"))
    first = await hold_the_disk(store, runner)
    waiting = asyncio.create_task(runner.write(put("waiting")))
    await asyncio.sleep(0)
    store.fail_writes("no space left")
    store.unforeseen = unforeseen
    store.gate.set()
    for write in (first, waiting):
        with pytest.raises(Unavailable) as refused:
            await write
        assert refused.value.code == "degraded"
    assert runner.degraded
    with pytest.raises(Unavailable) as refused:
        await runner.write(put("during"))
    assert refused.value.code == "degraded"
    assert store.get(b"dbefore") is not None
    store.unforeseen = None
    store.fail_writes(None)
    await until(lambda: not runner.degraded)
    assert store.reopened == 1
    after = await runner.write(put("after"))
    assert version(after) > version(before)


@pytest.mark.parametrize("kept", [False, True])
async def test_what_a_failed_commit_may_have_changed_is_told_once_the_store_is_open_again(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Otherwise a token whose revocation reached the disk would stay good for whoever remembers it."""
    heard: list[tuple[Sequence[bytes], bool]] = []
    monkeypatch.setattr(runner_module, "RECOVERY_RETRY_MIN_MS", 1)
    writer = Runner(store, make_node(store), lambda: NOW)
    writer.on_changed.append(lambda entries: heard.append((entries, writer.degraded)))
    writer.start()
    commit = store.commit

    def lose_the_answer(batch: Batch) -> None:
        if kept:
            commit(batch)
        raise StoreError("nobody knows")

    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", lose_the_answer)
        with pytest.raises(Unavailable):
            await writer.submit([put("a"), Put(entry=b"stoken/1", uuid=new_uuid(), codec=RAW, payload=b"{}")])
        assert heard == []
    await until(lambda: not writer.degraded)
    assert heard == [((b"stoken/1",), True)]
    assert (store.get(b"stoken/1") is not None) == kept
    await writer.write(put("b"))
    assert len(heard) == 1
    await writer.stop()


async def test_recovery_goes_on_trying_whatever_reopening_raises(
    store: GatedStore, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter((StoreError("not yet"), ZeroDivisionError("a bug")))
    reopen = store.reopen

    def fail_twice() -> None:
        error = next(errors, None)
        if error is not None:
            raise error
        reopen()

    monkeypatch.setattr(store, "reopen", fail_twice)
    store.unforeseen = StoreError("a write failed")
    with pytest.raises(Unavailable):
        await runner.write(put("a"))
    store.unforeseen = None
    await until(lambda: not runner.degraded)
    assert (await runner.write(put("a"))).created


async def test_a_client_that_left_does_not_stop_its_write(store: GatedStore, runner: Runner) -> None:
    first = await hold_the_disk(store, runner)
    gone = asyncio.create_task(runner.write(put("gone")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    store.gate.set()
    await first
    await runner.write(put("last"))
    assert store.get(b"dgone") is not None


async def test_stop_commits_what_waits_and_refuses_what_comes(store: GatedStore, runner: Runner) -> None:
    first = await hold_the_disk(store, runner)
    waiting = asyncio.create_task(runner.write(put("waiting")))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(runner.stop())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await runner.write(put("late"))
    assert refused.value.code == "stopping"
    store.gate.set()
    await asyncio.gather(first, waiting, stopping)
    assert store.get(b"dwaiting") is not None
    assert store.get(b"dlate") is None


async def test_stop_ends_while_the_disk_is_broken(store: GatedStore, runner: Runner) -> None:
    store.fail_writes("no space left")
    with pytest.raises(Unavailable):
        await runner.write(put("a"))
    await runner.stop()
    with pytest.raises(Unavailable) as refused:
        await runner.write(put("a"))
    assert refused.value.code == "stopping"


def test_a_plan_that_was_thrown_away_gives_its_numbers_to_nobody() -> None:
    """After `resume`, versions and sequence numbers lie above those of the group that failed."""
    store = MemoryStore()
    node = make_node(store)
    lost = node.plan_group([Submission(1, (put("a"),), 1)], store, NOW)
    node.resume(read_progress(store))
    made = node.plan_group([Submission(1, (put("a"),), 1)], store, NOW)
    assert set(lost.batch) & {key for key in made.batch if key.startswith(b"c")} == set()
