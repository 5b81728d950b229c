"""Members for tests: states by hand, and one membership that is driven by hand."""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from kvs.cluster.membership import Membership
from kvs.cluster.membership_events import (
    Call,
    Deferred,
    Effect,
    Event,
    Failed,
    Identity,
    MembershipSettings,
    Report,
    Responded,
    Sender,
    Tick,
)
from kvs.cluster.messages import (
    Join,
    MemberList,
    MemberState,
    Persisted,
    Ping,
    PingAck,
    PingReq,
    PingReqAck,
    Refused,
    Request,
    Response,
    Rumour,
    Status,
)
from kvs.cluster.myself import as_rumour
from kvs.cluster.time_of import Now
from kvs.errors import KvsError

UNIX_MS = 1_700_000_000_000
JOINED_MS = 1_600_000_000_000


def member(
    node_id: str = "b",
    incarnation: int = 10,
    status: Status = Status.ALIVE,
    *,
    address: str = "",
    joined: int = JOINED_MS,
    seen: int = UNIX_MS,
    instance: str = "",
) -> MemberState:
    """A member like most others; its address and instance follow from its id."""
    return MemberState(
        id=node_id,
        address=address or f"{node_id}.example:8080",
        last_seen=seen,
        joined_timestamp=joined,
        status=status,
        incarnation=incarnation,
        instance_id=instance or f"disk-of-{node_id}",
    )


def rumour(
    node_id: str = "b", incarnation: int = 10, status: Status = Status.ALIVE, *, accuser: str = "", seen: int = UNIX_MS
) -> Rumour:
    return as_rumour(member(node_id, incarnation, status, seen=seen), accuser)


def join(node_id: str = "b", incarnation: int = 10, **fields: object) -> Join:
    state = member(node_id, incarnation, **fields)  # type: ignore[arg-type]
    return Join(
        id=state.id,
        address=state.address,
        joined_timestamp=state.joined_timestamp,
        incarnation=state.incarnation,
        instance_id=state.instance_id,
    )


_E = TypeVar("_E")


class Driven:
    """The membership of node `a`, its clocks, and every effect so far. Nothing happens unless a test says so."""

    def __init__(
        self,
        *,
        settings: MembershipSettings | None = None,
        stored: Persisted | None = None,
        seeds: Sequence[str] = (),
        seed: int = 1,
        unix_ms: int = UNIX_MS,
        start: bool = True,
    ) -> None:
        self.now = Now(1_000, unix_ms)
        self.settings = (settings or MembershipSettings())._replace(seeds=tuple(seeds))
        identity = Identity("a", "a.example:8080", "disk-of-a", JOINED_MS)
        self.core = Membership(self.settings, identity, stored or Persisted(), Random(seed), self.now)
        self.effects: list[Effect] = []
        self.under_way: dict[int, tuple[Call, int]] = {}
        """Calls that have not ended, and when they fail."""
        if start:
            self._record(self.core.start(self.now))

    # --- driving ---

    def _record(self, effects: list[Effect]) -> list[Effect]:
        self.effects += effects
        for call in of(Call, effects):
            self.under_way[call.call_id] = call, self.now.mono_ms + call.timeout_ms
        return effects

    def handle(self, event: Event) -> list[Effect]:
        if isinstance(event, Responded | Failed):
            self.under_way.pop(event.call_id, None)
        return self._record(self.core.handle(event, self.now))

    def ask(
        self, request: Request, sender: str = "b", host: str = "10.0.0.9"
    ) -> tuple[Response | Deferred | KvsError, list[Effect]]:
        outcome, effects = self.core.answer(request, Sender(sender, host), self.now)
        return outcome, self._record(effects)

    def later(self, ms: int) -> None:
        """Time passes, without a wake-up."""
        self.now = Now(self.now.mono_ms + ms, self.now.unix_ms + ms)

    def run(self, ms: int, *, alive: Sequence[str] = ()) -> list[Effect]:
        """Time passes, with every wake-up in time. Those in `alive` answer pings and help at once; the
        others never do."""
        until_ms = self.now.mono_ms + ms
        before = len(self.effects)
        while True:
            self._let_answer(alive)
            wake_ms = self.core.wake_at_ms
            next_ms = min([ends_ms for _, ends_ms in self.under_way.values()], default=until_ms + 1)
            at_ms = min(next_ms, until_ms + 1 if wake_ms is None else wake_ms)
            if at_ms > until_ms:
                break
            self.later(max(0, at_ms - self.now.mono_ms))
            if next_ms <= at_ms:
                self.handle(Failed(next(i for i, (_, ends_ms) in self.under_way.items() if ends_ms == next_ms), False))
            else:
                self.handle(Tick())
        self.later(until_ms - self.now.mono_ms)
        return self.effects[before:]

    def _let_answer(self, alive: Sequence[str]) -> None:
        while answers := [
            (call, answer) for call, _ in self.under_way.values() if (answer := self._answer(call, alive)) is not None
        ]:
            for call, answer in answers:
                self.respond(call, answer)

    def _answer(self, call: Call, alive: Sequence[str]) -> Response | None:
        helper = call.address.partition(".")[0]
        match call.message:
            case Ping(to=node_id) if node_id in alive:
                return self.ack(node_id)
            case PingReq(target=target) if helper in alive:
                return PingReqAck(sender=member(helper), reached=target in alive)
        return None

    def meet(self, *states: MemberState) -> list[Effect]:
        """These nodes ping this one, so that it lists them."""
        before = len(self.effects)
        for state in states:
            self.ask(Ping(sender=state, to="a"), state.id)
        return self.effects[before:]

    def ack(self, node_id: str, incarnation: int = 10, **fields: object) -> PingAck:
        return PingAck(sender=member(node_id, incarnation), **fields)  # type: ignore[arg-type]

    def respond(self, call: Call, message: Response | Refused) -> list[Effect]:
        return self.handle(Responded(call.call_id, message))

    def fail(self, call: Call, *, refused: bool = False) -> list[Effect]:
        return self.handle(Failed(call.call_id, refused))

    # --- looking ---

    def view(self) -> dict[str, str]:
        """Everybody but this node, by status."""
        return {m.id: m.status for m in self.core.members(self.now) if m.id != "a"}

    def remembered(self) -> dict[str, str]:
        return {m.id: str(m.status) for m in self.core.remembered()}

    @property
    def incarnation(self) -> int:
        return self.core.me(self.now).incarnation

    def told(self) -> tuple[MemberState, ...]:
        """What this node says of all it knows."""
        outcome, _ = self.ask(MemberList(()), "z")
        assert isinstance(outcome, MemberList)
        return outcome.members


def of(kind: type[_E], effects: Sequence[Effect]) -> list[_E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def pings(effects: Sequence[Effect]) -> list[str]:
    """Whom they ping."""
    return [ping.to for ping in ping_messages(effects)]


def ping_messages(effects: Sequence[Effect]) -> list[Ping]:
    return [call.message for call in of(Call, effects) if isinstance(call.message, Ping)]


def calls(kind: type[Request], effects: Sequence[Effect]) -> list[Call]:
    return [call for call in of(Call, effects) if isinstance(call.message, kind)]


def reports(effects: Sequence[Effect]) -> list[str]:
    return [report.event for report in of(Report, effects)]
