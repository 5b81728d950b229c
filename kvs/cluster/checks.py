"""Finding out by a ping who answers where. Nothing that others say creates a member or takes an id away.

    check        a node known by rumour      answers -> its own word lists it; silent (asked three times) -> again
                                             after a pause that doubles, for half a minute
    contest      an id held by A, wanted     A answers, and is not B itself -> B is refused, for a while without asking
                 by B's own word             A is silent (asked twice) or is another node now -> B has the id;
                                             A is told of B, so that it alarms too
    self check   somebody under this         answers, and is not this node by another name -> alarm
                 node's own id               silent -> this node refutes

A ping that fails while this node itself stalled has said nothing: a check is dropped, the others ask again.
"""

from typing import NamedTuple

from kvs.cluster.members import same_process
from kvs.cluster.membership_events import CloneFound
from kvs.cluster.messages import MemberState
from kvs.cluster.myself import Myself
from kvs.cluster.outbox import Checking, Contesting, Nudging, Outbox, SelfChecking
from kvs.cluster.roster import Roster
from kvs.cluster.time_of import Now
from kvs.cluster.voice import Voice
from kvs.errors import Conflict
from kvs.limits import (
    CHECK_PAUSE_MIN_MS,
    CHECK_PAUSE_MS,
    CHECK_PINGS,
    CHECKS_AGAIN,
    CHECKS_MAX,
    CONTEST_PINGS,
    CONTEST_TIMEOUT_MS,
    MEMBERS_MAX,
    REFUSED_PAUSE_MS,
)


class _Paused(NamedTuple):
    """`checks`: how often it was found silent."""

    until_ms: int
    state: MemberState
    checks: int = 0


class Checks:
    """Nodes known by rumour, pinged a few at a time."""

    def __init__(self, roster: Roster, voice: Voice, out: Outbox) -> None:
        self._roster = roster
        self._voice = voice
        self._out = out
        self._waiting: dict[str, MemberState] = {}
        self._under_way: dict[str, int] = {}
        self._paused: dict[str, _Paused] = {}
        self._silent: dict[str, int] = {}
        """How often those were silent that are checked again."""

    def want(self, state: MemberState, now: Now) -> None:
        """Check it soon, unless the same was just found silent."""
        paused = self._paused.get(state.id)
        if paused is not None:
            news = state.incarnation > paused.state.incarnation or not same_process(state, paused.state)
            if now.mono_ms < paused.until_ms and not news:
                return
            del self._paused[state.id]
            self._silent.pop(state.id, None)
        if state.id not in self._under_way and (state.id in self._waiting or len(self._waiting) < MEMBERS_MAX):
            self._waiting[state.id] = state
        self.go_on(now)

    def next_ms(self) -> int | None:
        """When one that was silent is to be checked again."""
        return min((each.until_ms for each in self._paused.values() if each.checks <= CHECKS_AGAIN), default=None)

    def again(self, now: Now) -> None:
        """Check those whose pause is over."""
        due = [each for each in self._paused.values() if each.checks <= CHECKS_AGAIN and each.until_ms <= now.mono_ms]
        for _, state, checks in due:
            del self._paused[state.id]
            self._silent[state.id] = checks
            if state.id not in self._under_way:
                self._waiting.setdefault(state.id, state)
        self.go_on(now)

    def ended(self, state: MemberState, now: Now, *, answered: bool, is_certain: bool) -> None:
        """The ping of a check came to its end. `is_certain`: nobody listens there, there is no use in asking again."""
        pings = self._under_way.pop(state.id)
        if not answered and not is_certain and pings < CHECK_PINGS:
            self._ping(state, pings + 1, now)
        elif not answered:
            if len(self._paused) >= MEMBERS_MAX:
                del self._paused[next(iter(self._paused))]
            checks = self._silent.pop(state.id, 0) + 1
            pause_ms = min(CHECK_PAUSE_MIN_MS << (checks - 1), CHECK_PAUSE_MS)
            self._paused[state.id] = _Paused(now.mono_ms + pause_ms, state, checks)
        else:
            self._silent.pop(state.id, None)
        self.go_on(now)

    def go_on(self, now: Now) -> None:
        while self._waiting and len(self._under_way) < CHECKS_MAX:
            state = self._waiting.pop(next(iter(self._waiting)))
            entry = self._roster.table.get(state.id)
            if entry is not None and entry.is_up and entry.state.incarnation >= state.incarnation:
                self._silent.pop(state.id, None)
                continue  # it spoke for itself meanwhile
            self._ping(state, 1, now)

    def _ping(self, state: MemberState, number: int, now: Now) -> None:
        self._under_way[state.id] = number
        self._voice.ping(Checking(state), state.id, state.address, now)


class _Contest:
    def __init__(self, newcomer: MemberState, holder: MemberState) -> None:
        self.newcomer = newcomer
        self.holder = holder
        self.tickets: list[int] = []
        self.pings = 0


