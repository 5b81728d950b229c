"""Keeps this node's data and its peers' the same: pushes, comparisons, and what they have to do with each other.

    effects = replica.handle(event, here, now)     what to send, what to write, what to tell

The shell carries out the effects, in order, and hands in what comes of them. Answers to peers' questions are made by
`kvs.cluster.diff` and `kvs.cluster.ingest`; they need no state.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kvs.cluster.chance import Chance
from kvs.cluster.comparisons import Comparisons, Pace
from kvs.cluster.events import Change, Merge, Outcome, Report
from kvs.cluster.exchange import ReplicateAnswer
from kvs.cluster.push import Behind, Push, PushEffect, Reached, Send
from kvs.cluster.sync import Answer, Ask, Done, Here, Request, Session, Step, Take
from kvs.cluster.time_of import Now
from kvs.errors import BadMessage


class PeerUp(NamedTuple):
    """Event: a member lives."""

    peer: str


class PeerDown(NamedTuple):
    """Event: a member is dead, has left, or is forgotten."""

    peer: str


class Written(NamedTuple):
    """Event: these records are on this node's disk."""

    changes: Sequence[Change]


class Answered(NamedTuple):
    """Event: the answer to a call."""

    call: int
    answer: Answer


class Failed(NamedTuple):
    """Event: a call that got no answer, or a refusal."""

    call: int
    reason: str


class Submitted(NamedTuple):
    """Event: what became of the commands of a Submit, once they were on the disk."""

    ticket: int
    outcomes: Sequence[Outcome]


class RootSeen(NamedTuple):
    """Event: a peer said what its Merkle root is, in hex."""

    peer: str
    root: str


class Tick(NamedTuple):
    """Event: time has passed."""


Event = PeerUp | PeerDown | Written | Answered | Failed | Submitted | RootSeen | Tick


class PeerCall(NamedTuple):
    """Effect: send a request to a peer, then hand in Answered or Failed with this number. A `push` must not wait for
    what a comparison moves."""

    call: int
    peer: str
    request: Request
    push: bool


class Submit(NamedTuple):
    """Effect: hand these commands to the writer, then hand in Submitted with this ticket."""

    ticket: int
    commands: list[Merge]


Effect = PeerCall | Submit | Reached | Report


class Replica:
    """The state behind pushes and comparisons."""

    def __init__(self, pace: Pace, push: Push, chance: Chance, now: Now, *, push_enabled: bool) -> None:
        self._pushes = push
        self._push_enabled = push_enabled
        self._comparisons = Comparisons(pace, chance, now.mono_ms)
        self._pushed: dict[int, str] = {}
        self._session: Session | None = None
        self._peer = ""
        self._call = 0
        self._waits_for = 0
        self._taking: list[Merge] = []

    @property
    def wake_at_ms(self) -> int:
        return self._comparisons.wake_at_ms()

    def handle(self, event: Event, here: Here, now: Now) -> list[Effect]:
        effects = self._handle(event, here, now)
        if self._session is None:
            peer = self._comparisons.next(now.mono_ms)
            if peer is not None:
                self._session, self._peer = Session(peer), peer
                effects += self._step(self._session.start(here), now)
        return effects

    def _handle(self, event: Event, here: Here, now: Now) -> list[Effect]:
        match event:
            case Written(changes):
                return self._push_effects(self._pushes.committed(changes), now) if self._push_enabled else []
            case Answered(call, answer):
                return self._answered(call, answer, here, now)
            case Failed(call, reason):
                return self._failed(call, reason, now)
            case Submitted(ticket, outcomes):
                if self._session is None or ticket != self._waits_for:
                    return []
                return self._step(self._session.taken(self._taking, outcomes, here), now)
            case RootSeen(peer, root):
                self._comparisons.roots(peer, here.tree.root.fingerprint.hex(), root, now.mono_ms)
            case PeerUp(peer):
                self._pushes.add(peer)
                self._comparisons.up(peer, now.mono_ms)
            case PeerDown(peer):
                self._pushes.remove(peer)
                self._comparisons.down(peer)
            case Tick():
                pass
        return []

    # --- answers ---

    def _answered(self, call: int, answer: Answer, here: Here, now: Now) -> list[Effect]:
        peer = self._pushed.pop(call, None)
        if peer is not None:
            assert isinstance(answer, ReplicateAnswer)
            return self._push_effects(self._pushes.sent(peer, answer), now)
        if self._session is None or call != self._waits_for:
            return []
        try:
            return self._step(self._session.answered(answer, here), now)
        except BadMessage as error:
            return self._give_up(error.detail, now)

    def _failed(self, call: int, reason: str, now: Now) -> list[Effect]:
        peer = self._pushed.pop(call, None)
        if peer is not None:
            return self._push_effects(self._pushes.failed(peer), now)
        if self._session is None or call != self._waits_for:
            return []
        return self._give_up(reason, now)

    def _give_up(self, reason: str, now: Now) -> list[Effect]:
        self._session = None
        self._comparisons.failed(now.mono_ms)
        return [Report("A comparison with a peer failed", {"peer": self._peer, "reason": reason})]

    # --- steps ---

    def _step(self, step: Step, now: Now) -> list[Effect]:
        self._call += 1
        self._waits_for = self._call
        match step:
            case Ask(request):
                return [PeerCall(self._call, self._peer, request, push=False)]
            case Take(commands):
                self._taking = commands
                return [Submit(self._call, commands)]
            case Done(behind):
                self._session = None
                self._comparisons.done(now.mono_ms, behind=behind)
        return []

    def _push_effects(self, effects: list[PushEffect], now: Now) -> list[Effect]:
        found: list[Effect] = []
        for effect in effects:
            match effect:
                case Send(peer, request):
                    self._call += 1
                    self._pushed[self._call] = peer
                    found.append(PeerCall(self._call, peer, request, push=True))
                case Behind(peer):
                    self._comparisons.behind(peer, now.mono_ms)
                case Reached():
                    found.append(effect)
        return found
