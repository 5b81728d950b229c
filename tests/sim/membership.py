"""Many memberships in one process, on a network and clocks that fail as the seed says. The same seed is the same run.

Time is virtual: an event queue of (ms, number, action). Every message passes through the codec. A node's events wait
while its event loop is held, and come in any order when it goes on, as timers and sockets do. What a node saves
survives a crash; what it sends must have been saved before, and that is checked at every message.
"""

import hashlib
import heapq
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from kvs.cluster.membership import Membership
from kvs.cluster.membership_events import (
    Answer,
    Call,
    CloneFound,
    Deferred,
    Effect,
    Event,
    Failed,
    Identity,
    Leaving,
    LoopLag,
    MemberDown,
    MembershipSettings,
    MemberUp,
    Responded,
    Save,
    Sender,
    Tick,
)
from kvs.cluster.messages import ROUTES, Join, MemberList, Persisted, Refused, Request, Response, decode, encode
from kvs.cluster.time_of import Now
from kvs.errors import KvsError

EPOCH_MS = 1_700_000_000_000


class Link(NamedTuple):
    """What every way from one node to another is like. Probabilities are of one message one way."""

    loss: float = 0.0
    duplicates: float = 0.0
    delay_min_ms: int = 1
    delay_max_ms: int = 5


class Death(NamedTuple):
    """A node took another for dead. `was_alive`: it was not."""

    at_ms: int
    by: str
    of: str
    was_alive: bool


class SimNode:
    """A host with at most one process. `persisted` is its disk; a wiped one is another instance."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.id = f"n{number:03}"
        self.address = f"10.0.{number // 250}.{number % 250 + 1}:8080"
        self.clock_ms = 0
        self.mono_base_ms = number * 7_919 + 1
        self.persisted = Persisted()
        self.instances = 0
        self.joined_ms = 0
        self.membership: Membership | None = None
        self.is_host_up = True
        self.life = 0
        self.held: list[Callable[[], None]] | None = None
        self.tick_ms: int | None = None
        self.waiting: dict[int, Callable[[Response | KvsError], None]] = {}
        self.open_calls: set[int] = set()
        self.clones_found: list[bool] = []
        self.seen: dict[tuple[int, str, str], int] = {}
        self.wipe()

    @property
    def is_running(self) -> bool:
        return self.membership is not None

    @property
    def running(self) -> Membership:
        assert self.membership is not None
        return self.membership

    def now(self) -> Now:
        at_ms = self.world.now_ms
        return Now(self.mono_base_ms + at_ms, EPOCH_MS + at_ms + self.clock_ms)

    # --- life ---

    def wipe(self) -> None:
        """Empty the disk."""
        self.instances += 1
        self.persisted = Persisted()
        self.joined_ms = self.now().unix_ms

    def start(self, address: str | None = None) -> None:
        assert self.membership is None
        self.world.move(self, address or self.address)
        self.life += 1
        self.is_host_up = True
        identity = Identity(self.id, self.address, f"{self.id}-{self.instances}", self.joined_ms)
        chance = Random(f"{self.world.seed} {self.id} {self.life}")
        self.membership = self.world.make(self.world.settings, identity, self.persisted, chance, self.now())
        self.perform(self.membership.start(self.now()))

    def start_once(self) -> None:
        """Unless something started it before."""
        if not self.is_running:
            self.start()

    def crash(self, *, host_too: bool = False) -> None:
        """The process is gone; with `host_too` nobody even refuses connections."""
        self.membership = None
        self.is_host_up = not host_too
        self.held = None
        self.waiting.clear()
        self.open_calls.clear()
        self.tick_ms = None

    def stop(self) -> None:
        """Say goodbye, and go a little later."""
        self.event(Leaving())
        self.world.after(300, self._if_same_life(self.crash))

    def hold(self, for_ms: int, *, tells: bool) -> None:
        """The event loop stands still. `tells`: afterwards somebody notices and says so."""
        if self.held is not None or not self.is_running:
            return
        self.held = []
        self.world.after(for_ms, self._if_same_life(lambda: self._go_on(for_ms if tells else 0)))

    def _go_on(self, lag_ms: int) -> None:
        waiting, self.held = self.held or [], None
        self.world.chance.shuffle(waiting)
        if lag_ms:
            waiting.insert(self.world.chance.randint(0, len(waiting)), lambda: self.event(LoopLag(lag_ms)))
        for action in waiting:
            action()

    def _if_same_life(self, action: Callable[[], None]) -> Callable[[], None]:
        life = self.life

        def act() -> None:
            if self.is_running and self.life == life:
                action()

        return act

    def soon(self, action: Callable[[], None]) -> Callable[[], None]:
        """The action as this life's event loop comes to it."""

        def act() -> None:
            if self.held is not None:
                self.held.append(action)
            else:
                action()

        return self._if_same_life(act)

    # --- the shell ---

    def event(self, event: Event) -> None:
        self.perform(self.running.handle(event, self.now()))

    def answer(self, request: Request, sender: Sender, reply: Callable[[Response | KvsError], None]) -> None:
        outcome, effects = self.running.answer(request, sender, self.now())
        if isinstance(outcome, Deferred):
            self.waiting[outcome.ticket] = reply
        self.perform(effects)
        if not isinstance(outcome, Deferred):
            self.world.check_saved(self, outcome)
            reply(outcome)

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.world.trace(self.id, effect)
            match effect:
                case Save(state):
                    assert state.incarnation >= self.persisted.incarnation, "an incarnation went back"
                    self.persisted = decode(Persisted, encode(state))
                case Call():
                    self.world.check_saved(self, effect.message)
                    self.world.call(self, effect)
                case Answer(ticket, outcome):
                    self.world.check_saved(self, outcome)
                    self.waiting.pop(ticket)(outcome)
                case MemberDown(member):
                    self.world.died(self, member.id, str(member.status))
                case MemberUp(member):
                    self.world.rose(self, member.id)
                case CloneFound(_, is_refused):
                    self.clones_found.append(is_refused)
        self._plan_tick()

    def _plan_tick(self) -> None:
        wake_ms = self.running.wake_at_ms
        if wake_ms is None or wake_ms == self.tick_ms:
            return
        self.tick_ms = wake_ms
        self.world.at(max(wake_ms - self.mono_base_ms, self.world.now_ms), self.soon(lambda: self._tick(wake_ms)))

    def _tick(self, planned_ms: int) -> None:
        if self.tick_ms == planned_ms:
            self.tick_ms = None
            self.event(Tick())


