"""This node's own audit log, beside what the writer puts into it with the data: notes, heads, and telling peers.

    note, refused   from wherever something happens; written soon, by the one writer, and nobody waits for it
    merge           records of a backup, with the entry that somebody restores it
    tick            every AUDIT_TICK_S: what waits is written, new entries are gathered, hours that are over get a head
    seal            before a clean end: a head of all there is, so that nothing of a stopped node is without

A note that was not on the disk when the process died is lost, as the answer to that request may be: it changed nothing.
"""

import asyncio
import hmac
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

import msgspec
import structlog
from aiohttp import web

from kvs.actions import AUTH_FAILURE, CONFIG_CHANGE, PERMISSION_DENIED, RESTORE
from kvs.auth.principal import LOCAL_ACTOR
from kvs.cluster.audit_heads import Head, decode_head, encode
from kvs.cluster.audit_run import Run
from kvs.cluster.events import Act, Command, Merge, Note, Outcome, Remember, Remembered
from kvs.cluster.runner import Runner
from kvs.cluster.trail import Trail
from kvs.config import Config
from kvs.errors import BadMessage, KvsError, StoreError, Unauthorized, Unavailable
from kvs.limits import (
    AUDIT_MERGES_TRACKED_MAX,
    AUDIT_MERGES_WINDOW_S,
    AUDIT_NUMBER_MAX,
    AUDIT_REFUSALS_TRACKED_MAX,
    AUDIT_REFUSALS_WINDOW_S,
    AUDIT_SEAL_TIMEOUT_S,
    AUDIT_SLICE_ENTRIES,
    AUDIT_TICK_S,
    AUDIT_UNWRITTEN_MAX,
)
from kvs.server.merges import Merges
from kvs.server.ratelimit import network_of
from kvs.server.refusals import Refusals
from kvs.server.security import AuditKeys
from kvs.server.witnesses import Witnesses
from kvs.settings import SETTINGS
from kvs.storage.keyspace import AUDIT_CONFIG, AUDIT_HEADS, after, audit_head_row, audit_row, split_audit
from kvs.storage.store import Reader, Store

log = structlog.get_logger()


