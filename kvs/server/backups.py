"""Makes backups: by the schedule and when somebody asks, one at a time, in a thread of its own.

    idle ─ begin ─ running ─ done: the old ones go, or failed: they stay ─ noted in the store ─ idle

One that was made is in the audit log, as of whoever asked for it, by the commit that notes it.

The thread reads a snapshot of the store, so a backup is what was committed at one moment and no write waits for it.
Python runs one thread at a time, so requests wait for a portion that is being read; the busier the node is, the longer
the thread rests between two.

`status` is all that is known of backups.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from kvs import __version__
from kvs.actions import BACKUP
from kvs.auth.principal import NODE_ACTOR
from kvs.cluster.events import Act, Command, Note, Remember
from kvs.cluster.runner import Runner
from kvs.errors import BackupFailed, Conflict, KvsError, StoreError
from kvs.limits import BACKUP_REST_MAX_MS, BACKUP_REST_PARTS
from kvs.storage.backup import Counts, Header, Standing
from kvs.storage.backup_files import Found, Made, found, make, outdated, remove, remove_unfinished, resource_of
from kvs.storage.state import BACKUP_ROW, read_progress
from kvs.storage.store import Store

log = structlog.get_logger()

_DAY_MS = 24 * 3600 * 1000


class BackupSettings(NamedTuple):
    """Who makes backups, and where to."""

    folder: Path
    retention_days: int
    node_id: str
    instance_id: str


class Noted(msgspec.Struct, frozen=True):
    """What outlives a restart, as JSON in the store. `time` (Unix ms) and `success` are of the last attempt, `error`
    says why it failed; `path` is the last good backup."""

    time: int | None = None
    success: bool | None = None
    error: str | None = None
    path: str | None = None


class BackupStatus(NamedTuple):
    """`rows` is how far the one that is running has come, None when none is. The last two count since the start."""

    noted: Noted
    rows: int | None
    succeeded: int
    failed: int


class _Stopped(Exception):
    """The node stops."""


class Backups:
    """Everything but the writing itself runs on the event loop."""

    def __init__(
        self,
        settings: BackupSettings,
        store: Store,
        runner: Runner,
        now_ms: Callable[[], int],
        standing: Callable[[], Standing],
        on_ended: Callable[[bool], None] = lambda _: None,
        write_soon: Callable[[Act], None] = lambda _: None,
    ) -> None:
        """`on_ended` hears of each backup whether it succeeded. `write_soon` takes what belongs into the audit log and
        could not be written: see Auditor."""
        self._on_ended = on_ended
        self._write_soon = write_soon
        self._settings = settings
        self._store = store
        self._runner = runner
        self._now_ms = now_ms
        self._standing = standing
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="backup")
        self._stopping = threading.Event()
        self._running: asyncio.Task[Made | BackupFailed] | None = None
        self._rows = 0
        self._noted = _read_noted(store)
        self._succeeded = self._failed = 0

    @property
    def status(self) -> BackupStatus:
        rows = self._rows if self._is_running else None
        return BackupStatus(self._noted, rows, self._succeeded, self._failed)

    @property
    def last_ms(self) -> int:
        """When the last attempt was made, Unix ms; 0 for never."""
        return self._noted.time or 0

    def start(self) -> None:
        """Tidy up behind a node that was killed."""
        try:
            remove_unfinished(self._settings.folder, self._settings.instance_id)
        except OSError as error:
            log.warning("The folder of the backups cannot be used", error=error.strerror)

    async def stop(self) -> None:
        """Give up the one that is running; nothing is left of it."""
        self._stopping.set()
        if self._running is not None:
            await self._running
        self._thread.shutdown()

    def begin(self, actor: str) -> "asyncio.Task[Made | BackupFailed]":
        """Start one for `actor`, see Act; the task ends with what came of it. Raises Conflict while another one is
        running."""
        if self._is_running:
            raise Conflict("a backup is being made already", code="backup_running")
        self._rows = 0
        self._running = asyncio.create_task(self._run(actor), name="backup")
        return self._running

    def by_schedule(self) -> None:
        """Start one, unless one is running."""
        try:
            self.begin(NODE_ACTOR)
        except Conflict:
            log.info("The backup of the schedule is left out: one is being made")

    async def list(self) -> list[Found]:
        """Those in the folder, oldest first, of other nodes too. Raises BackupFailed."""
        try:
            return await asyncio.to_thread(found, self._settings.folder)
        except OSError as error:
            log.error("The folder of the backups cannot be read", error=error.strerror)
            raise BackupFailed("the folder of the backups cannot be read; the log says more") from None

    @property
    def _is_running(self) -> bool:
        return self._running is not None and not self._running.done()

    async def _run(self, actor: str) -> Made | BackupFailed:
        started_ms, started_s = self._now_ms(), time.monotonic()
        try:
            standing = self._standing()  # before the snapshot: what it says holds for that too
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(self._thread, self._write, started_ms, standing)
        except Exception as error:
            failure = _failure(error)
            self._failed += 1
            self._on_ended(False)
            await self._note(Noted(started_ms, success=False, error=failure.detail, path=self._noted.path))
            unforeseen = None if isinstance(error, OSError | StoreError | _Stopped) else error
            log.error("The backup failed", error=str(error) or failure.detail, exc_info=unforeseen)
            return failure
        self._succeeded += 1
        self._on_ended(True)
        act = Act(BACKUP, actor, resource_of(made.path.name))
        await self._note(Noted(started_ms, success=True, path=str(made.path)), act)
        if made.counts.left_out:
            log.error("Corrupt records were left out of the backup", records=made.counts.left_out)
        log.info(
            "A backup was made",
            file=str(made.path),
            rows=made.counts.rows,
            size_bytes=made.size_bytes,
            seconds=round(time.monotonic() - started_s, 3),
        )
        return made

    async def _note(self, noted: Noted, *acts: Act) -> None:
        self._noted = noted
        commands: list[Command] = [Remember(rows={BACKUP_ROW: msgspec.json.encode(noted)}), Note(acts=acts)]
        try:
            await self._runner.submit(commands)
        except (KvsError, StoreError) as error:
            log.warning("What came of the backup could not be noted", error=str(error))
            for act in acts:
                self._write_soon(act)

    # --- in the thread ---

    def _write(self, now_ms: int, standing: Standing) -> Made:
        settings = self._settings
        snapshot = self._store.snapshot()
        try:
            header = Header(
                version=__version__,
                created_at=now_ms,
                node_id=settings.node_id,
                instance_id=settings.instance_id,
                progress=read_progress(snapshot)[:3],
                had_peers=standing.had_peers,
                floor=standing.floor_ms,
                as_of=standing.as_of_ms,
            )
            made = make(settings.folder, header, snapshot, self._rest())
        finally:
            snapshot.close()
        self._tidy_up(made.path, now_ms)
        return made

    def _rest(self) -> Callable[[Counts], None]:
        """For between two portions: notes how far it is, and rests the longer the busier the other threads were."""
        pace = _Pace()

        def rest(counts: Counts) -> None:
            if self._stopping.is_set():
                raise _Stopped
            self._rows = counts.rows
            time.sleep(pace.rest_s())
            pace.begin()

        return rest

    def _tidy_up(self, good: Path, now_ms: int) -> None:
        """Only behind a backup that succeeded: while they fail, none goes."""
        settings = self._settings
        try:
            before_ms = now_ms - settings.retention_days * _DAY_MS
            old = outdated(found(settings.folder), settings.instance_id, before_ms, good)
            remove(old)
        except OSError as error:
            log.warning("Old backups could not be removed", error=error.strerror)
        else:
            if old:
                log.info("Old backups were removed", files=[path.name for path in old])


class _Pace:
    """Measures, for the thread that it is used in, how much the other threads of the process do meanwhile."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._began_s, self._own_s, self._all_s = time.monotonic(), time.thread_time(), time.process_time()

    def rest_s(self) -> float:
        """Nothing on an idle node; BACKUP_REST_PARTS times as long as the work took beside one busy thread."""
        worked_s = time.monotonic() - self._began_s
        others_s = time.process_time() - self._all_s - (time.thread_time() - self._own_s)
        return min(max(0.0, others_s) * BACKUP_REST_PARTS, worked_s * BACKUP_REST_PARTS, BACKUP_REST_MAX_MS / 1000)


def _read_noted(store: Store) -> Noted:
    raw = store.get(BACKUP_ROW)
    try:
        return Noted() if raw is None else msgspec.json.decode(raw, type=Noted)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Noted()


def _failure(error: Exception) -> BackupFailed:
    """What clients are told: no path is in it."""
    if isinstance(error, OSError):
        return BackupFailed(f"the backup could not be written: {error.strerror or 'the disk failed'}")
    if isinstance(error, StoreError):
        return BackupFailed("the records could not be read; the log says more")
    if isinstance(error, _Stopped):
        return BackupFailed("the node stopped")
    return BackupFailed("the backup failed; the log says more")
