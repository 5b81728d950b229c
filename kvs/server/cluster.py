"""The shell around the cores of the cluster: carries out what they want and tells them what came of it.

    membership   who lives            Call → members session, Save → the writer, MemberUp and MemberDown → replica
    replica      who holds what       PeerCall → push or sync session, Submit → the writer

Neither core ever waits; what waits is here, one task for each call.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from random import SystemRandom
from typing import Any

import structlog

from kvs.cluster import exchange, membership_events, messages, quarantine, replica
from kvs.cluster.bootstrap import Bootstrap, BootstrapSettings, Filled
from kvs.cluster.comparisons import Pace
from kvs.cluster.events import Committed, Discard, Remember, Report
from kvs.cluster.exchange import (
    DiffAnswer,
    DiffRequest,
    FetchAnswer,
    FetchRequest,
    RangeAnswer,
    RangeRequest,
    RecentAnswer,
    RecentRequest,
    ReplicateAnswer,
    ReplicateRequest,
)
from kvs.cluster.floor import Floor
from kvs.cluster.floor import decode as decode_floor
from kvs.cluster.floor import encode as encode_floor
from kvs.cluster.ingest import Limits
from kvs.cluster.membership import Membership
from kvs.cluster.membership_events import Identity, MembershipSettings, Sender
from kvs.cluster.messages import Digest, MemberView, Persisted, Status
from kvs.cluster.node import Node
from kvs.cluster.push import Push, Reached
from kvs.cluster.replica import Replica
from kvs.cluster.runner import Runner
from kvs.cluster.sync import Answer, Here, Request
from kvs.cluster.time_of import Now
from kvs.cluster.transport import JSON, MSGPACK, PeerRefused, PeerUnreachable, Transport, pack, unpack
from kvs.config import Config
from kvs.errors import BadMessage, BadRequest, Conflict, KvsError, NotFound, StoreError, TooLarge, Unavailable
from kvs.limits import COMPARE_TIMEOUT_S, LEAVE_TIMEOUT_S, PUSH_TIMEOUT_S
from kvs.server.cluster_view import ClusterView, View, median_ms
from kvs.storage.state import FILLED_ROW, FLOOR_ROW, MEMBERS_ROW, QUARANTINE_FILE
from kvs.storage.state import Identity as StoredIdentity
from kvs.storage.store import Store

log = structlog.get_logger()

_ROUTES: dict[type[Request | RecentRequest], tuple[str, type[Answer | RecentAnswer]]] = {
    RecentRequest: ("/members/pairs_by_time", RecentAnswer),
    DiffRequest: ("/merkle_tree/diff", DiffAnswer),
    FetchRequest: ("/kv_range", FetchAnswer),
    RangeRequest: ("/kv_range", RangeAnswer),
    ReplicateRequest: ("/replicate", ReplicateAnswer),
}


class Cluster:
    """This node's part in the cluster. Everything runs on one event loop."""

    def __init__(self, config: Config, store: Store, node: Node, runner: Runner, now_ms: Callable[[], int]) -> None:
        self._config = config
        self._store = store
        self._node = node
        self._runner = runner
        self._now_ms = now_ms
        self._chance = SystemRandom()
        self._push = Push(config.push_fanout, self._chance)
        self._transport = Transport(config.node_id, config.cluster_secret)
        self._membership: Membership | None = None
        self._addresses: dict[str, str] = {}
        self._offsets_ms: dict[str, int] = {}
        self._order = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._deferred: dict[int, asyncio.Future[Any]] = {}
        self._reached: dict[int, asyncio.Future[None]] = {}
        self._tickets = 0
        self._is_stopping = False
        self._loop = asyncio.get_running_loop()
        pace = Pace(round(config.sync_interval * 1000), round(config.catchup_interval * 1000), config.throttle_delay_ms)
        self._floor = Floor(decode_floor(store.get(FLOOR_ROW)), config.max_clock_drift)
        bootstrap = Bootstrap(
            BootstrapSettings(
                config.bootstrap_max_age_hours * 3_600_000,
                round(config.bootstrap_patience * 1000),
                config.fetch_delay_ms,
            ),
            self._now().mono_ms,
            needed=bool(config.other_seeds) and store.get(FILLED_ROW) is None,
        )
        self._replica = Replica(
            pace, self._push, bootstrap, self._floor, self._chance, self._now(), push_enabled=config.push_enabled
        )

    async def start(self, identity: StoredIdentity, address: str) -> None:
        """`address` is where peers reach this node."""
        self._transport.start()
        self._membership = Membership(
            _membership_settings(self._config),
            Identity(self._config.node_id, address, identity.instance_id, identity.joined_timestamp),
            _persisted(self._store),
            self._chance,
            self._now(),
        )
        self._tell_digest()
        self._tell_known()
        await self._carry_out(self._membership.start(self._now()))
        self._set_timer()

    async def stop(self) -> None:
        """Take leave of the others, then end everything that is under way."""
        if self._timer is not None:
            self._timer.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await self._tell_members(membership_events.Leaving())
                while leaving := [task for task in self._tasks if task.get_name() == "members"]:
                    await asyncio.wait(leaving)
        self._is_stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.stop()

    # --- what the rest of the node asks ---

    def members(self) -> list[MemberView]:
        return [] if self._membership is None else self._membership.members(self._now())

    @property
    def member_count(self) -> int:
        """Members that are not down, this node included."""
        return len(self._addresses) + 1

    @property
    def known_count(self) -> int:
        """Members that have not left, this node included."""
        return sum(1 for member in self.members() if member.status != Status.LEFT) or 1

    @property
    def is_syncing(self) -> bool:
        """Whether this node is being filled or rejoins after a long absence, and takes no writes until that is over."""
        return self._replica.mode != "settled"

    def check_shareable(self) -> None:
        """Raises Unavailable while this node may hold records that were deleted elsewhere."""
        if not self._replica.may_share:
            raise Unavailable("this node rejoins after a long absence", code="syncing")

    def check_writable(self) -> None:
        """Raises Unavailable when a write of a client would be stamped by a clock that is wrong, or come too early."""
        if self.is_syncing:
            raise Unavailable("this node is still being filled by its peers", code="syncing")
        if abs(median_ms(self._offsets_ms) or 0) > self._config.max_clock_drift:
            raise Unavailable("this node's clock differs too much from its peers'", code="clock_skew")

    def view(self, mode: str) -> ClusterView:
        """The cluster as this node sees it; `mode` is the node's. Raises Unavailable."""
        look = View(self._started(), self._replica, self._push, self._floor)
        return look.of(
            mode=mode,
            root=self.here().tree.root,
            offsets_ms=self._offsets_ms,
            has_seeds=bool(self._config.other_seeds),
            now=self._now(),
        )

    def addresses(self) -> list[str]:
        """Where this node and the members that are up are reached, this node first. Raises Unavailable."""
        return [self._started().me(self._now()).address, *(self._addresses[node] for node in sorted(self._addresses))]

    async def remove(self, node_id: str) -> None:
        """An operator says that this node will not come back: nothing waits for it any more. Raises NotFound, and
        Conflict when it is up."""
        membership = self._started()
        if node_id == self._config.node_id:
            raise Conflict("this is the node that was asked", code="this_node")
        if node_id in self._addresses:
            raise Conflict(f"{node_id} is up; stop it before it is removed", code="member_is_up")
        if node_id not in {member.id for member in membership.remembered()}:
            raise NotFound(f"no member has the id {node_id}", code="unknown_member")
        await self._tell_members(membership_events.Remove(node_id))

    def committed(self, effect: Committed) -> None:
        """The writer's: these records are on the disk."""
        if not self._is_stopping:
            self._replicate(replica.Written(effect.changes))

    async def wait_for(self, entry: bytes, version: tuple[int, int], nodes: int, timeout_s: float) -> int:
        """Wait until so many nodes, this one included, have this version on their disks; how many have it."""
        self._tickets += 1
        ticket = self._tickets
        self._push.watch(ticket, entry, version, nodes - 1)
        reached = self._reached[ticket] = self._loop.create_future()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await reached
        del self._reached[ticket]
        return self._push.forget(ticket) + 1

    async def answer(self, request: messages.Request, sender: Sender) -> messages.Response:
        """What a peer is answered. Raises the KvsError that refuses it."""
        outcome, effects = self._started().answer(request, sender, self._now())
        if isinstance(outcome, membership_events.Deferred):
            later = self._deferred[outcome.ticket] = self._loop.create_future()
            await self._carry_out(effects)
            outcome = await later
        else:
            await self._carry_out(effects)
        self._set_timer()
        if isinstance(outcome, KvsError):
            raise outcome
        assert not isinstance(outcome, membership_events.Deferred)
        return outcome

    def here(self) -> Here:
        """This node's records as they are now."""
        assert self._node.tree is not None
        now_ms = self._now_ms()
        return Here(self._node.tree, self._store, Limits(now_ms, self._node.tombstone_limit(now_ms)))

    # --- membership ---

    def _started(self) -> Membership:
        """Raises Unavailable for requests between listening and the start of the membership."""
        if self._membership is None:
            raise Unavailable("the node is starting", code="starting")
        return self._membership

    async def _tell_members(self, event: membership_events.Event) -> None:
        if self._membership is not None:
            await self._carry_out(self._membership.handle(event, self._now()))
            self._set_timer()

    async def _carry_out(self, effects: Sequence[membership_events.Effect]) -> None:
        """In order: nothing is said before what it rests on is on the disk."""
        async with self._order:
            for effect in effects:
                if isinstance(effect, membership_events.Save):
                    await self._save(effect.state)
                else:
                    self._carry_out_one(effect)

    def _carry_out_one(self, effect: membership_events.Effect) -> None:
        match effect:
            case membership_events.Call():
                self._spawn(self._call_member(effect), "members")
            case membership_events.Answer(ticket, outcome):
                later = self._deferred.pop(ticket, None)
                if later is not None and not later.done():
                    later.set_result(outcome)
            case membership_events.MemberUp(member):
                self._addresses[member.id] = member.address
                self._tell_known()
                self._replicate(replica.PeerUp(member.id))
            case membership_events.MemberDown(member):
                self._lose(member.id)
            case membership_events.MemberGone(node_id):
                self._lose(node_id)
            case membership_events.Heard(node_id, unix_ms, digest):
                if unix_ms:  # 0 is unknown: a peer that does not tell its clock does not make this one wrong
                    self._offsets_ms[node_id] = unix_ms - self._now_ms()
                if digest is not None:
                    self._replicate(replica.DigestSeen(node_id, digest.root, digest.proven, digest.gc_floor))
            case membership_events.CloneFound(detail):
                log.error("A clone of this node is alive: stop one of them", detail=detail)
            case membership_events.Report(event, fields, level):
                (log.warning if level == "warning" else log.info)(event, **fields)

    def _tell_known(self) -> None:
        assert self._membership is not None
        self._replicate(replica.Known([member.id for member in self._membership.remembered()]))
        self._node.floor_ms = self._floor.collected_below_ms

    def _lose(self, node_id: str) -> None:
        self._tell_known()
        self._offsets_ms.pop(node_id, None)
        if self._addresses.pop(node_id, None) is not None:
            self._replicate(replica.PeerDown(node_id))

    async def _save(self, state: Persisted) -> None:
        try:
            await self._runner.submit([Remember(rows={MEMBERS_ROW: messages.encode(state)})])
        except (KvsError, StoreError) as error:
            log.warning("The member list could not be saved", error=str(error))

    async def _call_member(self, call: membership_events.Call) -> None:
        route = messages.ROUTES[type(call.message)]
        event: membership_events.Event
        try:
            body = await self._transport.call(
                "members",
                call.address,
                route.method,
                route.path,
                messages.encode(call.message),
                content_type=JSON,
                timeout_s=call.timeout_ms / 1000,
                answer_max_bytes=route.body_max_bytes,
            )
            event = membership_events.Responded(call.call_id, messages.decode(route.answer, body, route.body_max_bytes))
        except PeerRefused as refusal:
            event = membership_events.Responded(call.call_id, messages.Refused(refusal.code, refusal.detail))
        except PeerUnreachable as failure:
            event = membership_events.Failed(call.call_id, failure.refused)
        except (BadRequest, TooLarge):
            event = membership_events.Failed(call.call_id, refused=False)
        await self._tell_members(event)

    # --- replication ---

    def _replicate(self, event: replica.Event) -> None:
        for effect in self._replica.handle(event, self.here(), self._now()):
            match effect:
                case replica.PeerCall():
                    self._spawn(self._call_peer(effect), "push" if effect.push else "sync")
                case replica.Submit():
                    self._spawn(self._submit(effect), "sync")
                case replica.SetAside():
                    self._spawn(self._set_aside(effect), "sync")
                case replica.SaveFloor():
                    self._spawn(self._save_floor(), "sync")
                case Filled():
                    self._spawn(self._note_filled(effect), "sync")
                case Reached(ticket):
                    reached = self._reached.get(ticket)
                    if reached is not None and not reached.done():
                        reached.set_result(None)
                case Report(name, fields, level):
                    (log.warning if level == "warning" else log.info)(name, **fields)
        self._tell_digest()

    async def _call_peer(self, call: replica.PeerCall) -> None:
        path, kind = _ROUTES[type(call.request)]
        event: replica.Event
        if call.delay_ms:
            await asyncio.sleep(call.delay_ms / 1000)
        try:
            body = await self._transport.call(
                "push" if call.push else "sync",
                self._addresses.get(call.peer, ""),
                "POST",
                path,
                pack(exchange.encode(call.request)),
                content_type=MSGPACK,
                timeout_s=PUSH_TIMEOUT_S if call.push else COMPARE_TIMEOUT_S,
            )
            event = replica.Answered(call.call, exchange.decode(unpack(body), kind))
        except (PeerRefused, PeerUnreachable, BadMessage) as failure:
            event = replica.Failed(call.call, str(failure))
        self._replicate(event)
        self._set_timer()

    async def _submit(self, submit: replica.Submit) -> None:
        try:
            outcomes = await self._runner.submit(submit.commands) if submit.commands else []
        except Unavailable as error:
            self._replicate(replica.Failed(submit.ticket, error.detail))
        else:
            self._replicate(replica.Submitted(submit.ticket, outcomes))
        self._set_timer()

    async def _save_floor(self) -> None:
        stored = self._floor.stored()
        await self._runner.submit([Remember(rows={FLOOR_ROW: encode_floor(stored)})])
        self._floor.saved(stored, self._now_ms())
        self._node.floor_ms = self._floor.collected_below_ms

    async def _note_filled(self, filled: Filled) -> None:
        await self._runner.submit([Remember(rows={FILLED_ROW: b""})])
        if filled.alone:
            log.warning("No seed answered: this node takes writes alone and goes on trying")
        else:
            log.info("This node was filled by its peers", records=filled.records)

    async def _set_aside(self, aside: replica.SetAside) -> None:
        """Into a file that an operator can look at, then out of the store."""
        path = self._config.data_dir / QUARANTINE_FILE
        await asyncio.to_thread(quarantine.append, path, self._store, aside.entries)
        await self._runner.submit([Discard(entries=tuple(aside.entries), before_ms=aside.before_ms)])
        count = len(aside.entries)
        log.warning("Records that may have been deleted elsewhere were set aside", records=count, file=str(path))

    def _tell_digest(self) -> None:
        tree = self._node.tree
        assert tree is not None
        if self._membership is not None:
            self._membership.digest = Digest(
                root=tree.root.fingerprint.hex(),
                count=tree.root.size,
                gc_floor=self._floor.floor_ms,
                proven=self._floor.announced_ms,
            )

    # --- time ---

    def _now(self) -> Now:
        return Now(round(asyncio.get_running_loop().time() * 1000), self._now_ms())

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._is_stopping:
            return
        members_ms = None if self._membership is None else self._membership.wake_at_ms
        wakes_ms = [wake_ms for wake_ms in (self._replica.wake_at_ms, members_ms) if wake_ms is not None]
        if wakes_ms:
            self._timer = self._loop.call_at(min(wakes_ms) / 1000, self._wake)

    def _wake(self) -> None:
        self._spawn(self._tick(), "tick")

    async def _tick(self) -> None:
        due_ms = None if self._membership is None else self._membership.wake_at_ms
        if due_ms is not None and due_ms <= self._now().mono_ms:
            await self._tell_members(membership_events.Tick())
            self._tell_known()  # those that are remembered only come and go without a word
        self._replicate(replica.Tick())
        self._set_timer()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("A task of the cluster failed", task=task.get_name(), exc_info=task.exception())


def _membership_settings(config: Config) -> MembershipSettings:
    return MembershipSettings(
        probe_interval_ms=config.probe_interval_ms,
        probe_timeout_ms=config.probe_timeout_ms,
        suspicion_timeout_ms=round(config.suspicion_timeout * 1000),
        gossip_interval_min_ms=round(config.gossip_interval_min * 1000),
        gossip_interval_max_ms=round(config.gossip_interval_max * 1000),
        member_timeout_ms=round(config.member_timeout * 1000),
        retention_ms=config.tombstone_retention,
        seeds=config.other_seeds,
    )


def _persisted(store: Store) -> Persisted:
    raw = store.get(MEMBERS_ROW)
    return Persisted() if raw is None else messages.decode(Persisted, raw)
