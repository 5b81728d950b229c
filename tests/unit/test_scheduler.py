"""Background work: finds what may go, hands it to the writer, and stops where it should."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import cast
from unittest.mock import patch

import pytest
import structlog

from kvs.cluster.events import Delete, Ended, Put
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.runner import Runner
from kvs.cluster.scrubbing import Scrubber
from kvs.cluster.superseded import Absences
from kvs.errors import StoreCorrupt
from kvs.limits import BACKUP_MISSED_DELAY_S, EXPIRY_GRACE_MS, EXPIRY_STEP_MS, SWEEP_MAX_KEYS
from kvs.server.scheduler import Scheduler
from kvs.storage.compression import RAW
from kvs.storage.current import read_current
from kvs.storage.keyspace import DATA, EXPIRIES, REVISIONS, SUPERSEDED, TOMBSTONES, after, superseded_row
from kvs.storage.memory import MemoryStore
from kvs.storage.record import new_uuid
from kvs.storage.state import read_progress
from tests.model import leaves_ms

START = 1_700_000_000_000
RETENTION_MS = 1_000


class Site:
    """A node with a clock that the test moves."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.now_ms = START
        settings = NodeSettings("node1", 1, 3, RETENTION_MS, 60_000)
        self.node = Node(settings, read_progress(self.store))
        self.runner = Runner(self.store, self.node, lambda: self.now_ms)

    def scheduler(
        self, *, versions_max: int = 3, is_clock_right: bool = True, scrubber: Scrubber | None = None
    ) -> Scheduler:
        return Scheduler(
            self.store,
            self.runner,
            lambda: self.now_ms,
            tombstone_limit=self.node.tombstone_limit,
            versions_max=versions_max,
            is_clock_right=lambda: is_clock_right,
            scrubber=scrubber,
        )

    async def put(self, key: str, *, ttl_ms: int = 0) -> None:
        await self.runner.write(Put(entry=b"d" + key.encode(), uuid=new_uuid(), codec=RAW, payload=b"1", ttl_ms=ttl_ms))

    async def delete(self, key: str) -> None:
        await self.runner.write(Delete(entry=b"d" + key.encode(), uuid=new_uuid()))

    def count(self, prefix: bytes) -> int:
        return sum(1 for _ in self.store.scan(prefix, after(prefix)))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    made.runner.start()
    yield made
    await made.runner.stop()


async def test_expired_records_go_after_the_grace_in_runs_of_bounded_size(site: Site) -> None:
    ending = 2 * SWEEP_MAX_KEYS + 1
    await site.runner.submit(
        [Put(entry=b"d%d" % number, uuid=new_uuid(), codec=RAW, payload=b"1", ttl_ms=1_000) for number in range(ending)]
    )
    await site.put("longer", ttl_ms=EXPIRY_STEP_MS + 1)
    await site.put("stays")
    site.now_ms = leaves_ms(START + 1_000) - 1
    assert await site.scheduler().sweep_expired() == 0
    site.now_ms += 1
    assert await site.scheduler().sweep_expired() == ending
    assert (site.count(DATA), site.count(EXPIRIES)) == (2, 1)


