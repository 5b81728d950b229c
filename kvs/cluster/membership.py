"""Who belongs to the cluster and who lives: the machine that the shell talks to.

    membership = Membership(settings, identity, stored, chance, now)
    effects = membership.start(now)
    effects = membership.handle(event, now)                       Tick at `wake_at_ms`, answers to calls, orders
    outcome, effects = membership.answer(request, sender, now)    a peer's request

Effects are carried out in their order, each Save before what stands behind it, all Saves before the outcome is sent.
Times of day may jump: timers go by `now.mono_ms`; `now.unix_ms` is only for incarnations and for what people read.

What happens when (all stretched by the health multiplier where kvs.cluster.detector says so):

    start            save the incarnation; check all that were known; join at seeds
    probe interval   ping the next peer in turn, and up to 3 suspects, so that they hear of it and refute
    suspicion ends   the suspect is dead
    exchange, retry, join                          see kvs.cluster.gossip
    check            ping again who was spoken of and was silent, see kvs.cluster.checks
    member_timeout   a member that is down leaves the list
    the first other  save it before anything comes of it, if the disk takes it: a node that got records of others, and
                     knows of none, would take what it was told as what all know, and let all forget what was deleted
    a second         save who became known since; in every hour, when each was last seen
    a late wake-up   this node stalled: nothing that ended meanwhile is judged
    leaving          tell up to 10 members; from then on silence
"""

from collections.abc import Sequence

from kvs.cluster.answering import Answering
from kvs.cluster.chance import Chance, some
from kvs.cluster.detector import Detector, Probe
from kvs.cluster.gossip import Pauses, Plans, Rumours
from kvs.cluster.hearing import Hearing
from kvs.cluster.members import Table
from kvs.cluster.membership_events import (
    Deferred,
    Effect,
    Event,
    Failed,
    Identity,
    Introduced,
    Leaving,
    LoopLag,
    MembershipSettings,
    Remove,
    Responded,
    Save,
    Sender,
    Tick,
)
from kvs.cluster.messages import (
    Digest,
    Join,
    Leave,
    MemberState,
    MemberView,
    Persisted,
    Request,
    Response,
    Status,
)
from kvs.cluster.myself import Myself
from kvs.cluster.outbox import Exchanging, Joining, Nudging, Outbox, Parting, Probing
from kvs.cluster.replies import Replies
from kvs.cluster.roster import Roster
from kvs.cluster.suspicion import Suspicions
from kvs.cluster.time_of import Now
from kvs.cluster.voice import Voice
from kvs.errors import KvsError
from kvs.limits import (
    LEAVE_PEERS_MAX,
    MEMBER_LIST_TIMEOUT_MS,
    MEMBERS_SAVE_DELAY_MS,
    MEMBERS_SAVE_INTERVAL_MS,
    SUSPECTS_ASKED_MAX,
)


