"""Joins the cores of the cluster to a node in virtual time: what the shells of kvs/server/cluster.py do.

membership   who lives            Call → the network, Save → the writer, MemberUp and MemberDown → replica
replica      who holds what       PeerCall → the network, Submit, SaveFloor, Filled and SetAside → the writer
"""

from collections import deque
from collections.abc import Callable, Sequence

from kvs.cluster import exchange, membership_events, messages, replica_events, sync
from kvs.cluster.bootstrap import Bootstrap, BootstrapSettings, Filled, decode_part
from kvs.cluster.comparisons import Pace
from kvs.cluster.events import Change, Discard, Merge, Remember
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
from kvs.cluster.membership_events import Deferred, Sender
from kvs.cluster.messages import Digest
from kvs.cluster.peer_clocks import PeerClocks
from kvs.cluster.push import Push
from kvs.cluster.replica import Replica
from kvs.cluster.sync import Here
from kvs.errors import BadMessage, BadRequest, KvsError, TooLarge, Unavailable
from kvs.limits import SWEEP_MAX_KEYS
from kvs.storage.state import FILLED_ROW, FILLING_ROW, FLOOR_ROW, MEMBERS_ROW, Identity
from tests.sim.network import Answer, Back, Lost, Question, Refusal, Result
from tests.sim.parts import Parts
from tests.sim.world import Action
from tests.sim.writer import Outcomes

_ANSWERS: dict[type, type] = {
    DiffRequest: DiffAnswer,
    FetchRequest: FetchAnswer,
    RangeRequest: RangeAnswer,
    RecentRequest: RecentAnswer,
    ReplicateRequest: ReplicateAnswer,
}


