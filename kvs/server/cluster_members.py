"""The shell around `Membership`: carries out what it wants and tells it what came of it.

Call                          a request to a member, on connections that carry nothing else
Save                          the writer
Answer                        whoever waits for it
MemberUp, MemberDown, Heard   the shell around the records, and the judgement of this node's clock
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog

from kvs.cluster import membership_events, messages
from kvs.cluster.chance import Chance
from kvs.cluster.events import Remember
from kvs.cluster.membership import Membership
from kvs.cluster.membership_events import Identity, MembershipSettings, Sender
from kvs.cluster.messages import Persisted
from kvs.cluster.peer_clocks import PeerClocks
from kvs.cluster.runner import Runner
from kvs.cluster.time_of import Now
from kvs.cluster.transport import JSON, PeerRefused, PeerUnreachable, Transport
from kvs.config import Config
from kvs.errors import BadRequest, KvsError, StartError, StoreError, TooLarge, Unavailable
from kvs.limits import INTRODUCTION_TIMEOUT_S, RECOVERY_RETRY_MAX_MS
from kvs.server.cluster_records import RecordsShell
from kvs.server.cluster_tasks import Tasks, Timer
from kvs.storage.state import MEMBERS_ROW
from kvs.storage.state import Identity as StoredIdentity
from kvs.storage.store import Store

log = structlog.get_logger()


class MembersShell:
    """Who lives."""

    def __init__(
        self,
        config: Config,
        store: Store,
        runner: Runner,
        transport: Transport,
        tasks: Tasks,
        records: RecordsShell,
        chance: Chance,
        now: Callable[[], Now],
    ) -> None:
        self._config = config
        self._store = store
        self._runner = runner
        self._transport = transport
        self._tasks = tasks
        self._records = records
        self._chance = chance
        self._now = now
        self._timer = Timer(lambda: tasks.spawn(self._tick(), "tick"))
        self._order = asyncio.Lock()
        self._deferred: dict[int, asyncio.Future[Any]] = {}
        self._membership: Membership | None = None
        self._newest: Persisted | None = None
        """What is to be saved, or was."""
        self._introduced = asyncio.Event()
        self.refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why this node must stop, once it must: another living node has its id."""
        self.clone: tuple[int, str] | None = None
        """When another node with this one's id was last found alive (Unix ms), and where."""
        self.clocks = PeerClocks(config.max_clock_drift)
        """By how much the clocks of peers differ from this node's; to be looked at only."""

    @property
    def membership(self) -> Membership:
        """To be looked at only. Raises Unavailable for requests between listening and the start of the membership."""
        if self._membership is None:
            raise Unavailable("the node is starting", code="starting")
        return self._membership

    @property
    def is_started(self) -> bool:
        return self._membership is not None

    async def start(self, identity: StoredIdentity, address: str) -> None:
        """`address` is where peers reach this node."""
        membership = self._membership = Membership(
            _settings(self._config),
            Identity(self._config.node_id, address, identity.instance_id, identity.joined_timestamp),
            _persisted(self._store),
            self._chance,
            self._now(),
        )
        self._tell_known()
        membership.digest = self._records.digest()
        await self._carry_out(membership.start(self._now()))

    async def introduce(self) -> None:
        """Wait until those that were asked at the start have answered, or one of them refused this node; not for long:
        others may be off. Raises StartError when another living node has this node's id."""
        introduced = asyncio.create_task(self._introduced.wait())
        await asyncio.wait(
            (introduced, self.refused), timeout=INTRODUCTION_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        introduced.cancel()
        if self.refused.done():
            raise StartError(self.refused.result())

    async def answer(self, request: messages.Request, sender: Sender) -> messages.Response:
        """What a peer is answered. Raises the KvsError that refuses it."""
        membership = self.membership
        membership.digest = self._records.digest()
        outcome, effects = membership.answer(request, sender, self._now())
        if isinstance(outcome, membership_events.Deferred):
            later = self._deferred[outcome.ticket] = asyncio.get_running_loop().create_future()
            await self._carry_out(effects)
            outcome = await later
        else:
            await self._carry_out(effects)
        if isinstance(outcome, KvsError):
            raise outcome
        assert not isinstance(outcome, membership_events.Deferred)
        return outcome

    async def tell(self, event: membership_events.Event) -> None:
        if self._membership is not None:
            self._membership.digest = self._records.digest()
            await self._carry_out(self._membership.handle(event, self._now()))

    def end(self) -> None:
        """Nothing is begun from here on."""
        self._timer.end()

    # --- carrying out ---

    async def _carry_out(self, effects: Sequence[membership_events.Effect]) -> None:
        """In order: nothing is said before what it rests on is on the disk."""
        async with self._order:
            for effect in effects:
                if isinstance(effect, membership_events.Save):
                    await self._save(effect.state)
                else:
                    self._carry_out_one(effect)
        turned = self.clocks.turned(self._now())
        if turned is not None:
            self._log(turned)
        self._timer.set(self.membership.wake_at_ms)

    def _carry_out_one(self, effect: membership_events.Effect) -> None:
        match effect:
            case membership_events.Call():
                self._tasks.spawn(self._call(effect), "members")
            case membership_events.Answer(ticket, outcome):
                later = self._deferred.pop(ticket, None)
                if later is not None and not later.done():
                    later.set_result(outcome)
            case membership_events.MemberUp(member):
                self._records.up(member.id, member.address, member.instance_id)
            case membership_events.MemberDown(member):
                self._lose(member.id)
            case membership_events.MemberGone(node_id):
                self._lose(node_id)
            case membership_events.Heard(node_id, unix_ms, digest):
                self.clocks.heard(node_id, unix_ms, self._now())
                if digest is not None:
                    self._records.heard(node_id, digest)
            case membership_events.Introduced():
                self._introduced.set()
            case membership_events.CloneFound(detail, is_refused):
                self._note_clone(detail, is_refused=is_refused)
            case membership_events.Report():
                self._log(effect)

    def _log(self, report: membership_events.Report) -> None:
        (log.warning if report.level == "warning" else log.info)(report.event, **report.fields)

    def _note_clone(self, detail: str, *, is_refused: bool) -> None:
        """A newcomer stops. One that was a member before, or takes writes already, goes on: whoever took its id, its
        clients are not to suffer from that."""
        self.clone = self._now().unix_ms, detail
        is_newcomer = not self._introduced.is_set() or self._records.replica.mode == "filling"
        if is_refused and is_newcomer and not self.refused.done():
            node_id = self._config.node_id
            reason = (
                f"another living node has the node_id {node_id}: give this one another, or stop that one ({detail})"
            )
            log.error("Another living node has this node's id: this one stops", detail=detail)
            self.refused.set_result(reason)
        else:
            log.error("A clone of this node is alive: stop one of them", detail=detail)

    def _tell_known(self) -> None:
        self._records.know(self.membership.remembered())

    def _lose(self, node_id: str) -> None:
        self._tell_known()
        self.clocks.lost(node_id)
        self._records.lost(node_id)

    async def _save(self, state: Persisted) -> None:
        self._newest = state
        try:
            await self._runner.submit([Remember(rows={MEMBERS_ROW: messages.encode(state)})])
        except (KvsError, StoreError) as error:
            log.warning("The member list could not be saved", error=str(error))
            self._tasks.spawn(self._save_later(state), "save")  # nobody waits for it at a stop

    async def _save_later(self, state: Persisted) -> None:
        """Until the disk takes it, or there is a newer one."""
        while True:
            await asyncio.sleep(RECOVERY_RETRY_MAX_MS / 1000)
            if state is not self._newest:
                return
            with suppress(KvsError, StoreError):
                await self._runner.submit([Remember(rows={MEMBERS_ROW: messages.encode(state)})])
                log.info("The member list was saved")
                return

    async def _call(self, call: membership_events.Call) -> None:
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
        await self.tell(event)

    async def _tick(self) -> None:
        await self.tell(membership_events.Tick())
        self._tell_known()  # those that are remembered only come and go without a word
        self._records.tick()  # the floor rises also while nobody is heard


def _settings(config: Config) -> MembershipSettings:
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