class Rounds:
    """Stands for asyncio.sleep: the work goes round that often, without a pause."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.over = asyncio.Event()
        self.pauses_s: list[float] = []

    async def sleep(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)
        if self._left == 0:
            self.over.set()
            await asyncio.get_running_loop().create_future()
        self._left -= 1


async def rounds_of(job: Callable[[], Awaitable[object]], number: int) -> list[float]:
    """Let the scheduler do this job so often, and nothing else; the pauses."""
    rounds = Rounds(number)
    scheduler = cast(Scheduler, job.__self__)  # type: ignore[attr-defined]
    scheduler._jobs = [one for one in scheduler._jobs if one[0] == job]
    with patch("kvs.server.scheduler.asyncio.sleep", rounds.sleep):
        scheduler.start()
        await asyncio.wait_for(rounds.over.wait(), 10)
        await scheduler.stop()
    return rounds.pauses_s


async def test_work_that_meets_the_store_while_it_is_reopened_waits(site: Site) -> None:
    site.store.close()
    with structlog.testing.capture_logs() as lines:
        assert await rounds_of(site.scheduler().note_expired, 3) == [1, 1, 1, 1]
    assert {line["log_level"] for line in lines} == {"debug"}


async def test_an_index_that_is_damaged_is_told_of_once(site: Site) -> None:
    here, there = StoreCorrupt("here"), StoreCorrupt("there")
    troubles: Iterator[Exception | None] = iter([here, here, there, None, there, KeyError("a bug")])

    def scan(*_: object) -> Iterator[tuple[bytes, bytes]]:
        trouble = next(troubles)
        if trouble is not None:
            raise trouble
        return iter(())

    with patch.object(site.store, "scan", scan), structlog.testing.capture_logs() as lines:
        await rounds_of(site.scheduler().note_expired, 6)
    told = [(line["log_level"], line["job"], line.get("error")) for line in lines]
    assert told == [("error", "note_expired", error) for error in ("here", "there", "there", None)]


async def test_nodes_sweep_at_the_same_moments_of_the_wall_clock(site: Site) -> None:
    site.now_ms = EXPIRY_STEP_MS * 7 + 1_500
    assert await rounds_of(site.scheduler().sweep_expired, 0) == [EXPIRY_STEP_MS / 1000 - 1.5]


async def test_nothing_ends_by_a_clock_that_has_just_begun(site: Site) -> None:
    """As on a device that counts from 1970 until somebody tells it the time."""
    site.now_ms = EXPIRY_GRACE_MS - 1
    await site.put("a", ttl_ms=1)
    assert await site.scheduler().sweep_expired() == 0


async def test_ends_are_noted_once_in_runs_of_bounded_size(site: Site) -> None:
    told: list[Ended] = []
    site.runner.on_committed.append(lambda effect: told.extend(effect.ended))
    ending = 2 * SWEEP_MAX_KEYS + 1
    await site.runner.submit(
        [Put(entry=b"d%d" % number, uuid=new_uuid(), codec=RAW, payload=b"1", ttl_ms=1_000) for number in range(ending)]
    )
    await site.runner.write(Put(entry=b"sdocument", uuid=new_uuid(), codec=RAW, payload=b"1", ttl_ms=1_000))
    scheduler = site.scheduler()
    site.now_ms = START + 999
    assert await scheduler.note_expired() == 0
    site.now_ms = START + 1_000
    assert await scheduler.note_expired() == ending
    assert await scheduler.note_expired() == 0
    # Another one, as after a restart, begins at the first row, and finds them noted.
    assert await site.scheduler().note_expired() == 0
    assert len({end.entry for end in told}) == len(told) == ending
    assert [end.seq for end in told] == sorted(end.seq for end in told)


async def test_what_expires_behind_a_clock_that_was_set_back_is_noted_too(site: Site) -> None:
    scheduler = site.scheduler()
    await site.put("a", ttl_ms=1)
    site.now_ms = START + 10_000
    assert await scheduler.note_expired() == 1
    site.now_ms = START
    await site.put("b", ttl_ms=500)
    assert await scheduler.note_expired() == 0
    site.now_ms = START + 600
    assert await scheduler.note_expired() == 1


async def test_ends_are_noted_later_when_the_node_takes_no_writes(site: Site) -> None:
    scheduler = site.scheduler()
    await site.put("a", ttl_ms=1)
    site.now_ms = START + 10
    await site.runner.stop()
    assert await scheduler.note_expired() == 0
    scheduler._runner = site.runner = Runner(site.store, site.node, lambda: site.now_ms)
    site.runner.start()
    assert await scheduler.note_expired() == 1


async def test_tombstones_go_after_their_retention(site: Site) -> None:
    await site.put("a")
    await site.put("b")
    await site.delete("a")
    gone_from = read_current(site.store, b"da").stored
    assert gone_from is not None
    site.now_ms = gone_from.record.timestamp + RETENTION_MS
    assert await site.scheduler().sweep_tombstones() == 0
    site.now_ms += 1
    assert await site.scheduler().sweep_tombstones() == 1
    assert (site.count(DATA), site.count(TOMBSTONES), site.count(REVISIONS)) == (1, 0, 0)


async def test_notes_of_superseded_versions_are_looked_at_by_and_by(site: Site) -> None:
    notes: dict[bytes, bytes | None] = {
        superseded_row(b"d%04d" % number): (START + number % 2).to_bytes(8, "big") + bytes(4)
        for number in range(2 * SWEEP_MAX_KEYS)
    }
    site.store.commit(notes)
    site.node.superseded.absences = Absences((), START + 1)
    wrong, right = site.scheduler(is_clock_right=False), site.scheduler()
    assert (await wrong.sweep_superseded(), await right.sweep_superseded()) == (0, SWEEP_MAX_KEYS // 2)
    assert site.count(SUPERSEDED) == 2 * SWEEP_MAX_KEYS - SWEEP_MAX_KEYS // 2
    assert [await right.sweep_superseded() for _ in range(3)] == [SWEEP_MAX_KEYS // 2, 0, 0]
    site.node.superseded.absences = Absences()
    assert [await right.sweep_superseded() for _ in range(4)] == [0, SWEEP_MAX_KEYS, 0, 0]
    assert site.count(SUPERSEDED) == 0


async def test_nothing_goes_by_a_clock_that_is_wrong(site: Site) -> None:
    await site.put("expired", ttl_ms=1)
    await site.put("deleted")
    await site.delete("deleted")
    site.now_ms = leaves_ms(START + 1)
    wrong, right = site.scheduler(is_clock_right=False), site.scheduler()
    assert (await wrong.note_expired(), await right.note_expired()) == (0, 1)
    assert (await wrong.sweep_expired(), await wrong.sweep_tombstones(), site.count(DATA)) == (0, 0, 2)
    assert (await right.sweep_expired(), await right.sweep_tombstones(), site.count(DATA)) == (1, 1, 0)


async def test_revisions_beyond_a_lowered_setting_go(site: Site) -> None:
    for key in ("a", "b"):
        for _ in range(4):
            await site.put(key)
    assert await site.scheduler().trim_revisions() == 0
    await site.runner.stop()
    lowered = NodeSettings("node1", 1, versions_max=2, tombstone_retention_ms=RETENTION_MS, clock_drift_max_ms=60_000)
    site.runner = Runner(site.store, Node(lowered, read_progress(site.store)), lambda: site.now_ms)
    site.runner.start()
    assert await site.scheduler(versions_max=2).trim_revisions() == 2
    assert site.count(REVISIONS) == 2


async def test_others_get_their_turn_while_histories_are_looked_through(site: Site) -> None:
    """Also where nothing is to be dropped, so that no write is waited for."""
    for _ in range(2):
        await site.runner.submit(
            [
                Put(entry=b"d%d" % number, uuid=new_uuid(), codec=RAW, payload=b"1", ttl_ms=0)
                for number in range(3 * SWEEP_MAX_KEYS)
            ]
        )
    trimming = asyncio.create_task(site.scheduler().trim_revisions())
    turns = 0
    while not trimming.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 3
    assert trimming.result() == 0


async def test_work_waits_while_the_node_takes_no_writes(site: Site) -> None:
    await site.put("a", ttl_ms=1)
    site.now_ms = leaves_ms(START + 1)
    await site.runner.stop()
    assert await site.scheduler().sweep_expired() == 0
    assert site.count(DATA) == 1


async def test_timers_run_the_jobs_and_stop(site: Site) -> None:
    scheduler = site.scheduler()
    jobs = {job.__name__ for job, _ in scheduler._jobs}
    assert jobs == {"note_expired", "sweep_expired", "sweep_superseded", "sweep_tombstones", "trim_revisions"}
    with_tree = {job.__name__ for job, _ in site.scheduler(scrubber=Scrubber())._jobs}
    assert with_tree == {*jobs, "scrub_tree"}
    checked = asyncio.Event()
    scheduler.every(0, checked.set)
    scheduler.start()
    await asyncio.wait_for(checked.wait(), 10)
    assert not any(task.done() for task in scheduler._tasks)
    await scheduler.stop()
    assert all(task.done() for task in scheduler._tasks)
    await scheduler.stop()


# --- backups ---


def moment(text: str) -> int:
    """Unix ms of an hour and minute of one day, in the time zone of the host."""
    hour, minute = map(int, text.split(":"))
    return round(datetime(2026, 7, 13, hour, minute).astimezone().timestamp() * 1000)


class Calls:
    """Counts calls of a job, and tells the test of each."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[None] = asyncio.Queue()

    def begin(self) -> None:
        self.queue.put_nowait(None)