class Shell:
    """One process's part in the cluster."""

    def __init__(self, parts: Parts, identity: Identity, settings: membership_events.MembershipSettings) -> None:
        self._parts = parts
        self._chance = parts.chance
        setup = parts.setup
        self._push = Push(parts.node_id, setup.push_fanout, self._chance)
        pace = Pace(setup.sync_interval_ms, setup.catchup_interval_ms, setup.throttle_ms)
        now = parts.clock.now()
        self.floor = Floor(
            decode_floor(parts.disk.store.get(FLOOR_ROW)),
            parts.clock_drift_max_ms,
            retention_ms=setup.retention_ms,
            has_seeds=bool(settings.seeds),
            born_ms=identity.joined_timestamp,
        )
        bootstrap = Bootstrap(
            BootstrapSettings(setup.fill_age_ms, setup.fill_patience_ms, setup.throttle_ms),
            now.mono_ms,
            needed=bool(settings.seeds) and parts.disk.store.get(FILLED_ROW) is None,
            part=decode_part(parts.disk.store.get(FILLING_ROW)),
        )
        self.replica = Replica(
            pace,
            self._push,
            bootstrap,
            self.floor,
            self._chance,
            now,
            push_enabled=setup.push_enabled,
            patience_ms=setup.fill_patience_ms,
        )
        raw = parts.disk.store.get(MEMBERS_ROW)
        stored = messages.Persisted() if raw is None else messages.decode(messages.Persisted, raw)
        me = membership_events.Identity(
            parts.node_id, parts.port.address, identity.instance_id, identity.joined_timestamp
        )
        self.membership = Membership(settings, me, stored, self._chance, now)
        self.addresses: dict[str, str] = {}
        self.clones_found = 0
        self._clocks = PeerClocks(parts.clock_drift_max_ms)
        self._orders: deque[tuple[deque[membership_events.Effect], Action]] = deque()
        self._is_saving = False
        self._deferred: dict[int, Callable[[messages.Response | KvsError], None]] = {}
        self._timer = 0
        parts.writer.on_committed = self.committed

    def start(self) -> None:
        self._tell_digest()
        self._tell_known()
        self._carry_out(self.membership.start(self._parts.clock.now()), self._set_timer)

    # --- what the rest of the node asks ---

    def committed(self, changes: Sequence[Change]) -> None:
        self._replicate(replica_events.Written(changes))

    def waiting(self) -> int:
        """Records that peers have not acknowledged yet."""
        return sum(self._push.waiting(peer) for peer in self.addresses)

    def check_shareable(self) -> None:
        if not self.replica.may_share:
            raise Unavailable("this node rejoins after a long absence", code="syncing")

    def check_writable(self) -> None:
        if self.replica.mode != "settled":
            raise Unavailable("this node is still being filled by its peers", code="syncing")
        if not self.is_clock_right:
            raise Unavailable("this node's clock differs too much from its peers'", code="clock_skew")

    @property
    def is_clock_right(self) -> bool:
        return self._clocks.is_right(self._parts.clock.now())

    def answer_members(self, question: Question, back: Back) -> None:
        """What a peer is answered about members."""
        try:
            request: messages.Request = messages.decode(question.kind, question.body)
        except KvsError as error:
            back(Refusal(error.code, error.detail))
            return

        def reply(outcome: messages.Response | KvsError) -> None:
            self._set_timer()
            if isinstance(outcome, KvsError):
                back(Refusal(outcome.code, outcome.detail))
            else:
                back(Answer(messages.encode(outcome)))

        sender = Sender(question.sender, question.host)
        outcome, effects = self.membership.answer(request, sender, self._parts.clock.now())
        if isinstance(outcome, Deferred):
            self._deferred[outcome.ticket] = reply
            self._carry_out(effects, lambda: None)
        else:
            said: messages.Response | KvsError = outcome
            self._carry_out(effects, lambda: reply(said))

    def here(self) -> Here:
        tree = self._parts.node.tree
        assert tree is not None
        now_ms = self._parts.clock.wall_ms()
        return Here(tree, self._parts.disk.store, Limits(now_ms, self._parts.node.tombstone_limit(now_ms)))

    # --- membership ---

    def tell_members(self, event: membership_events.Event) -> None:
        self._carry_out(self.membership.handle(event, self._parts.clock.now()), self._set_timer)

    def _carry_out(self, effects: list[membership_events.Effect], then: Action) -> None:
        """In order: nothing is said before what it rests on is on the disk."""
        self._orders.append((deque(effects), then))
        self._go_on()

    def _go_on(self) -> None:
        while self._orders and not self._is_saving:
            effects, then = self._orders[0]
            if not effects:
                self._orders.popleft()
                then()
                continue
            effect = effects.popleft()
            if isinstance(effect, membership_events.Save):
                self._is_saving = True
                self._parts.writer.submit([Remember(rows={MEMBERS_ROW: messages.encode(effect.state)})], self._saved)
            else:
                self._carry_out_one(effect)

    def _saved(self, _: Outcomes) -> None:
        """Or not: the node goes on."""
        self._is_saving = False
        self._go_on()

    def _carry_out_one(self, effect: membership_events.Effect) -> None:
        match effect:
            case membership_events.Call():
                self._call_member(effect)
            case membership_events.Answer(ticket, outcome):
                self._deferred.pop(ticket)(outcome)
            case membership_events.MemberUp(member):
                self.addresses[member.id] = member.address
                self._replicate(replica_events.PeerUp(member.id, member.instance_id))
                self._tell_floor()
            case membership_events.MemberDown(member):
                self._lose(member.id)
            case membership_events.MemberGone(node_id):
                self._lose(node_id)
            case membership_events.Heard(node_id, unix_ms, digest):
                self._clocks.heard(node_id, unix_ms, self._parts.clock.now())
                if digest is not None:
                    self._replicate(
                        replica_events.DigestSeen(node_id, digest.root, digest.proven, digest.gc_floor, digest.settled)
                    )
            case membership_events.CloneFound():
                self.clones_found += 1

    def _tell_known(self) -> None:
        members = self.membership.remembered()
        instances = {member.id: member.instance_id for member in members if member.instance_id}
        self._replicate(replica_events.Known([member.id for member in members], instances))
        self._tell_floor()

    def _tell_floor(self) -> None:
        self._parts.node.floor_ms = self.floor.collected_below_ms
        self._parts.node.apart = self.floor.apart(self._parts.clock.wall_ms())
        self._parts.node.superseded.absences = self.floor.absences()

    def _lose(self, node_id: str) -> None:
        self._tell_known()
        self._clocks.lost(node_id)
        if self.addresses.pop(node_id, None) is not None:
            self._replicate(replica_events.PeerDown(node_id))
            self._tell_floor()

    def _call_member(self, call: membership_events.Call) -> None:
        route = messages.ROUTES[type(call.message)]

        def ended(result: Result) -> None:
            event: membership_events.Event
            match result:
                case Answer(body):
                    try:
                        message = messages.decode(route.answer, body, route.body_max_bytes)
                        event = membership_events.Responded(call.call_id, message)
                    except (BadRequest, TooLarge):
                        event = membership_events.Failed(call.call_id, refused=False)
                case Refusal(code, detail):
                    event = membership_events.Responded(call.call_id, messages.Refused(code, detail))
                case Lost(refused):
                    event = membership_events.Failed(call.call_id, refused)
            self.tell_members(event)

        self._parts.ask(call.address, type(call.message), messages.encode(call.message), call.timeout_ms, ended)

    # --- replication ---

    def _replicate(self, event: replica_events.Event) -> None:
        for effect in self.replica.handle(event, self.here(), self._parts.clock.now()):
            match effect:
                case replica_events.PeerCall():
                    self._later(effect)
                case replica_events.Submit(ticket, commands):
                    self._submit(ticket, commands)
                case replica_events.SetAside():
                    self._set_aside(effect)
                case replica_events.SaveFloor():
                    self._save_floor()
                case Filled():
                    self._parts.writer.submit([Remember(rows={FILLED_ROW: b"", FILLING_ROW: None})], lambda _: None)
        self._tell_digest()

    def _later(self, call: replica_events.PeerCall) -> None:
        self._parts.loop.after(call.delay_ms, lambda: self._call_peer(call))

    def _call_peer(self, call: replica_events.PeerCall) -> None:
        counts = self._parts.counts
        if isinstance(call.request, ReplicateRequest):
            counts["pushed" if call.push else "moved"] += len(call.request.records)

        def ended(result: Result) -> None:
            event: replica_events.Event
            match result:
                case Answer(body):
                    try:
                        answer: sync.Answer | RecentAnswer = exchange.decode(body, _ANSWERS[type(call.request)])
                        if not isinstance(answer, DiffAnswer | ReplicateAnswer):
                            counts["moved"] += len(answer.records)
                        event = replica_events.Answered(call.call, answer)
                    except BadMessage as error:
                        event = replica_events.Failed(call.call, error.detail)
                case Refusal() | Lost():
                    event = replica_events.Failed(call.call, str(result))
            self._replicate(event)
            self._set_timer()

        address = self.addresses.get(call.peer, "")
        body = exchange.encode(call.request)
        self._parts.ask(address, type(call.request), body, round(1000 * call.timeout_s), ended)

    def _submit(self, ticket: int, commands: Sequence[Merge | Remember]) -> None:
        def submitted(outcomes: Outcomes) -> None:
            if isinstance(outcomes, KvsError):
                self._replicate(replica_events.Failed(ticket, outcomes.detail))
            else:
                self._replicate(replica_events.Submitted(ticket, outcomes))
            self._set_timer()

        if commands:
            self._parts.writer.submit(commands, submitted)
        else:
            self._parts.loop.after(0, lambda: submitted([]))

    def _set_aside(self, aside: replica_events.SetAside) -> None:
        """The file takes some time; then they leave the store, some at a time."""
        before_ms = aside.before_ms
        self._parts.disk.witness.set_aside(before_ms)
        slices = [aside.entries[at : at + SWEEP_MAX_KEYS] for at in range(0, len(aside.entries), SWEEP_MAX_KEYS)]

        def written() -> None:
            self._tell_floor()
            self._parts.writer.submit([Remember(rows={FLOOR_ROW: encode_floor(self.floor.stored())})], go_on)

        def go_on(outcomes: Outcomes) -> None:
            self._parts.on_loss()
            if isinstance(outcomes, KvsError):
                self._replicate(replica_events.Failed(aside.ticket, outcomes.detail))
            elif slices:
                self._parts.writer.submit([Discard(entries=tuple(slices.pop(0)), before_ms=before_ms)], go_on)
            else:
                self._replicate(replica_events.Submitted(aside.ticket, []))
            self._set_timer()

        self._parts.loop.after(self._parts.setup.disk.write_max_ms, written)

    def _save_floor(self) -> None:
        stored = self.floor.stored()

        def saved(outcomes: Outcomes) -> None:
            if not isinstance(outcomes, KvsError):
                self.floor.saved(stored, self._parts.clock.wall_ms())
                self._tell_floor()

        self._parts.writer.submit([Remember(rows={FLOOR_ROW: encode_floor(stored)})], saved)

    def _tell_digest(self) -> None:
        tree = self._parts.node.tree
        assert tree is not None
        self.membership.digest = Digest(
            root=tree.root.fingerprint.hex(),
            count=tree.root.size,
            gc_floor=self.floor.floor_ms,
            proven=self.floor.announced_ms,
            settled=self.replica.mode == "settled",
        )

    # --- time ---

    def _set_timer(self) -> None:
        self._timer += 1
        number = self._timer
        wakes_ms = [ms for ms in (self.replica.wake_at_ms, self.membership.wake_at_ms) if ms is not None]
        if wakes_ms:
            self._parts.loop.after(max(0, self._parts.clock.until_ms(min(wakes_ms))), lambda: self._wake(number))

    def _wake(self, number: int) -> None:
        if number != self._timer:
            return
        due_ms = self.membership.wake_at_ms
        if due_ms is not None and due_ms <= self._parts.clock.mono_ms():
            self.tell_members(membership_events.Tick())
            self._tell_known()
        self._replicate(replica_events.Tick())
        self._set_timer()