MakeMembership = Callable[[MembershipSettings, Identity, Persisted, Random, Now], Membership]


class World:
    """The nodes, the network between them, and what was seen to happen."""

    def __init__(
        self,
        seed: int,
        count: int,
        *,
        settings: MembershipSettings | None = None,
        seeds: int = 2,
        link: Link | None = None,
        make: MakeMembership = Membership,
    ) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.now_ms = 0
        self.link = link or Link()
        self.make = make
        self.cuts: set[tuple[str, str]] = set()
        self.loses: Callable[[SimNode, SimNode, Request], bool] = lambda *_: False
        """Which requests get lost on purpose."""
        self.groups: dict[str, int] = {}
        self.deaths: list[Death] = []
        self.ups: list[tuple[int, str, str]] = []
        self.messages = 0
        self.bytes = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = 0
        self._by_address: dict[str, SimNode] = {}
        self.nodes = [SimNode(self, number) for number in range(count)]
        self._by_id = {node.id: node for node in self.nodes}
        addresses = tuple(node.address for node in self.nodes[:seeds])
        self.settings = (settings or MembershipSettings())._replace(seeds=addresses)

    # --- time ---

    def at(self, at_ms: int, action: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._queue, (at_ms, self._numbers, action))

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        self.at(self.now_ms + delay_ms, action)

    def run(self, for_ms: int) -> None:
        until_ms = self.now_ms + for_ms
        while self._queue and self._queue[0][0] <= until_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
        self.now_ms = until_ms

    def run_until(self, condition: Callable[[], bool], within_ms: int, step_ms: int = 100) -> int | None:
        """The ms until the condition held, None when it did not in time."""
        began_ms = self.now_ms
        while not condition():
            if self.now_ms - began_ms >= within_ms:
                return None
            self.run(step_ms)
        return self.now_ms - began_ms

    def start_all(self, spread_ms: int = 500) -> None:
        for node in self.nodes:
            self.after(self.chance.randint(0, spread_ms), node.start_once)

    # --- the network ---

    def move(self, node: SimNode, address: str) -> None:
        if self._by_address.get(node.address) is node:
            del self._by_address[node.address]
        node.address = address
        self._by_address[address] = node

    def call(self, caller: SimNode, call: Call) -> None:
        """Send a request; exactly one Responded or Failed comes back to the life that called."""
        caller.open_calls.add(call.call_id)

        def end(event: Responded | Failed) -> None:
            if event.call_id in caller.open_calls:
                caller.open_calls.discard(event.call_id)
                caller.event(event)

        self.after(call.timeout_ms, caller.soon(lambda: end(Failed(call.call_id, False))))
        target = self._by_address.get(call.address)
        if target is not None:
            self._request(caller, target, call, end)

    def _request(self, caller: SimNode, target: SimNode, call: Call, end: Callable[[Responded | Failed], None]) -> None:
        request = self._over_the_wire(call.message, call.message)
        sender = Sender(caller.id, caller.address.rpartition(":")[0])

        def back(outcome: Response | KvsError) -> None:
            message = self._over_the_wire(outcome, call.message)
            self._send(target, caller, caller.soon(lambda: end(Responded(call.call_id, message))))

        def arrive() -> None:
            if target.is_running:
                target.soon(lambda: target.answer(request, sender, back))()
            elif target.is_host_up:
                self._send(target, caller, caller.soon(lambda: end(Failed(call.call_id, True))))

        if not self.loses(caller, target, call.message):
            self._send(caller, target, arrive)

    def _over_the_wire(self, message: Any, request: Request) -> Any:
        """What arrives of a message, after encoding and decoding it."""
        if isinstance(message, KvsError):
            return Refused(message.code, message.detail)
        route = ROUTES[type(request)]
        raw = encode(message)
        self.messages += 1
        self.bytes += len(raw)
        self._digest.update(raw)
        return decode(type(message), raw, route.body_max_bytes)

    def _send(self, a: SimNode, b: SimNode, action: Callable[[], None]) -> None:
        if not self.is_connected(a, b):
            return
        for _ in range(2 if self.chance.random() < self.link.duplicates else 1):
            if self.chance.random() >= self.link.loss:
                self.after(self.chance.randint(self.link.delay_min_ms, self.link.delay_max_ms), action)

    def is_connected(self, a: SimNode, b: SimNode) -> bool:
        return (a.id, b.id) not in self.cuts and self.groups.get(a.id) == self.groups.get(b.id)

    def heal(self) -> None:
        self.cuts.clear()
        self.groups.clear()

    # --- what was seen ---

    def trace(self, node_id: str, effect: Effect) -> None:
        if not isinstance(effect, Call | Save):  # seen as bytes below
            self._digest.update(f"{self.now_ms} {node_id} {effect}\n".encode())

    def fingerprint(self) -> str:
        return self._digest.hexdigest()

    def died(self, by: SimNode, node_id: str, status: str) -> None:
        node = self._by_id[node_id]
        self.deaths.append(Death(self.now_ms, by.id, node_id, node.is_running and status == "dead"))

    def rose(self, by: SimNode, node_id: str) -> None:
        self.ups.append((self.now_ms, by.id, node_id))

    def check_saved(self, node: SimNode, message: object) -> None:
        """Saved before sent: nobody hears of an incarnation that the disk does not have."""
        states = [getattr(message, "sender", None)]
        if isinstance(message, MemberList):
            states = [m for m in message.members if m.id == node.id]
        if isinstance(message, Join):
            states = [message]
        for state in states:
            if state is not None:
                assert state.incarnation <= node.persisted.incarnation, f"{node.id} sent before it saved"

    # --- checks ---

    def live(self) -> list[SimNode]:
        return [node for node in self.nodes if node.is_running]

    def view(self, node: SimNode) -> dict[str, str]:
        return {member.id: member.status for member in node.running.members(node.now())}

    def disagreements(self) -> list[str]:
        """Where a live node's list is not that all who live are alive, and nobody else."""
        live = {node.id for node in self.live()}
        wrong = []
        for node in self.live():
            view = self.view(node)
            wrong += [f"{node.id} does not list {other} alive" for other in live if view.get(other) != "alive"]
            wrong += [
                f"{node.id} lists {o} {s}" for o, s in view.items() if o not in live and s in ("alive", "suspect")
            ]
            addresses = {m.id: m.address for m in node.running.members(node.now())}
            wrong += [
                f"{node.id} has an old address of {other.id}"
                for other in self.live()
                if addresses.get(other.id) not in (None, other.address)
            ]
        return wrong

    def is_converged(self) -> bool:
        return not self.disagreements()

    def false_deaths(self) -> list[Death]:
        return [death for death in self.deaths if death.was_alive]