async def test_a_backup_is_made_when_its_time_has_come(site: Site) -> None:
    scheduler, calls = site.scheduler(), Calls()
    site.now_ms = moment("12:00")
    scheduler.schedule_backups(calls.begin, "30 4 * * *", site.now_ms)
    assert scheduler.next_backup_ms() is None
    scheduler.start()
    job = scheduler._calendar.get_job("backup")
    due_ms = scheduler.next_backup_ms()
    assert due_ms is not None
    due = datetime.fromtimestamp(due_ms / 1000).astimezone()
    assert (due.hour, due.minute) == (4, 30)
    assert datetime.now(UTC) < due < datetime.now(UTC) + timedelta(days=1, hours=2)
    job.modify(next_run_time=datetime.now(UTC))
    await calls.queue.get()
    assert scheduler.next_backup_ms() == due_ms
    # However late the loop was.
    job.modify(next_run_time=datetime.now(UTC) - timedelta(hours=3))
    await calls.queue.get()
    await scheduler.stop()


@pytest.mark.parametrize(
    ("last", "now", "missed"),
    [("04:29", "12:00", True), ("04:30", "12:00", False), ("04:31", "12:00", False), ("03:00", "04:29", False)],
)
async def test_a_backup_that_was_missed_is_made_soon(site: Site, last: str, now: str, missed: bool) -> None:
    scheduler, calls = site.scheduler(), Calls()
    site.now_ms = moment(now)
    scheduler.schedule_backups(calls.begin, "30 4 * * *", moment(last))
    scheduler.start()
    next_ms = scheduler.next_backup_ms()
    assert next_ms is not None
    if missed:
        assert 0 < next_ms / 1000 - datetime.now(UTC).timestamp() <= BACKUP_MISSED_DELAY_S + 1
        await scheduler.follow_clock()
        assert scheduler.next_backup_ms() == next_ms
        scheduler._calendar.get_job("backup").modify(next_run_time=datetime.now(UTC))
        await calls.queue.get()
        next_ms = scheduler.next_backup_ms()
        assert next_ms is not None
    due = datetime.fromtimestamp(next_ms / 1000).astimezone()
    assert (due.hour, due.minute) == (4, 30)
    await scheduler.stop()