class Membership:
    """The whole of it. Every method is to be called with a time not before that of the last call."""

    def __init__(
        self, settings: MembershipSettings, identity: Identity, stored: Persisted, chance: Chance, now: Now
    ) -> None:
        """`stored` is what the last Save held, `Persisted()` if there was none."""
        state = MemberState(
            id=identity.node_id,
            address=identity.address,
            last_seen=max(0, now.unix_ms),
            joined_timestamp=identity.joined_timestamp,
            instance_id=identity.instance_id,
        )
        self._settings = settings
        self._chance = chance
        self._out = Outbox()
        self._rumours = Rumours()
        self._detector = Detector(settings.probe_interval_ms, settings.probe_timeout_ms, chance)
        self._suspicions = Suspicions(settings.suspicion_timeout_ms, settings.probe_interval_ms)
        self._table = Table((m for m in stored.members if m.id != state.id), settings.retention_ms, now)
        self._myself = Myself(state, stored, self._rumours, self._detector.health, self._out)
        self._roster = Roster(self._myself, self._table, self._rumours, self._suspicions, self._out)
        self._voice = Voice(self._roster, self._rumours, self._detector, self._out)
        pauses = Pauses(settings.gossip_interval_min_ms, settings.gossip_interval_max_ms)
        self._plans = Plans(pauses, settings.seeds, chance)
        self._hearing = Hearing(self._roster, self._rumours, self._voice, self._plans, self._out)
        self._answering = Answering(self._roster, self._voice, self._hearing, self._out)
        self._replies = Replies(self._roster, self._voice, self._hearing, self._detector, self._out)
        self._save_ms = 0
        self._has_saved_others = False
        self._is_started = False

    # --- what the shell calls ---

    def start(self, now: Now) -> list[Effect]:
        self._is_started = True
        self._out.must_save = True
        self._detector.start(now.mono_ms)
        self._plans.start(now.mono_ms, knows_others=len(self._table) > 0)
        for entry in self._table:
            if entry.is_unconfirmed:
                self._hearing.checks.want(entry.state, now)
        self._join_if_due(now)
        return self._effects(now)

    def handle(self, event: Event, now: Now) -> list[Effect]:
        self._notice_lag(event, now)
        match event:
            case Tick():
                self._tick(now)
            case Responded(call_id, message):
                self._replies.responded(call_id, message, now)
            case Failed(call_id, refused):
                self._replies.failed(call_id, now, refused=refused)
            case LoopLag():
                pass
            case Leaving():
                self._leave(now)
            case Remove(node_id):
                if node_id == self._myself.id or not self._roster.remove(node_id, now):
                    self._out.report("There is no such member to remove", warning=True, member=node_id)
        return self._effects(now)

    def answer(self, request: Request, sender: Sender, now: Now) -> tuple[Response | Deferred | KvsError, list[Effect]]:
        """The answer to a peer's request, or the error that refuses it."""
        self._notice_lag(None, now)
        outcome: Response | Deferred | KvsError
        try:
            outcome = self._answering.answer(request, sender, now)
        except KvsError as error:
            outcome = error
        return outcome, self._effects(now)

    @property
    def wake_at_ms(self) -> int | None:
        """When the next Tick is due, by `Now.mono_ms`; None before the start and after leaving."""
        if not self._is_started or self._myself.has_left:
            return None
        due_ms = min(self._detector.next_ms, self._plans.next_ms(), self._save_ms)
        ends_ms = self._suspicions.next_ms()
        if ends_ms is not None:
            due_ms = min(due_ms, ends_ms)
        check_ms = self._hearing.checks.next_ms()
        if check_ms is not None:
            due_ms = min(due_ms, check_ms)
        down_ms = self._table.first_down_ms()
        if down_ms is not None:
            due_ms = min(due_ms, down_ms + self._settings.member_timeout_ms)
        return due_ms

    # --- what the shell and other cores look at ---

    @property
    def digest(self) -> Digest | None:
        """What this node's pings say of its data; set by whoever knows."""
        return self._voice.digest

    @digest.setter
    def digest(self, digest: Digest | None) -> None:
        self._voice.digest = digest

    def me(self, now: Now) -> MemberState:
        """This node, with the joined timestamp and the incarnation that count."""
        return self._myself.state(now)

    def members(self, now: Now) -> list[MemberView]:
        """The list for `GET /members/`, by id, this node included."""
        listed = [self._myself.state(now), *(entry.state for entry in self._table if entry.listed)]
        return [
            MemberView(m.id, m.address, m.last_seen, m.joined_timestamp, str(m.status))
            for m in sorted(listed, key=lambda m: m.id)
        ]

    def peers(self) -> list[MemberState]:
        """The other members that are not down."""
        return [entry.state for entry in self._table.up()]

    def remembered(self) -> list[MemberState]:
        """All other nodes that the tombstone floor must wait for: those that an operator removed are not among them."""
        return [entry.state for entry in self._table if not entry.is_removed]

    @property
    def has_joined(self) -> bool:
        """Whether a peer was heard since the start."""
        return self._hearing.has_joined

    @property
    def health(self) -> int:
        """The multiplier: 1 is well."""
        return self._detector.health.multiplier

    # --- inside ---

    def _effects(self, now: Now) -> list[Effect]:
        if self._is_started and not self._hearing.is_introduced:
            self._hearing.is_introduced = not (self._out.is_joining() or self._hearing.self_checks.is_asking)
            if self._hearing.is_introduced:
                self._out.add(Introduced())
        effects = self._out.take()
        if self._out.should_save:
            self._out.should_save = False
            self._save_ms = min(self._save_ms, now.mono_ms + MEMBERS_SAVE_DELAY_MS)
            self._out.must_save |= not self._has_saved_others and bool(self.remembered())
        if self._out.must_save:
            self._out.must_save = False
            self._has_saved_others = bool(self.remembered())
            self._save_ms = now.mono_ms + MEMBERS_SAVE_INTERVAL_MS
            mine = self._myself.last_said
            known = tuple(entry.state for entry in self._table)
            state = Persisted(incarnation=mine.incarnation, joined_timestamp=mine.joined_timestamp, members=known)
            effects.insert(0, Save(state))
        return effects

    def _notice_lag(self, event: Event | None, now: Now) -> None:
        """A wake-up or the end of a call that comes late shows that this node saw nothing meanwhile."""
        due_ms = self.wake_at_ms
        if due_ms is None:
            return
        if isinstance(event, Failed) and not event.refused:
            due_ms = min(due_ms, self._out.ends_ms(event.call_id) or due_ms)
        if isinstance(event, LoopLag):
            due_ms = min(due_ms, now.mono_ms - event.lag_ms)
        lag_ms = self._detector.lag(due_ms, now.mono_ms)
        if lag_ms:
            self._out.stalls += 1
            self._suspicions.stalled(lag_ms, now.mono_ms)
            self._out.report("This node stalled", lag_ms=lag_ms)

    def _tick(self, now: Now) -> None:
        if self._myself.has_left:
            return
        self._roster.bury(now)
        if now.mono_ms >= self._detector.next_ms:
            self._probe(now)
        if now.mono_ms >= self._plans.exchange_ms:
            self._plans.plan_exchange(now.mono_ms)
            for node_id in self._plans.exchange_peers([entry.state.id for entry in self._table.up()]):
                self._call_list(node_id, now)
        if now.mono_ms >= self._plans.retry_ms:
            self._plans.plan_retry(now.mono_ms)
            self._retry(now)
        self._join_if_due(now)
        self._hearing.checks.again(now)
        for entry in self._table.down_since(now.mono_ms - self._settings.member_timeout_ms):
            self._roster.unlist(entry, now)
        if now.mono_ms >= self._save_ms:
            self._out.must_save = True

    def _probe(self, now: Now) -> None:
        up = self._table.up()
        target = self._detector.next_target([entry.state.id for entry in up], now.mono_ms)
        if target is not None:
            self._ping(Probing(Probe(target, now.mono_ms)), target, now)
        suspects = [e.state.id for e in up if e.state.status is Status.SUSPECT and e.state.id != target]
        for suspect in some(self._chance, suspects, SUSPECTS_ASKED_MAX):
            self._ping(Nudging(suspect), suspect, now)

    def _retry(self, now: Now) -> None:
        """Those that were lost, and a seed that may know others than this node does."""
        self._try_lost(now)
        if self._plans.join_ms is None:
            reached = {entry.state.address for entry in self._table.up()} | self._replies.own_addresses
            self._join(self._plans.retry_seeds(reached), now)
        gone = self._table.forget(now)
        if gone:
            self._out.should_save = True
            self._out.report("Forgot nodes that were silent for too long", members=gone)

    def _join_if_due(self, now: Now) -> None:
        if self._plans.join_ms is not None and now.mono_ms >= self._plans.join_ms:
            self._plans.plan_join(now.mono_ms)
            self._join(self._plans.join_seeds(self._replies.own_addresses), now)
            self._try_lost(now)

    def _try_lost(self, now: Now) -> None:
        lost = [
            entry.state.id
            for entry in self._table
            if entry.is_unconfirmed or (not entry.is_up and entry.state.status is Status.DEAD)
        ]
        for node_id in self._plans.retry_peers(lost):
            self._ping(Nudging(node_id), node_id, now)

    def _join(self, seeds: Sequence[str], now: Now) -> None:
        mine = self._myself.state(now)
        message = Join(
            id=mine.id,
            address=mine.address,
            joined_timestamp=mine.joined_timestamp,
            incarnation=mine.incarnation,
            instance_id=mine.instance_id,
        )
        for seed in seeds:
            self._out.call(Joining(seed), seed, message, MEMBER_LIST_TIMEOUT_MS, now)

    def _call_list(self, node_id: str, now: Now) -> None:
        entry = self._table.get(node_id)
        if entry is not None:
            message = self._voice.member_list(now)
            self._out.call(Exchanging(node_id), entry.state.address, message, MEMBER_LIST_TIMEOUT_MS, now)

    def _ping(self, purpose: Probing | Nudging, node_id: str, now: Now) -> None:
        entry = self._table.get(node_id)
        if entry is not None:
            self._voice.ping(purpose, node_id, entry.state.address, now)

    def _leave(self, now: Now) -> None:
        if self._myself.has_left:
            return
        self._myself.leave()
        if self._hearing.self_checks.is_refused:  # the others would take it for a word of the one that stays
            self._out.is_closed = True
            return
        self._out.must_save = True  # whom it knew, it will look for when it is back
        mine = self._myself.last_said
        message = Leave(id=mine.id, incarnation=mine.incarnation)
        for entry in some(self._chance, self._table.up(), LEAVE_PEERS_MAX):
            self._out.call(Parting(), entry.state.address, message, self._detector.timeout_ms, now)
        self._out.is_closed = True
