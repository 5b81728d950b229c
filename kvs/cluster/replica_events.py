"""What the replica is told (events) and what it wants done (effects)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kvs.cluster.bootstrap import Filled
from kvs.cluster.copies import Reached
from kvs.cluster.events import Change, Merge, Outcome, Remember, Report
from kvs.cluster.exchange import DiffRequest, RecentAnswer, RecentRequest
from kvs.cluster.floor import NO_INSTANCES
from kvs.cluster.sync import Answer, Request
from kvs.limits import COMPARE_TIMEOUT_S, DIFF_TIMEOUT_S, PUSH_TIMEOUT_S
from kvs.storage.record import Record


class PeerUp(NamedTuple):
    """Event: a member lives. Its instance id, if that is known."""

    peer: str
    instance: str = ""


class PeerDown(NamedTuple):
    """Event: a member is dead, has left, or is forgotten."""

    peer: str


class Known(NamedTuple):
    """Event: these are all other nodes that were not removed, dead ones too; and the instance ids of those that are
    known."""

    peers: Sequence[str]
    instances: Mapping[str, str] = NO_INSTANCES


class Written(NamedTuple):
    """Event: these records are on this node's disk."""

    changes: Sequence[Change]


class Awaited(NamedTuple):
    """Event: somebody waits until so many peers hold this record, which was just written here; `Reached` with this
    ticket says so."""

    ticket: int
    entry: bytes
    record: Record
    peers: int


class Answered(NamedTuple):
    """Event: the answer to a call."""

    call: int
    answer: Answer | RecentAnswer


class Failed(NamedTuple):
    """Event: a call that got no answer, or a refusal."""

    call: int
    reason: str


class Submitted(NamedTuple):
    """Event: what became of the commands of a Submit, once they were on the disk."""

    ticket: int
    outcomes: Sequence[Outcome]


class DigestSeen(NamedTuple):
    """Event: what a peer said of its data: its Merkle root in hex, its own proof and its floor in Unix ms, and whether
    it is settled."""

    peer: str
    root: str
    proven_ms: int
    floor_ms: int
    is_settled: bool = True


class Tick(NamedTuple):
    """Event: time has passed."""


Event = PeerUp | PeerDown | Known | Written | Awaited | Answered | Failed | Submitted | DigestSeen | Tick


class PeerCall(NamedTuple):
    """Effect: send a request to a peer, `delay_ms` from now, then hand in Answered or Failed with this number. A `push`
    must not wait for what a comparison moves."""

    call: int
    peer: str
    request: Request | RecentRequest
    push: bool = False
    delay_ms: int = 0

    @property
    def timeout_s(self) -> float:
        """How long to wait for the answer."""
        if self.push:
            return PUSH_TIMEOUT_S
        return DIFF_TIMEOUT_S if isinstance(self.request, DiffRequest) else COMPARE_TIMEOUT_S


class Submit(NamedTuple):
    """Effect: hand these commands to the writer, then hand in Submitted with this ticket."""

    ticket: int
    commands: Sequence[Merge | Remember]


class SetAside(NamedTuple):
    """Effect: write these entries to the quarantine file, then take them out of the store, as far as their versions are
    still from before this moment (Unix ms), then hand in Submitted with this ticket, or Failed. The floor, which has
    changed, goes to the disk before the first of them leaves."""

    ticket: int
    entries: list[bytes]
    before_ms: int


class Refused(NamedTuple):
    """Effect: so many records of this peer cannot be taken; `reason` is why the first of them cannot."""

    peer: str
    records: int
    reason: str


class SaveFloor(NamedTuple):
    """Effect: put the floor on the disk."""


Effect = PeerCall | Submit | SetAside | Refused | SaveFloor | Filled | Reached | Report