async def test_a_schedule_may_name_a_day_that_never_comes(site: Site) -> None:
    scheduler, calls = site.scheduler(), Calls()
    scheduler.schedule_backups(calls.begin, "0 0 30 2 *", site.now_ms)
    scheduler.start()
    assert scheduler.next_backup_ms() is None
    await scheduler.stop()


async def test_of_many_backups_that_a_clock_set_ahead_has_passed_over_one_is_made(site: Site) -> None:
    scheduler, calls = site.scheduler(), Calls()
    scheduler.schedule_backups(calls.begin, "* * * * *", site.now_ms)
    scheduler.start()
    due_ms = scheduler.next_backup_ms()
    assert due_ms is not None
    scheduler._calendar.get_job("backup").modify(next_run_time=datetime(1970, 1, 1, tzinfo=UTC))
    await asyncio.wait_for(calls.queue.get(), 10)
    assert (scheduler.next_backup_ms() or 0) >= due_ms
    assert calls.queue.empty()
    await scheduler.stop()


async def test_a_clock_that_was_set_ahead_is_noticed(site: Site) -> None:
    """APScheduler still sleeps for the time that there was to the backup."""
    scheduler, calls = site.scheduler(), Calls()
    scheduler.schedule_backups(calls.begin, "30 4 * * *", site.now_ms)
    scheduler.start()
    job = scheduler._calendar.get_job("backup")
    job._modify(next_run_time=datetime.now(UTC))
    scheduler._calendar._lookup_jobstore("default").update_job(job)  # and nobody wakes it
    await scheduler.follow_clock()
    await asyncio.wait_for(calls.queue.get(), 10)
    await scheduler.stop()


async def test_behind_a_clock_that_was_set_back_the_next_backup_comes_at_its_time(site: Site) -> None:
    scheduler, calls = site.scheduler(), Calls()
    scheduler.schedule_backups(calls.begin, "30 4 * * *", site.now_ms)
    scheduler.start()
    due_ms = scheduler.next_backup_ms()
    assert due_ms is not None
    scheduler._calendar.get_job("backup").modify(next_run_time=datetime.now(UTC) + timedelta(days=365))
    await scheduler.follow_clock()
    assert scheduler.next_backup_ms() == due_ms
    assert calls.queue.empty()
    await scheduler.stop()


async def test_work_that_a_stop_interrupts_is_no_failure(site: Site) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    scheduler = site.scheduler()
    scheduler._jobs = [(work, lambda: 0)]
    with structlog.testing.capture_logs() as lines:
        scheduler.start()
        await asyncio.wait_for(began.wait(), 10)
        await scheduler.stop()
    assert ended.is_set()
    assert lines == []


@pytest.mark.parametrize("turns", range(6))
async def test_work_that_a_stop_overtakes_is_no_failure(
    site: Site, caplog: pytest.LogCaptureFixture, turns: int
) -> None:
    """Its time comes around the stop, in every order of what the event loop does then."""
    scheduler, calls = site.scheduler(), Calls()
    scheduler.schedule_backups(calls.begin, "* * * * *", START)
    scheduler.start()
    for _ in range(3):
        scheduler._calendar.get_job("backup").modify(next_run_time=datetime.now(UTC))
        for _ in range(turns):
            await asyncio.sleep(0)
    await scheduler.stop()
    for _ in range(10):
        await asyncio.sleep(0)
    assert [record for record in caplog.records if record.exc_info] == []
