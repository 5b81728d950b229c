"""What the parts of the membership want done in one turn, and what each call was made for."""

from typing import NamedTuple

from kvs.cluster.detector import Probe
from kvs.cluster.membership_events import Answer, Call, Effect, Report
from kvs.cluster.messages import MemberState, Request, Response
from kvs.cluster.time_of import Now
from kvs.errors import KvsError


class Probing(NamedTuple):
    """The ping of a probe."""

    probe: Probe


class Helping(NamedTuple):
    """A helper was asked to ping the probe's target."""

    probe: Probe
    helper: str


class Relaying(NamedTuple):
    """A ping for somebody who asked for help and waits with this ticket."""

    ticket: int
    asker: str
    target: str


class Checking(NamedTuple):
    """A ping of a node that is known by rumour only."""

    state: MemberState


class Contesting(NamedTuple):
    """A ping of whoever holds the id that another node wants."""

    node_id: str


class SelfChecking(NamedTuple):
    """A ping of whoever is said to run under this node's own id."""

    claim: MemberState


class Nudging(NamedTuple):
    """A ping that tells somebody what it should know: that it is suspected, or that this node is not dead."""

    node_id: str


class Exchanging(NamedTuple):
    """The whole list for that of this member."""

    node_id: str


class Joining(NamedTuple):
    """An introduction at a seed."""

    address: str


class Parting(NamedTuple):
    """This node said that it goes. Nothing depends on the answer."""


Purpose = Probing | Helping | Relaying | Checking | Contesting | SelfChecking | Nudging | Exchanging | Joining | Parting


class Sent(NamedTuple):
    """A call under way. `ends_ms` is when it should have failed at the latest, `stalls` how often this node had stalled
    before."""

    purpose: Purpose
    address: str
    ends_ms: int
    stalls: int


class Outbox:
    """Gathers effects; knows the calls under way."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._sent: dict[int, Sent] = {}
        self._calls = 0
        self._tickets = 0
        self.is_closed = False
        """Whether nobody is called any more."""
        self.stalls = 0
        self.relays = 0
        """Pings for others under way."""
        self.must_save = False
        """Whether something changed that must be on the disk before anything is sent."""
        self.should_save = False
        """Whether something changed that a restart should find."""

    def add(self, effect: Effect) -> None:
        self._effects.append(effect)

    def report(self, event: str, *, warning: bool = False, **fields: object) -> None:
        self._effects.append(Report(event, fields, "warning" if warning else "info"))

    def call(self, purpose: Purpose, address: str, message: Request, timeout_ms: int, now: Now) -> None:
        if self.is_closed:
            return
        self._calls += 1
        self._sent[self._calls] = Sent(purpose, address, now.mono_ms + timeout_ms, self.stalls)
        self._effects.append(Call(self._calls, address, message, timeout_ms))

    def is_joining(self) -> bool:
        """Whether an introduction at a seed is under way."""
        return any(isinstance(sent.purpose, Joining) for sent in self._sent.values())

    def ended(self, call_id: int) -> Sent | None:
        """What this call was; None when it is not under way."""
        return self._sent.pop(call_id, None)

    def ends_ms(self, call_id: int) -> int | None:
        sent = self._sent.get(call_id)
        return None if sent is None else sent.ends_ms

    def ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    def answer(self, ticket: int, outcome: Response | KvsError) -> None:
        self._effects.append(Answer(ticket, outcome))

    def take(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
