"""The one writer: takes what waits, lets the node plan it, commits it, does what follows.

All changes of a node's data pass through `Runner.submit`. While one group is on its way to the disk the next one
gathers; nothing waits for a timer, so a lone write is committed at once and many share one fsync. A few turns of the
event loop before each commit let in the requests of clients that the commit before has just answered: without them
clients fall into two halves that take turns, at twice the fsyncs.

After a failed commit nobody knows what the disk holds. The runner then refuses writes (503 `degraded`) while reads go
on, tests the disk in growing intervals, reopens the store, which verifies itself, and resumes from what is there.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter

import structlog

from kvs.cluster.events import (
    Changed,
    Command,
    Committed,
    Effect,
    Merge,
    Outcome,
    Put,
    Reply,
    Report,
    Submission,
    Written,
)
from kvs.cluster.merkle import read_tree
from kvs.cluster.node import Node
from kvs.errors import KvsError, StoreError, Unavailable
from kvs.limits import (
    GROUP_GATHER_TURNS,
    GROUP_MAX_BYTES,
    GROUP_MAX_WRITES,
    RECOVERY_RETRY_MAX_MS,
    RECOVERY_RETRY_MIN_MS,
    WAITING_MAX_BYTES,
)
from kvs.meter import CommitMeter
from kvs.storage.state import read_progress
from kvs.storage.store import Store

log = structlog.get_logger()


class Runner:
    """Owns the node and the store's writing side. Everything runs on the loop, but for `Store.probe` and what
    `Store.stage` returns."""

    def __init__(
        self,
        store: Store,
        node: Node,
        now_ms: Callable[[], int],
        meter: CommitMeter | None = None,
    ) -> None:
        self._store = store
        self._node = node
        self._now_ms = now_ms
        self._meter = meter
        self.on_changed: list[Callable[[Sequence[bytes]], None]] = []
        """They hear which of KVS's own records were written, before anybody is answered. Of a commit that failed they
        hear once the store is open again: then the records may be the new ones."""
        self.on_committed: list[Callable[[Committed], None]] = []
        """They hear of all records that are on the disk, but for those of a commit that failed."""
        self.on_reopened: list[Callable[[], None]] = []
        """They hear that the store was reopened behind such a commit, which may nevertheless be on the disk."""
        self._waiting: deque[Submission] = deque()
        self._waiting_bytes = 0
        self._replies: dict[int, asyncio.Future[list[Outcome]]] = {}
        self._tickets = 0
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._writer: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._stopping = False
        self.failures = 0
        """How often writing stopped because the disk failed."""

    @property
    def degraded(self) -> bool:
        """Whether writes are refused because the disk failed."""
        return self._recovery is not None

    @property
    def waiting_bytes(self) -> int:
        """The values that wait for their commit."""
        return self._waiting_bytes

    @property
    def has_metadata(self) -> bool:
        """Whether any key may have metadata."""
        return self._node.has_metadata

    def start(self) -> None:
        # Kept, because asking for the running loop is a system call in CPython 3.11 (getpid).
        self._loop = asyncio.get_running_loop()
        self._writer = asyncio.create_task(self._write(), name="writer")

    async def stop(self) -> None:
        """Commit what waits, then end. New submissions are refused from here on."""
        self._stopping = True
        while self._replies and not self.degraded:
            await asyncio.wait(list(self._replies.values()))
        for task in (self._writer, self._recovery):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        self._fail_waiting(_stopping())
        self._thread.shutdown()

    async def write(self, command: Command) -> Written:
        """Commit one write. Raises the KvsError that refuses it, Unavailable when the node takes no writes."""
        (outcome,) = await self._enqueue((command,), _size_bytes(command))
        if isinstance(outcome, KvsError):
            raise outcome
        assert isinstance(outcome, Written)
        return outcome

    async def submit(self, commands: Sequence[Command]) -> list[Outcome]:
        """Commit the commands in one batch, in order; an outcome for each. Raises Unavailable as a whole."""
        return await self._enqueue(tuple(commands), sum(map(_size_bytes, commands)))

    def _enqueue(self, commands: tuple[Command, ...], size_bytes: int) -> asyncio.Future[list[Outcome]]:
        if self._stopping:
            raise _stopping()
        if self.degraded:
            raise _degraded()
        if self._waiting_bytes + size_bytes > WAITING_MAX_BYTES:
            raise Unavailable("too many writes wait for the disk; try again", code="overloaded")
        self._tickets += 1
        reply: asyncio.Future[list[Outcome]] = self._loop.create_future()
        self._replies[self._tickets] = reply
        if not self._waiting:
            self._wake.set()
        self._waiting.append(Submission(self._tickets, commands, size_bytes))
        self._waiting_bytes += size_bytes
        return reply

    # --- the writer ---

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting and not self.degraded:
                for _ in range(GROUP_GATHER_TURNS):
                    await asyncio.sleep(0)
                await self._commit(self._take())

    def _take(self) -> list[Submission]:
        """The next group: what waits, up to the limits of a group, at least one."""
        group: list[Submission] = []
        writes = size_bytes = 0
        while self._waiting:
            submission = self._waiting[0]
            writes += len(submission.commands)
            size_bytes += submission.size_bytes
            if group and (writes > GROUP_MAX_WRITES or size_bytes > GROUP_MAX_BYTES):
                break
            group.append(self._waiting.popleft())
            self._waiting_bytes -= submission.size_bytes
        return group

    async def _commit(self, submissions: list[Submission]) -> None:
        try:
            group = self._node.plan_group(submissions, self._store, self._now_ms())
        except StoreError as error:
            self._degrade(error)
            return
        except Exception:
            log.exception("A write could not be planned")
            failure = KvsError("the node failed to carry out this write; its log says more")
            for submission in submissions:
                self._resolve(submission.ticket, [failure] * len(submission.commands))
            return
        try:
            if group.batch:
                write = self._store.stage(group.batch)
                await self._loop.run_in_executor(self._thread, self._timed, write)
                if self._meter is not None:
                    self._meter.writes.add(sum([len(submission.commands) for submission in submissions]))
        except Exception as error:  # whatever it was, nobody knows what the disk holds
            changed = [effect for effect in group.effects if isinstance(effect, Changed)]
            self._degrade(error, changed)
            return
        for effect in self._node.committed(group):
            try:
                self._perform(effect)
            except Exception:  # whoever hears of it has a bug, and no later write may hang for that
                log.exception("What follows from a write failed")

    def _timed(self, write: Callable[[], None]) -> None:
        """In the commit thread."""
        if self._meter is None:
            write()
        else:
            started_s = perf_counter()
            write()
            self._meter.seconds.add(perf_counter() - started_s)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Reply(ticket, outcomes):  # most are
                self._resolve(ticket, outcomes)
            case Committed():
                for heard in self.on_committed:
                    heard(effect)
            case Changed(entries):
                for told in self.on_changed:
                    told(entries)
            case Report(event, fields, level):
                getattr(log, level)(event, **fields)

    def _resolve(self, ticket: int, outcomes: list[Outcome]) -> None:
        reply = self._replies.pop(ticket)
        if not reply.done():
            reply.set_result(outcomes)

    # --- after a failed commit ---

    def _degrade(self, error: Exception, changed: Sequence[Changed] = ()) -> None:
        """`changed`: the records that are the old or the new ones, nobody knows."""
        self.failures += 1
        unforeseen = None if isinstance(error, StoreError) else error
        log.error(
            "A write failed: the node takes no writes until the store is verified",
            error=str(error),
            exc_info=unforeseen,
        )
        self._recovery = asyncio.create_task(self._recover(changed), name="recovery")
        self._fail_waiting(_degraded())

    def _fail_waiting(self, error: Unavailable) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(error)
        self._replies.clear()

    async def _recover(self, changed: Sequence[Changed]) -> None:
        delay_ms = RECOVERY_RETRY_MIN_MS
        while True:
            await asyncio.sleep(delay_ms / 1000)
            delay_ms = min(2 * delay_ms, RECOVERY_RETRY_MAX_MS)
            try:
                await self._loop.run_in_executor(self._thread, self._store.probe)
                # On the loop, where all reads are: nobody may read from a handle that is being closed.
                self._store.reopen()
                tree = None if self._node.tree is None else read_tree(self._store)
                self._node.resume(read_progress(self._store), tree)
                if self._node.trail is not None:
                    self._node.trail.resume(self._store)
            except StoreError as error:
                log.warning("The store cannot be reopened yet", error=str(error), retry_ms=delay_ms)
            except Exception:
                log.exception("Reopening the store failed", retry_ms=delay_ms)
            else:
                for effect in changed:
                    self._perform(effect)
                for reopened in self.on_reopened:
                    reopened()
                log.info("The store was reopened and verified: the node takes writes again")
                self._recovery = None
                return


def _size_bytes(command: Command) -> int:
    if isinstance(command, Put):
        return len(command.payload)
    return len(command.record.payload) if isinstance(command, Merge) else 0


def _degraded() -> Unavailable:
    return Unavailable("a write to the disk failed; reads go on, writes are refused until it works", code="degraded")


def _stopping() -> Unavailable:
    return Unavailable("the node is stopping", code="stopping")
