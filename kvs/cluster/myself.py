"""What this node says of itself, and what it does when others say something else.

Heard of this node's own id, `same` being this data directory at this address:

    claim                                    means                               then
    lower incarnation                        an old rumour                       nothing
    above all that others may claim          a lie, or a flipped bit             nothing
    not alive                                others lost this node               refute: an incarnation above the claim
    same, suspect                            the same                            the same
    same, alive, equal                       what this node said                 nothing
    same, alive, higher                      this node forgot what it had said   refute
    other address, alive or suspect          a clone, or a former life           ask who answers there: nobody or this
                                                                                 node itself -> refute; another -> alarm
    other directory at this address          a former life                       refute

Against a living clone nothing is refuted: both would raise their incarnations for ever. The earlier joined timestamp is
taken from what others know of the same data directory.
"""

from enum import Enum

import msgspec

from kvs.cluster.detector import Health
from kvs.cluster.gossip import Rumours
from kvs.cluster.members import earliest_joined, same_process
from kvs.cluster.messages import MemberState, Persisted, Rumour, Status
from kvs.cluster.outbox import Outbox
from kvs.cluster.time_of import Now
from kvs.limits import INCARNATION_CLAIMED_MAX, MEMBER_NUMBER_MAX


class Reaction(Enum):
    """What follows from something said of this node."""

    NOTHING = "nothing"
    REFUTED = "refuted"
    ASK = "ask"


class Myself:
    """This node as a member."""

    def __init__(self, state: MemberState, stored: Persisted, rumours: Rumours, health: Health, out: Outbox) -> None:
        """Starts above every incarnation that was stored, whatever the clock says."""
        self._state = msgspec.structs.replace(
            state,
            incarnation=min(max(stored.incarnation + 1, state.last_seen), MEMBER_NUMBER_MAX),
            joined_timestamp=earliest_joined(state.joined_timestamp, stored.joined_timestamp),
        )
        self._rumours = rumours
        self._health = health
        self._out = out

    @property
    def id(self) -> str:
        return self._state.id

    @property
    def last_said(self) -> MemberState:
        """The state without the time."""
        return self._state

    @property
    def has_left(self) -> bool:
        return self._state.status is Status.LEFT

    def state(self, now: Now) -> MemberState:
        return msgspec.structs.replace(self._state, last_seen=max(0, now.unix_ms))

    def leave(self) -> None:
        self._change(status=Status.LEFT)

    def hear(self, claim: MemberState) -> Reaction:
        """Weigh what others say of this node's id."""
        own = self._state
        if self.has_left:
            return Reaction.NOTHING
        if claim.instance_id == own.instance_id:
            self._adopt_joined(claim.joined_timestamp)
        if claim.incarnation < own.incarnation:
            return Reaction.NOTHING
        if not may_claim(claim.incarnation, own.incarnation):
            self._out.report("A claim about this node cannot be", warning=True, incarnation=claim.incarnation)
            return Reaction.NOTHING
        if claim.status in (Status.ALIVE, Status.SUSPECT) and claim.address != own.address:
            return Reaction.ASK
        if claim.status is Status.ALIVE and claim.incarnation == own.incarnation and same_process(claim, own):
            return Reaction.NOTHING
        self.refute(claim)
        return Reaction.REFUTED

    def refute(self, claim: MemberState) -> None:
        """Go above the claim, which others may make."""
        if claim.status is not Status.ALIVE:
            self._health.worse()
        self._change(incarnation=min(max(self._state.incarnation, claim.incarnation) + 1, MEMBER_NUMBER_MAX))
        self._out.must_save = True
        self._out.report(
            "Refuted a claim about this node",
            warning=claim.status is Status.REMOVED,
            claimed=str(claim.status),
            incarnation=self._state.incarnation,
        )

    def _adopt_joined(self, joined_timestamp: int) -> None:
        earliest = earliest_joined(self._state.joined_timestamp, joined_timestamp)
        if earliest != self._state.joined_timestamp:
            self._change(joined_timestamp=earliest)
            self._out.must_save = True
            self._out.report("Took over an earlier joined timestamp of this node", joined_timestamp=earliest)

    def _change(self, **fields: object) -> None:
        self._state = msgspec.structs.replace(self._state, **fields)
        self._rumours.add(as_rumour(self._state))


def may_claim(incarnation: int, held: int) -> bool:
    """Whether others may say this incarnation of a node of which `held` is known. Beyond what it may have said, there
    must be room left for it to answer."""
    return incarnation <= max(held, INCARNATION_CLAIMED_MAX)


def as_rumour(state: MemberState, accuser: str = "") -> Rumour:
    return Rumour(
        id=state.id,
        address=state.address,
        last_seen=state.last_seen,
        joined_timestamp=state.joined_timestamp,
        status=state.status,
        incarnation=state.incarnation,
        instance_id=state.instance_id,
        accuser=accuser,
    )