class Contests:
    """Ids that two nodes claim."""

    def __init__(self, roster: Roster, voice: Voice, out: Outbox) -> None:
        self._roster = roster
        self._voice = voice
        self._out = out
        self._open: dict[str, _Contest] = {}
        self._refused: dict[str, _Paused] = {}

    def refuse_known_clone(self, state: MemberState, now: Now) -> None:
        """Raises Conflict when this node lost the contest for its id a moment ago."""
        refused = self._refused.get(state.id)
        if refused is None or now.mono_ms >= refused.until_ms:
            self._refused.pop(state.id, None)
        elif same_process(refused.state, state) and state.incarnation <= refused.state.incarnation:
            raise _taken(state.id)  # one that was started again is news: the other may be gone

    def is_open(self, node_id: str) -> bool:
        return node_id in self._open

    def open(self, newcomer: MemberState, now: Now, ticket: int | None = None) -> None:
        """Ask who holds the id whether it is still there. `ticket` is answered at the end."""
        entry = self._roster.table.get(newcomer.id)
        assert entry is not None
        contest = self._open.get(newcomer.id)
        if contest is None:
            contest = self._open[newcomer.id] = _Contest(newcomer, entry.state)
            self._ask(contest, now)
        elif not same_process(contest.newcomer, newcomer):
            if ticket is not None:
                self._out.answer(ticket, _taken(newcomer.id))
            return
        elif newcomer.incarnation > contest.newcomer.incarnation:
            contest.newcomer = newcomer
        if ticket is not None:
            contest.tickets.append(ticket)

    def answered(self, node_id: str, by: MemberState | None, now: Now) -> None:
        """Somebody answered at the holder's address: who says that he has the id, or None, who says he has not."""
        contest = self._open.get(node_id)
        if contest is None:
            return
        if by is None or same_process(by, contest.newcomer):
            self._close(contest, now)
        else:
            self._lose(contest, now)

    def silent(self, node_id: str, now: Now, *, is_certain: bool) -> None:
        """Nobody answered. `is_certain`: nobody listens there, so there is no use in asking again."""
        contest = self._open.get(node_id)
        if contest is None:
            return
        if is_certain or contest.pings >= CONTEST_PINGS:
            self._close(contest, now)
        else:
            self._ask(contest, now)

    def again(self, node_id: str, now: Now) -> None:
        """This node stalled: the silence says nothing."""
        contest = self._open.get(node_id)
        if contest is not None:
            contest.pings -= 1
            self._ask(contest, now)

    def _ask(self, contest: _Contest, now: Now) -> None:
        contest.pings += 1
        holder = contest.holder
        self._voice.ping(Contesting(holder.id), holder.id, holder.address, now, timeout_ms=CONTEST_TIMEOUT_MS)

    def _close(self, contest: _Contest, now: Now) -> None:
        """The newcomer has the id."""
        del self._open[contest.newcomer.id]
        self._roster.replace(contest.newcomer, now)
        for ticket in contest.tickets:
            self._out.answer(ticket, self._voice.member_list(now))

    def _lose(self, contest: _Contest, now: Now) -> None:
        newcomer, holder = contest.newcomer, contest.holder
        del self._open[newcomer.id]
        if len(self._refused) >= MEMBERS_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[newcomer.id] = _Paused(now.mono_ms + REFUSED_PAUSE_MS, newcomer)
        self._out.report(
            "Refused a node whose id another living node has",
            warning=True,
            member=newcomer.id,
            address=newcomer.address,
            held_at=holder.address,
        )
        for ticket in contest.tickets:
            self._out.answer(ticket, _taken(newcomer.id))
        # So that it finds out, and its operator.
        self._voice.ping(Nudging(holder.id), holder.id, holder.address, now, rated=newcomer)


class SelfChecks:
    """Others that seem to run under this node's id."""

    def __init__(self, myself: Myself, voice: Voice, out: Outbox) -> None:
        self._myself = myself
        self._voice = voice
        self._out = out
        self._asked: MemberState | None = None
        self._alarmed_ms: dict[bool, int] = {}
        self.is_refused = False
        """Whether this node was told that it is the one to be stopped."""

    @property
    def is_asking(self) -> bool:
        """Whether an answer is under way."""
        return self._asked is not None

    def want(self, claim: MemberState, now: Now) -> None:
        if self._asked is not None or self._has_alarmed(False, now) or self._has_alarmed(True, now):
            return
        self._asked = claim
        self._voice.ping(SelfChecking(claim), claim.id, claim.address, now, timeout_ms=CONTEST_TIMEOUT_MS)

    def ended(self, claim: MemberState, by: MemberState | None, now: Now, *, is_judged: bool = True) -> None:
        """`by` answered at the claimed address; None when nobody did."""
        self._asked = None
        own = self._myself.last_said
        if by is not None and not (same_process(by, own) and by.incarnation == own.incarnation):
            self.alarm(f"another living node has the id {own.id} at {claim.address}", now, is_refused=False)
        elif is_judged and claim.incarnation >= own.incarnation:
            self._myself.refute(claim)

    def alarm(self, detail: str, now: Now, *, is_refused: bool) -> None:
        """Say it, but not again and again."""
        self.is_refused = self.is_refused or is_refused
        if not self._has_alarmed(is_refused, now):
            self._alarmed_ms[is_refused] = now.mono_ms
            self._out.add(CloneFound(detail, is_refused))
            self._out.report("A clone of this node was found", warning=True, detail=detail)

    def _has_alarmed(self, is_refused: bool, now: Now) -> bool:
        """Whether that was said a moment ago."""
        alarmed_ms = self._alarmed_ms.get(is_refused)
        return alarmed_ms is not None and now.mono_ms - alarmed_ms < REFUSED_PAUSE_MS


def _taken(node_id: str) -> Conflict:
    return Conflict(
        f"another living node has the id {node_id}; give this node an id of its own, or stop the other one",
        code="node_id_taken",
    )
