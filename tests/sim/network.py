"""The network between hosts: every way has its own loss, delay and duplicates, and can be cut in one direction."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from kvs.cluster.exchange import ReplicateRequest
from tests.sim.hearsay import Hearsay
from tests.sim.world import Action, EventLoop, World


class Link(NamedTuple):
    """What one way is like. Probabilities are of one message. Delays differ, so messages overtake each other."""

    loss: float = 0.0
    duplicates: float = 0.0
    delay_min_ms: int = 1
    delay_max_ms: int = 4


class Question(NamedTuple):
    """A request: who asks, by what route (the type of the request), the body."""

    sender: str
    host: str
    kind: type
    body: bytes


class Answer(NamedTuple):
    """The body of an answer."""

    body: bytes


class Refusal(NamedTuple):
    """A problem document in place of an answer."""

    code: str
    detail: str


class Lost(NamedTuple):
    """No answer. `refused`: nobody listens at the port."""

    refused: bool


Result = Answer | Refusal | Lost
Back = Callable[[Result], None]
Door = Callable[[Question, Back], bool]
"""Whether somebody listens; if so, it was asked."""


class Port:
    """Where a host can be reached. `door` is None while the host is off, and then nobody even refuses."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.door: Door | None = None


class Network:
    """Carries questions and answers between ports."""

    def __init__(self, world: World, link: Link, hearsay: Hearsay | None = None) -> None:
        """`hearsay` hears of what messages tell."""
        self._world = world
        self._hearsay = hearsay
        self._chance: Random = world.chance("network")
        self.link = link
        self.links: dict[tuple[str, str], Link] = {}
        self.cuts: set[tuple[str, str]] = set()
        self.groups: dict[str, int] = {}
        self.messages = 0
        self.faults: Counter[str] = Counter()
        """Messages that were `lost` on their way, ran into a `cut`, arrived `twice`."""
        self.bytes: Counter[type] = Counter()
        """By the type of the question; answers too."""
        self._ports: dict[str, Port] = {}

    def add(self, port: Port) -> None:
        self._ports[port.address] = port

    def remove(self, port: Port) -> None:
        if self._ports.get(port.address) is port:
            del self._ports[port.address]

    def heal(self) -> None:
        self.links.clear()
        self.cuts.clear()
        self.groups.clear()
        self.link = Link()

    def call(
        self, loop: EventLoop, source: Port, address: str, question: Question, timeout_ms: int, then: Back
    ) -> None:
        """Ask; exactly one result comes back, as long as whoever asked lives."""
        is_open = [True]

        def end(result: Result) -> None:
            if is_open:
                is_open.clear()
                then(result)

        self._world.after(timeout_ms, loop.wrap(lambda: end(Lost(False))))
        target = self._ports.get(address)
        if target is None:
            return

        def back(result: Result) -> None:
            action = loop.wrap(lambda: end(result))
            self._send(target, source, question.kind, _bytes_of(result), self._telling(target, source, action))

        def arrive() -> None:
            if target.door is not None and not target.door(question, back):
                back(Lost(True))

        # A question that gets no answer, because the way back is cut, makes nobody a member. Only records count then.
        action = self._telling(source, target, arrive) if question.kind is ReplicateRequest else arrive
        self._send(source, target, question.kind, question.body, action)

    def _send(self, a: Port, b: Port, kind: type, raw: bytes, action: Action) -> None:
        self.messages += 1
        self.bytes[kind] += len(raw)
        self._world.trace_bytes(f"{a.name}>{b.name}", raw)
        if (a.name, b.name) in self.cuts or self.groups.get(a.name) != self.groups.get(b.name):
            self.faults["message cut"] += 1
            return
        link = self.links.get((a.name, b.name), self.link)
        copies = 2 if self._chance.random() < link.duplicates else 1
        self.faults["message twice"] += copies - 1
        for _ in range(copies):
            if self._chance.random() < link.loss:
                self.faults["message lost"] += 1
            else:
                self._world.after(self._chance.randint(link.delay_min_ms, link.delay_max_ms), action)

    def _telling(self, a: Port, b: Port, action: Action) -> Action:
        """The arrival of a message that is sent now, and tells what its sender has heard."""
        hearsay = self._hearsay
        if hearsay is None:
            return action
        told = hearsay.sent(a.name, self._world.now_ms)

        def arrive() -> None:
            if b.door is not None:
                hearsay.arrived(b.name, told)
            action()

        return arrive


def _bytes_of(result: Result) -> bytes:
    return result.body if isinstance(result, Answer) else repr(result).encode()
