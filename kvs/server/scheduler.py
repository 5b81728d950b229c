"""Background work on APScheduler: expired records, old tombstones and surplus revisions leave the disk, the Merkle tree
is compared with the records, and backups are made by their schedule.

Each job of the first kind looks at a bounded run of index rows and hands what it found to the writer; what may really
go is decided there, in the plan. While the node's clock is wrong nothing goes by it: one that is far ahead finds
everything expired that ever expires, and the tombstones that it would put in the place of values would reach all other
nodes.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from kvs.cluster.events import Command, Lapse, Outcome, Scrubbed, Sweep, Swept, Trim
from kvs.cluster.runner import Runner
from kvs.cluster.scrubbing import Scrubber
from kvs.cron import cron_trigger
from kvs.errors import KvsError, StoreClosed, StoreError
from kvs.limits import (
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

_BY_SCHEDULE, _MISSED = "backup", "missed backup"


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
        self._timers = AsyncIOScheduler()
        self._noted_ms = 0
        """Up to here (Unix ms) the ends of all records are noted."""
        self._superseded_from = SUPERSEDED
        self._add(self.note_expired, "interval", seconds=EXPIRY_NOTE_INTERVAL_S)
        self._add(self.sweep_expired, "cron", second=f"*/{EXPIRY_STEP_MS // 1000}")
        self._add(self.sweep_tombstones, "interval", seconds=TOMBSTONE_SWEEP_INTERVAL_S)
        self._add(self.sweep_superseded, "interval", seconds=TOMBSTONE_SWEEP_INTERVAL_S)
        self._add(self.trim_revisions, "interval", seconds=REVISION_SWEEP_INTERVAL_S)
        if scrubber is not None:
            self._add(self.scrub_tree, "interval", seconds=SCRUB_INTERVAL_S)

    def every(self, interval_s: int, job: Callable[[], None]) -> None:
        self._timers.add_job(job, "interval", seconds=interval_s)

    def schedule_backups(self, make: Callable[[], Awaitable[None]], schedule: str, since_ms: int) -> None:
        """Call `make` by the schedule (cron, in the host's time zone). A backup that was due between `since_ms` (Unix
        ms: the last one, or when the node began) and now was missed, and is made up for soon."""
        trigger = cron_trigger(schedule)
        # However late the loop is: a backup that is left out is not made up for before the next one.
        options = {"misfire_grace_time": None, "coalesce": True}
        self._add(make, trigger, id=_BY_SCHEDULE, **options)
        now = _moment(self._now_ms())
        due = trigger.get_next_fire_time(None, _moment(since_ms + 1))
        if due is not None and due <= now:
            soon = datetime.now(UTC) + timedelta(seconds=BACKUP_MISSED_DELAY_S)
            self._add(make, "date", run_date=soon, id=_MISSED, **options)

    def _add(self, job: Callable[[], Awaitable[object]], trigger: object, **options: object) -> None:
        @functools.wraps(job)
        async def run() -> None:
            try:
                await job()
            except asyncio.CancelledError:
                # By a stop. APScheduler would take it for a failure and log a traceback.
                log.debug("Background work ends with the node", job=job.__name__)
            except StoreClosed:
                log.debug("Background work waits until the store is open again", job=job.__name__)

        self._timers.add_job(run, trigger, **options)

    def next_backup_ms(self) -> int | None:
        """When the next backup is made, Unix ms; None for never."""
        times = (getattr(self._timers.get_job(name), "next_run_time", None) for name in (_BY_SCHEDULE, _MISSED))
        return min((round(time.timestamp() * 1000) for time in times if time is not None), default=None)

    def start(self) -> None:
        self._timers.start()

    def stop(self) -> None:
        if self._timers.running:
            # The shutdown comes a turn of the loop later. A job that begins in that turn would be cancelled before its
            # first step, which APScheduler takes for a failure too.
            self._timers.pause()
            self._timers.shutdown(wait=False)

    async def note_expired(self) -> int:
        """Give the ends of records that have expired a place in the change log, so that watchers hear of them; how
        many. A clock that was set back has no part in it: what expires before it comes so far again is noted too."""
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


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)
