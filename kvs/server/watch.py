"""The shell around the feed: who watches, over which connection, and when what waits is sent.

    serve    a watcher catches up in steps, one watcher's step at a time, then joins the feed
    round    what waits in the feed is written to all who watch it, some of them in each turn of the event loop
    pause    five times as long as that took, while which more gathers: watchers slow writers by a sixth at most

Nobody waits for a watcher. What he does not take at once waits in his connection, and beyond a bound he is cut off; he
resumes where he was by the position of the last event that he got.

He is asked again who he is when a record changes that this rests on, and when his token ends.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from uuid import uuid4

import structlog
from aiohttp import hdrs, web

from kvs.auth.permissions import Metadata
from kvs.auth.principal import Principal
from kvs.cluster.events import Committed
from kvs.cluster.runner import Runner
from kvs.errors import KvsError, ResyncRequired, StoreError, Unavailable
from kvs.limits import (
    WATCH_GATHER_MAX_BYTES,
    WATCH_KEEPALIVE_S,
    WATCH_PAUSE_RATIO,
    WATCH_QUEUE_MAX_BYTES,
    WATCH_QUEUES_MAX_BYTES,
    WATCH_SENDS_PER_TURN,
    WATCH_TICK_S,
    WATCH_TURN_MAX_BYTES,
    WATCHERS_MAX,
)
from kvs.server.authorisation import read_metadata
from kvs.server.catching_up import CatchingUp, LostPlace, Step
from kvs.server.connection import Connection
from kvs.server.feed import Event, Feed, Subscription, sight_of
from kvs.server.response import Response
from kvs.storage.state import read_log_start, read_progress
from kvs.storage.store import Store

log = structlog.get_logger()

EVENT_STREAM = "text/event-stream"
_COMMENT = b":\n\n"
_PAUSE_MIN_S = 0.001
"""Timers are no finer."""


class Watcher(Subscription):
    """One stream. `admit` tells who he is now, or raises the KvsError that refuses him."""

    __slots__ = ("_admit", "connection", "ended", "principal", "round")

    def __init__(self, prefix: bytes, principal: Principal, admit: Callable[[], Principal]) -> None:
        super().__init__(prefix, sight_of(principal))
        self.principal = principal
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connection: Connection | None = None
        self.round = 0
        """The last one that told him something."""
        self._admit = admit

    def is_admitted(self) -> bool:
        """Whether he may go on, and sees what he saw."""
        try:
            self.principal = self._admit()
        except (KvsError, StoreError):
            return False
        return sight_of(self.principal) == self.sight

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def log_name(instance_id: str, *, is_synced: bool) -> str:
    """What no other change log is named. One that is not synced can lose its end in a power cut and give its numbers
    to other changes: positions in it hold for one run of the node."""
    return instance_id if is_synced else f"{instance_id} {uuid4()}"


class Watching:
    """All watchers of this node."""

    def __init__(self, store: Store, runner: Runner, change_log: str, now_ms: Callable[[], int]) -> None:
        """`change_log` is as of `log_name`."""
        self._store = store
        self._feed: Feed[Watcher] = Feed(change_log, read_progress(store).seq)
        self._runner = runner
        self._now_ms = now_ms
        self._loop = asyncio.get_running_loop()
        self._watchers: set[Watcher] = set()
        self._by_record: dict[bytes, set[Watcher]] = {}
        self._steps = asyncio.Lock()
        self._requests_seen = 0
        self._undrained_bytes = 0
        """Of those who catch up: what they were sent and have not taken."""
        self._outgoing: Iterator[tuple[bytes, Watcher]] = iter(())
        self._round: asyncio.Handle | None = None
        self._rounds = 0
        self._round_began_s = 0.0
        self._free_at_s = 0.0
        self._ticks: asyncio.TimerHandle | None = None
        self._keepalive_at_s = 0.0
        self._keepalive_is_due = False
        self._is_stopping = False
        self.dropped = dict.fromkeys(("slow", "access", "position"), 0)
        """Streams that this node ended: their clients took too little, may not go on, or must begin anew."""

    @property
    def watchers(self) -> int:
        """How many streams are open."""
        return len(self._watchers)

    def stop(self) -> None:
        """End all streams, behind what was committed so far; new ones are refused."""
        self._is_stopping = True
        for timer in (self._round, self._ticks):
            if timer is not None:
                timer.cancel()
        with suppress(StoreError):
            self._gather()
        while not self._send_some():
            pass
        for watcher in self._watchers:
            watcher.end()

    # --- what the rest of the node tells ---

    def committed(self, effect: Committed) -> None:
        """The writer's: these records are on the disk."""
        self._give_up(self._feed.publish(effect, self._now_ms()))
        if self._feed.has_pending and self._round is None:
            self._plan_round()

    def reopened(self) -> None:
        """The writer's: the store is open again behind a commit that may have reached the disk."""
        try:
            lost = read_log_start(self._store) > self._feed.head
            self._give_up(self._feed.publish_log(self._store, read_progress(self._store).seq, self._now_ms()))
        except StoreError as error:
            log.error("The change log cannot be read: all watchers must resume", error=str(error))
            lost = True
        if lost:
            for watcher in list(self._watchers):
                self._drop(watcher, "position")
        if self._feed.has_pending and self._round is None:
            self._plan_round()

    def changed(self, entries: Sequence[bytes]) -> None:
        """The writer's: these of KVS's own records are not what they were."""
        for entry in entries:
            for watcher in list(self._by_record.get(entry, ())):
                self._ask_again(watcher)

    # --- one watcher ---

    def begin(self, watcher: Watcher, since: str | None) -> CatchingUp | None:
        """How the watcher comes to the head; None if he is there. `since` is `snapshot`, a position, or None for now.
        Raises BadRequest, ResyncRequired, Unavailable."""
        if self._is_stopping:
            raise Unavailable("the node is stopping", code="stopping")
        if len(self._watchers) >= WATCHERS_MAX:
            raise Unavailable("too many clients watch this node", code="watcher_limit", retry_after_s=5)
        if since is None:
            return None
        try:
            if since == "snapshot":
                return CatchingUp(watcher, self._feed.head, self._store, snapshot=True)
            return CatchingUp(watcher, self._feed.parse(since), self._store)
        except LostPlace:
            raise ResyncRequired("what happened since this position is not kept any more") from None

    async def serve(self, watcher: Watcher, way: CatchingUp | None, request: web.BaseRequest) -> None:
        """Send events until the watcher is gone or ended."""
        if self._is_stopping:
            return
        connection = request.protocol
        assert isinstance(connection, Connection)
        watcher.connection = connection
        connection.begin_stream(watcher.end)
        self._enter(watcher)
        try:
            if way is None:
                self._join(watcher, b": watching\nid: %b\n\n" % self._feed.position(self._feed.head))
            else:
                await self._catch_up(watcher, way, request)
            await watcher.ended
        finally:
            self.dropped["slow"] += connection.is_stalled
            self._leave(watcher)

    def _enter(self, watcher: Watcher) -> None:
        self._watchers.add(watcher)
        for entry in watcher.principal.rests_on:
            self._by_record.setdefault(entry, set()).add(watcher)
        if self._ticks is None:
            self._keepalive_at_s = self._loop.time() + WATCH_KEEPALIVE_S
            self._ticks = self._loop.call_later(WATCH_TICK_S, self._tick)

    def _leave(self, watcher: Watcher) -> None:
        watcher.end()
        self._feed.leave(watcher)
        self._watchers.discard(watcher)
        for entry in watcher.principal.rests_on:
            alike = self._by_record.get(entry, set())
            alike.discard(watcher)
            if not alike:
                self._by_record.pop(entry, None)
        if not self._watchers and self._ticks is not None:
            self._ticks.cancel()
            self._ticks = None

    def _join(self, watcher: Watcher, data: bytes) -> None:
        self._feed.join(watcher)
        self._send(watcher, data)

    async def _catch_up(self, watcher: Watcher, way: CatchingUp, request: web.BaseRequest) -> None:
        """Steps with a wait for the client between them, up to the head of the log."""
        told_s = self._loop.time()
        while not watcher.ended.done():
            async with self._steps:  # in turn with others who catch up, so that these take one step in a turn of all
                began_s = time.monotonic()
                in_snapshot = way.in_snapshot
                step = self._step(watcher, way)
                if step is None:
                    return
                places = (b"" if in_snapshot else self._feed.position(event.seq) for event in step.events)
                data = b"".join(map(Event.raw, step.events, places))
                if not data and self._loop.time() - told_s > WATCH_KEEPALIVE_S:
                    data = _COMMENT
                if data:
                    told_s = self._loop.time()
                    self._send(watcher, data)
                # Who takes what he is sent joins in the turn that brought him to the head: until his next one, behind
                # those of others, there may be something new.
                is_there = not request.protocol.writing_paused and way.is_at(self._feed.head)
                if is_there and self._step(watcher, way) is None:
                    return
                await asyncio.sleep(_PAUSE_MIN_S if step.is_early else 0)
                await self._rest(began_s, watcher)
            if request.protocol.writing_paused:
                await self._drained(watcher, request, len(data))

    async def _rest(self, began_s: float, watcher: Watcher) -> None:
        """Behind a step that began then: where others ask the node meanwhile, catching up takes a sixth of the loop."""
        requests = 0 if watcher.connection is None else watcher.connection.requests_seen
        if requests != self._requests_seen:
            self._requests_seen = requests
            await asyncio.sleep((time.monotonic() - began_s) * WATCH_PAUSE_RATIO)

    def _step(self, watcher: Watcher, way: CatchingUp) -> Step | None:
        """None at the head, where the watcher joins the feed; ends one who cannot go on."""
        try:
            step = way.step(self._store, self._feed.head, self._now_ms(), self._metadata_of)
        except (LostPlace, StoreError) as error:
            if isinstance(error, StoreError):
                log.error("A watcher cannot be told what he missed", error=str(error))
            self._drop(watcher, "position")
            return Step([], [])
        if step is None:
            place = self._feed.position(way.seq)
            done = b"event: uptodate\nid: %b\ndata: {}\n\n" if way.is_snapshot else b":\nid: %b\n\n"
            self._join(watcher, done % place)
            return None
        for entry in step.corrupt:
            log.error("A corrupt record is left out of a stream", key=entry[1:].decode(errors="replace"))
        return step

    async def _drained(self, watcher: Watcher, request: web.BaseRequest, size_bytes: int) -> None:
        """So much waits for him. Each step brings bytes of its own, so those who take none are bounded together."""
        self._undrained_bytes += size_bytes
        try:
            if self._undrained_bytes > WATCH_QUEUES_MAX_BYTES:
                self._give_up([watcher])
                if watcher.connection is not None:
                    watcher.connection.end_stream()
                return
            drain = asyncio.ensure_future(request.writer.drain())
            await asyncio.wait((drain, watcher.ended), return_when=asyncio.FIRST_COMPLETED)
            drain.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await drain
        finally:
            self._undrained_bytes -= size_bytes

    def _metadata_of(self, entry: bytes) -> Metadata | None:
        return read_metadata(self._store, entry, self._now_ms()) if self._runner.has_metadata else None

    def _give_up(self, watchers: Sequence[Watcher]) -> None:
        """For whom more waits than may."""
        for watcher in watchers:
            self._drop(watcher, "slow")
        if watchers:
            log.warning("Watchers were cut off: more waits for them than may", watchers=len(watchers))

    def _drop(self, watcher: Watcher, reason: str) -> None:
        if not watcher.ended.done():
            self.dropped[reason] += 1
            watcher.end()

    # --- who he is ---

    def _ask_again(self, watcher: Watcher) -> None:
        if watcher.is_admitted():
            return
        self._drop(watcher, "access")
        self._feed.leave(watcher)
        if watcher.connection is not None:
            watcher.connection.end_stream()

    # --- what is sent when ---

    def _send(self, watcher: Watcher, data: bytes, *, is_more: bool = False) -> None:
        """`is_more`: of what this round tells him. He had no time yet to take the first piece of it."""
        assert watcher.connection is not None
        most = min(WATCH_QUEUE_MAX_BYTES, WATCH_QUEUES_MAX_BYTES // len(self._watchers))
        if is_more:
            most = max(most, WATCH_GATHER_MAX_BYTES)
        if not watcher.connection.send(data, most):
            self.dropped["slow"] += 1
            log.info("A watcher was cut off: it takes events too slowly", client=watcher.connection.peername)

    def _plan_round(self) -> None:
        pause_s = self._free_at_s - time.monotonic()
        if pause_s < _PAUSE_MIN_S:
            self._round = self._loop.call_soon(self._begin_round)
        else:
            self._round = self._loop.call_later(pause_s, self._begin_round)

    def _begin_round(self) -> None:
        self._round_began_s = time.monotonic()
        self._rounds += 1
        try:
            self._gather()
        except StoreError:  # it is being reopened
            self._round = self._loop.call_later(WATCH_KEEPALIVE_S / 10, self._begin_round)
            return
        if self._keepalive_is_due:
            self._keepalive_is_due = False
            data = b":\nid: %b\n\n" % self._feed.position(self._feed.head)
            self._outgoing = chain(self._outgoing, ((data, watcher) for watcher in list(self._feed.joined())))
        self._go_on()

    def _gather(self) -> None:
        """What is to be told now. Raises StoreError."""
        pieces = self._feed.take(self._metadata_of)
        self._outgoing = chain(self._outgoing, ((data, watcher) for data, watchers in pieces for watcher in watchers))

    def _send_some(self) -> bool:
        """What one turn of the loop has time for; whether that was all there is."""
        count = size_bytes = 0
        for data, watcher in islice(self._outgoing, WATCH_SENDS_PER_TURN):
            count += 1
            if not watcher.ended.done():
                self._send(watcher, data, is_more=watcher.round == self._rounds)
                watcher.round = self._rounds
            size_bytes += len(data)  # it was rendered for those who are gone, too
            if size_bytes >= WATCH_TURN_MAX_BYTES:
                return False
        return count < WATCH_SENDS_PER_TURN

    def _go_on(self) -> None:
        """Some of a round in this turn of the loop, the rest in the next ones, then the pause."""
        self._round = self._loop.call_soon(self._end_round if self._send_some() else self._go_on)

    def _end_round(self) -> None:
        """One turn behind the last one, because uvloop writes at the end of a turn. What others did in these turns is
        counted too: that cannot be told apart, and makes the pause rather too long than too short."""
        now_s = time.monotonic()
        self._round = None
        self._free_at_s = now_s + (now_s - self._round_began_s) * WATCH_PAUSE_RATIO
        if self._feed.has_pending or self._keepalive_is_due:
            self._plan_round()

    def _tick(self) -> None:
        """Whose token has ended is sent away; now and then everybody gets a comment, and the position that he has come
        to even where nothing happened."""
        self._ticks = self._loop.call_later(WATCH_TICK_S, self._tick)
        now_ms = self._now_ms()
        for watcher in [one for one in self._watchers if 0 < one.principal.expires_at <= now_ms]:
            self._ask_again(watcher)
        if self._loop.time() >= self._keepalive_at_s:
            self._keepalive_at_s += WATCH_KEEPALIVE_S
            self._keepalive_is_due = True
            if self._round is None:
                self._plan_round()


class EventStream(Response):
    """An answer that goes on until its client is gone."""

    __slots__ = ("_watcher", "_watching", "_way")

    def __init__(self, watching: Watching, watcher: Watcher, way: CatchingUp | None) -> None:
        # Proxies such as nginx would gather events before they hand them on.
        super().__init__(200, content_type=EVENT_STREAM, fields=b"X-Accel-Buffering: no\r\n")
        self._watching = watching
        self._watcher = watcher
        self._way = way
        self.close = True

    async def write_eof(self) -> None:
        request = self._request
        assert request is not None
        await request.writer.write(self.head(request.version))
        if request.method != hdrs.METH_HEAD:
            await self._watching.serve(self._watcher, self._way, request)

    def _content_fields(self) -> bytes:
        private = b"" if b"Cache-Control" in self.fields else b"Cache-Control: no-store\r\n"
        return b"Content-Type: %b\r\n%b" % (self.content_type.encode(), private)
