"""Background work: expired records, old tombstones and surplus revisions leave the disk, the Merkle tree is compared
with the records, and backups are made by their schedule.

What is done every so many seconds waits by the clock that never goes back, so that it goes on in the same step wherever
the wall clock is set. Only the schedule of backups is a calendar, which APScheduler keeps.

Each job of the first kind looks at a bounded run of index rows and hands what it found to the writer; what may really
go is decided there, in the plan. While the node's clock is wrong nothing goes by it: one that is far ahead finds
everything expired that ever expires, and the tombstones that it would put in the place of values would reach all other
nodes.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from kvs.cluster.events import Command, Lapse, Outcome, Scrubbed, Sweep, Swept, Trim
from kvs.cluster.runner import Runner
from kvs.cluster.scrubbing import Scrubber
from kvs.cron import cron_trigger
from kvs.errors import KvsError, StoreClosed, StoreError
from kvs.limits import (
    BACKUP_LOOK_INTERVAL_S,
    BACKUP_MISSED_DELAY_S,
    EXPIRY_NOTE_INTERVAL_S,
    EXPIRY_STEP_MS,
    REVISION_SWEEP_INTERVAL_S,
    SCRUB_INTERVAL_S,
    SWEEP_MAX_KEYS,
    TOMBSTONE_SWEEP_INTERVAL_S,
)
from kvs.storage.current import read_current
from kvs.storage.keyspace import (
    DATA,
    EXPIRIES,
    REVISIONS,
    SUPERSEDED,
    TOMBSTONES,
    after,
    expiry_row,
    moment_range,
    revision_range,
    split_moment,
    split_revision,
)
from kvs.storage.retention import expiry_limit
from kvs.storage.store import Store

log = structlog.get_logger()

_Job = Callable[[], Coroutine[None, None, object]]

_BACKUP = "backup"


class _Coming(BaseTrigger):  # type: ignore[misc]  # APScheduler declares no types
    """The next moment of a calendar, and never one that is over. APScheduler asks for one after the other until it
    comes to the present: behind a clock that was set ahead by years these are millions, and nothing else has a turn."""

    def __init__(self, calendar: BaseTrigger) -> None:
        self._calendar = calendar

    def get_next_fire_time(self, _: datetime | None, now: datetime) -> datetime | None:
        coming: datetime | None = self._calendar.get_next_fire_time(None, now + timedelta(microseconds=1))
        return coming


class Scheduler:
    """Owns the timers. A job that is still running is not started again."""

    def __init__(
        self,
        store: Store,
        runner: Runner,
        now_ms: Callable[[], int],
        *,
        tombstone_limit: Callable[[int], int],
        versions_max: int,
        is_clock_right: Callable[[], bool] = lambda: True,
        scrubber: Scrubber | None = None,
    ) -> None:
        """`tombstone_limit` is the node's: tombstones below it (Unix ms), as of a time, are not needed any more.
        Without a `scrubber` there is no tree."""
        self._store = store
        self._runner = runner
        self._now_ms = now_ms
        self._tombstone_limit = tombstone_limit
        self._versions_max = versions_max
        self._is_clock_right = is_clock_right
        self._scrubber = scrubber
        self._calendar = AsyncIOScheduler()
        self._jobs: list[tuple[_Job, Callable[[], float]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._noted_ms = 0
        """Up to here (Unix ms) the ends of all records are noted."""
        self._superseded_from = SUPERSEDED
        self._repeat(self.note_expired, EXPIRY_NOTE_INTERVAL_S)
        self._jobs.append((self.sweep_expired, self._until_next_step_s))
        self._repeat(self.sweep_tombstones, TOMBSTONE_SWEEP_INTERVAL_S)
        self._repeat(self.sweep_superseded, TOMBSTONE_SWEEP_INTERVAL_S)
        self._repeat(self.trim_revisions, REVISION_SWEEP_INTERVAL_S)
        if scrubber is not None:
            self._repeat(self.scrub_tree, SCRUB_INTERVAL_S)

    def every(self, interval_s: int, job: Callable[[], None]) -> None:
        @functools.wraps(job)
        async def run() -> None:
            job()

        self._repeat(run, interval_s)

    def schedule_backups(self, begin: Callable[[], None], schedule: str, since_ms: int) -> None:
        """Call `begin` by the schedule (cron, in the host's time zone). A backup that was due between `since_ms` (Unix
        ms: the last one, or when the node began) and now was missed, and is made up for soon."""

        async def run() -> None:  # anything else APScheduler would call in a thread
            begin()

        trigger = _Coming(cron_trigger(schedule))
        # However late the loop is: a backup that is left out is not made up for before the next one.
        options: dict[str, object] = {"id": _BACKUP, "misfire_grace_time": None}
        due, now = trigger.get_next_fire_time(None, _moment(since_ms)), datetime.now(UTC)
        if due is not None and due <= _moment(self._now_ms()):
            soon = now + timedelta(seconds=BACKUP_MISSED_DELAY_S)
            options["next_run_time"] = min(soon, trigger.get_next_fire_time(None, now) or soon)
        self._calendar.add_job(run, trigger, **options)
        self._repeat(self.follow_clock, BACKUP_LOOK_INTERVAL_S)

    def next_backup_ms(self) -> int | None:
        """When the next backup is made, Unix ms; None for never."""
        time = getattr(self._calendar.get_job(_BACKUP), "next_run_time", None)
        return None if time is None else round(time.timestamp() * 1000)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(_run(*job), name="background work") for job in self._jobs]
        self._calendar.start()

    async def stop(self) -> None:
        """Work that is under way is given up."""
        if self._calendar.running:
            # The shutdown comes a turn of the loop later. A job that begins in that turn would be cancelled before its
            # first step, which APScheduler takes for a failure and logs with a traceback.
            self._calendar.pause()
            self._calendar.shutdown(wait=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _repeat(self, job: _Job, interval_s: float) -> None:
        self._jobs.append((job, lambda: interval_s))

    def _until_next_step_s(self) -> float:
        """All nodes sweep at the same moments of the wall clock, so that they differ for as short as can be."""
        return (EXPIRY_STEP_MS - self._now_ms() % EXPIRY_STEP_MS) / 1000

    async def follow_clock(self) -> None:
        """APScheduler plans the next backup by the wall clock, and then sleeps for the time in between. Where the clock
        was set ahead meanwhile the backup may be due already; where it was set back another one comes first."""
        job, now = self._calendar.get_job(_BACKUP), datetime.now(UTC)
        if job is None or job.next_run_time is None:
            return
        coming = job.trigger.get_next_fire_time(None, now)
        # By their timestamps: times of one zone compare by what the clock shows, which comes twice in autumn.
        if coming is not None and coming.timestamp() < job.next_run_time.timestamp():
            job.modify(next_run_time=coming)
        self._calendar.wakeup()

    async def note_expired(self) -> int:
        """Give the ends of records that have expired a place in the change log, so that watchers hear of them; how
        many. Also what expires by a clock that was set back, before it comes so far again, is noted."""
        now_ms = self._now_ms()
        noted = 0
        start = expiry_row(min(self._noted_ms, now_ms), b"")
        stop = moment_range(EXPIRIES, now_ms)[1]
        while self._is_clock_right():
            found = list(islice(self._store.scan(start, stop), SWEEP_MAX_KEYS))
            rows = tuple(row for row, seq in found if not seq and split_moment(row)[1].startswith(DATA))
            outcomes = await self._outcomes([Lapse(rows=rows)]) if rows else [Swept(0)]
            done = [outcome.entries for outcome in outcomes if isinstance(outcome, Swept)]
            if not done:
                break
            noted += sum(done)
            if len(found) < SWEEP_MAX_KEYS:
                self._noted_ms = now_ms
                break
            start = found[-1][0] + b"\0"
        return noted

    async def sweep_expired(self) -> int:
        """Remove records that expired longer ago than the grace; how many."""
        return await self._sweep(*moment_range(EXPIRIES, expiry_limit(self._now_ms())))

    async def sweep_tombstones(self) -> int:
        """Remove tombstones that no node needs any more; how many."""
        limit = self._tombstone_limit(self._now_ms())
        return await self._sweep(*moment_range(TOMBSTONES, limit - 1)) if limit else 0

    async def sweep_superseded(self) -> int:
        """Look at the next notes of superseded versions and remove those that no peer may bring any more; how many."""
        if not self._is_clock_right():
            return 0
        found = self._store.scan(self._superseded_from, after(SUPERSEDED))
        rows = tuple(row for row, _ in islice(found, SWEEP_MAX_KEYS))
        self._superseded_from = rows[-1] + b"\0" if len(rows) == SWEEP_MAX_KEYS else SUPERSEDED
        return await self._submit([Sweep(rows=rows)]) if rows else 0

    async def trim_revisions(self) -> int:
        """Drop revisions beyond what the settings keep (they were changed, or their record was lost); how many."""
        start, stop = REVISIONS, after(REVISIONS)
        dropped = 0
        while True:
            rows = [row for row, _ in islice(self._store.scan(start, stop), SWEEP_MAX_KEYS)]
            entries = sorted({split_revision(row)[0] for row in rows})
            surplus = [Trim(entry=entry) for entry in entries if self._has_surplus(entry)]
            dropped += await self._submit(surplus)
            if len(rows) < SWEEP_MAX_KEYS:
                return dropped
            start = revision_range(entries[-1])[1]
            await asyncio.sleep(0)  # where nothing is dropped no write is waited for: others get their turn

    async def scrub_tree(self) -> None:
        """One step of comparing the Merkle tree with the records, if it is time for one."""
        assert self._scrubber is not None
        step = self._scrubber.next(self._now_ms())
        if step is None:
            return
        for outcome in await self._outcomes([step]):
            if isinstance(outcome, Scrubbed):
                self._scrubber.done(outcome, self._now_ms())
            else:
                self._scrubber.failed(self._now_ms())

    def _has_surplus(self, entry: bytes) -> bool:
        stored = read_current(self._store, entry).stored
        return stored is None or stored.kept > self._versions_max - 1

    async def _sweep(self, start: bytes, stop: bytes) -> int:
        removed = 0
        while self._is_clock_right():
            rows = tuple(row for row, _ in islice(self._store.scan(start, stop), SWEEP_MAX_KEYS))
            if rows:
                removed += await self._submit([Sweep(rows=rows)])
                start = rows[-1] + b"\0"
            if len(rows) < SWEEP_MAX_KEYS:
                break
        return removed

    async def _submit(self, commands: Sequence[Command]) -> int:
        """How many entries went."""
        return sum(outcome.entries for outcome in await self._outcomes(commands) if isinstance(outcome, Swept))

    async def _outcomes(self, commands: Sequence[Command]) -> list[Outcome]:
        """None when there is nothing to do, or the node takes no writes now: then it is done another time."""
        try:
            return await self._runner.submit(commands) if commands else []
        except (KvsError, StoreError) as error:
            log.debug("Background work waits", error=str(error))
            return []


async def _run(job: _Job, pause_s: Callable[[], float]) -> None:
    """Do it again and again, with a pause before each time. Whatever comes of one time, there is a next one."""
    told = ""
    while True:
        await asyncio.sleep(pause_s())
        try:
            await job()
            told = ""
        except StoreClosed:
            log.debug("Background work waits until the store is open again", job=job.__name__)
        except StoreError as error:
            if str(error) != told:  # not every second
                log.error("Background work cannot read the store", job=job.__name__, error=str(error))
            told = str(error)
        except Exception:
            log.exception("Background work failed", job=job.__name__)


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)