class Auditor:
    """Runs on the event loop."""

    def __init__(
        self,
        store: Store,
        runner: Runner,
        trail: Trail,
        keys: AuditKeys,
        node_id: str,
        now_ms: Callable[[], int],
        witnesses: Witnesses | None,
    ) -> None:
        """`witnesses` are the peers that keep this node's heads; None for a lone node."""
        self._store = store
        self._runner = runner
        self._trail = trail
        self._now_ms = now_ms
        self._witnesses = witnesses
        self._keys = keys
        self._node_id = node_id
        self._begin()
        self._refusals = Refusals(AUDIT_REFUSALS_WINDOW_S * 1000, AUDIT_REFUSALS_TRACKED_MAX)
        self._merges = Merges(AUDIT_MERGES_WINDOW_S * 1000, AUDIT_MERGES_TRACKED_MAX)
        self._unwritten: list[Act] = []
        self._writing: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._configuring: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    def start(self) -> None:
        self._report_torn()
        self._runner.on_reopened.append(self._report_torn)
        self._ticking = asyncio.create_task(self._tick_on(), name="audit")

    async def seal(self) -> None:
        """A head of all there is, known to the peers."""
        if self._ticking is None:
            return
        now_ms = self._now_ms()
        with suppress(KvsError, StoreError):
            await self._write_notes([*self._refusals.rest(now_ms), *self._merges.rest(now_ms)])
        with suppress(KvsError, StoreError, TimeoutError):
            async with asyncio.timeout(AUDIT_SEAL_TIMEOUT_S), self._turn:
                await self._gather()
                if self._run.is_open:
                    await self._close_run()
        await self._tell(AUDIT_SEAL_TIMEOUT_S)

    async def stop(self) -> None:
        """For when no more requests come: what came since it was sealed gets a head too."""
        if self._ticking is not None:
            async with self._turn:  # a head that is on its way to the disk must be known to be there
                self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking
        self._witnesses = None
        await self.seal()
        for task in (self._writing, self._configuring):
            if task is not None:
                await task

    def _report_torn(self) -> None:
        """When the trail has read where the log on the disk ends."""
        if self._trail.torn is not None:
            last, tip = self._trail.torn
            log.error("The audit log does not end where its tip says: verify it", last=last, tip=tip)

    # --- notes ---

    def note(self, *acts: Act) -> None:
        """Write something down that changes no record, soon."""
        wanted = [act for act in acts if act.action in self._trail.actions]
        self._let_wait([*self._unwritten, *wanted])
        if self._unwritten and self._writing is None:
            self._writing = asyncio.create_task(self._write_waiting(), name="audit notes")

    def refused(self, request: web.BaseRequest, actor: str, error: KvsError, path: str = "", times: int = 1) -> None:
        """A request was refused for who asked, or as many parts of it. `path` says more than that of the request."""
        action = AUTH_FAILURE if isinstance(error, Unauthorized) else PERMISSION_DENIED
        if action in self._trail.actions:
            what = f"{request.method} {path or request.rel_url.raw_path}"
            act = self._refusals.count(action, network_of(request.remote or "?"), actor, what, self._now_ms(), times)
            if act is not None:
                self.note(act)

    async def merge(self, commands: Sequence[Merge], actor: str, resource: str) -> list[Outcome]:
        """Commit records that `actor` takes out of the backup `resource`; their outcomes. The first of them are on the
        disk together with an entry, the rest is counted. Raises Unavailable as a whole."""
        if RESTORE not in self._trail.actions:
            return await self._runner.submit(commands)
        act = self._merges.begin(actor, resource, self._now_ms())
        if act is None:
            return await self._merge_more(commands, actor, resource)
        noted: Outcome | None = None
        try:
            noted, *outcomes = await self._runner.submit([Note(acts=(act,)), *commands])
        finally:
            if not isinstance(noted, Remembered):
                self._merges.forget(actor, resource)
        return outcomes

    async def _merge_more(self, commands: Sequence[Merge], actor: str, resource: str) -> list[Outcome]:
        taken = len(commands)  # also of a request that is given up: they may get to the disk all the same
        try:
            outcomes = await self._runner.submit(commands)
            taken = sum(not isinstance(outcome, KvsError) for outcome in outcomes)
        except KvsError:
            taken = 0
            raise
        finally:
            self._merges.count(actor, resource, taken, self._now_ms())
        return outcomes

    def reconfigured(self, config: Config) -> None:
        """As `configured`, for whoever cannot wait: one after the other, as each is compared with the one before it."""
        self._configuring = asyncio.create_task(self._reconfigure(config, self._configuring), name="audit config")

    async def _reconfigure(self, config: Config, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait((before,))
        try:
            await self.configured(config)
        except StoreError as error:
            # The disk still has the digests of the one before: what changed is noted with the next one, or at a start.
            log.warning("A new configuration cannot be compared with the one before now", error=str(error))

    async def configured(self, config: Config) -> None:
        """Remember with which configuration the node runs, by a digest for each setting, and note what is not as it
        was before, and if that was before a restart. Raises StoreError."""
        digests = config_digests(config, self._keys.config)
        before = _config(self._store)
        changed = [name for name in sorted(digests.keys() | before.keys()) if digests.get(name) != before.get(name)]
        if not changed:
            return
        commands: list[Command] = [Remember(rows={AUDIT_CONFIG: encode(digests)})]
        if before and CONFIG_CHANGE in self._trail.actions:
            commands.append(Note(acts=(Act(CONFIG_CHANGE, LOCAL_ACTOR, " ".join(changed)),)))
        with suppress(Unavailable):
            await self._runner.submit(commands)

    def _let_wait(self, acts: Sequence[Act]) -> None:
        """These and no others wait for the disk, in this order; of too many the newest are lost."""
        self._unwritten = list(acts[:AUDIT_UNWRITTEN_MAX])
        if len(acts) > AUDIT_UNWRITTEN_MAX:
            lost = len(acts) - AUDIT_UNWRITTEN_MAX
            log.error("Notes for the audit log are lost: the disk takes no writes", notes=lost)

    async def _write_waiting(self) -> None:
        try:
            while self._unwritten:
                acts, self._unwritten = self._unwritten, []
                await self._write_notes(acts)
        except (KvsError, StoreError) as error:
            log.warning("Notes for the audit log wait for the disk", error=str(error))
        finally:
            self._writing = None

    async def _write_notes(self, acts: Sequence[Act]) -> None:
        """Raises KvsError; then they wait for the next tick."""
        if not acts:
            return
        try:
            await self._runner.submit([Note(acts=tuple(acts))])
        except KvsError:
            self._let_wait([*acts, *self._unwritten])
            raise

    # --- heads ---

    def _begin(self) -> None:
        """Behind the last head on the disk."""
        self._run = Run(self._keys.signing, self._node_id, self._trail.log, newest_head(self._store))
        self._next_row = audit_row(self._run.position + 1)
        self._is_unsure = False

    async def tick(self) -> None:
        now_ms = self._now_ms()
        self.note(*self._refusals.due(now_ms), *self._merges.due(now_ms))
        async with self._turn:
            await self._gather()
            if self._run.is_due(self._now_ms()):
                await self._close_run()
        await self._tell(None)

    async def _tick_on(self) -> None:
        while True:
            try:
                await self.tick()
            except (KvsError, StoreError) as error:
                log.debug("The audit log's head waits", error=str(error))
            except Exception:
                log.exception("Gathering the audit log failed")
            await asyncio.sleep(AUDIT_TICK_S)

    async def _gather(self) -> None:
        """Follow the log to its end. Raises KvsError, StoreError when a head cannot be written now."""
        if self._is_unsure:
            self._begin()
        end = audit_row(AUDIT_NUMBER_MAX)
        while rows := list(islice(self._store.scan(self._next_row, end), AUDIT_SLICE_ENTRIES)):
            for row, raw in rows:
                number = split_audit(row)
                if number is not None and not self._run.take(number, raw):
                    await self._close_run()
                    self._run.take(number, raw)
                self._next_row = row + b"\0"
            await asyncio.sleep(0)

    async def _close_run(self) -> None:
        head = self._run.head(self._now_ms())
        self._is_unsure = True  # until it is known: a write that fails may have reached the disk nevertheless
        await self._runner.submit([Remember(rows={audit_head_row(head.last, head.number): encode(head)})])
        self._run.written(head)
        self._is_unsure = False
        log.debug("The audit log has a new head", head=head.number, last=head.last)

    async def _tell(self, timeout_s: float | None) -> None:
        if self._witnesses is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._witnesses.tell(self._run.newest)


def newest_head(reader: Reader) -> Head | None:
    """The last head of this node's own log. One that is damaged counts as none: the next one says so."""
    for _, raw in reader.scan(AUDIT_HEADS, after(AUDIT_HEADS), backwards=True):
        try:
            return decode_head(raw)
        except BadMessage:
            log.error("A head of the audit log is damaged")
    return None


def config_digests(config: Config, key: bytes) -> dict[str, str]:
    """What tells whether a setting is what it was, and nothing else of it."""
    values = {name: setting.kind.plain(getattr(config, name)) for name, setting in SETTINGS.items()}
    return {name: hmac.digest(key, f"{name}={value!r}".encode(), "sha256")[:8].hex() for name, value in values.items()}


def _config(reader: Reader) -> dict[str, str]:
    raw = reader.get(AUDIT_CONFIG)
    try:
        return {} if raw is None else msgspec.json.decode(raw, type=dict[str, str])
    except msgspec.DecodeError:
        return {}
