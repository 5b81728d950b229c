"""The cluster as this node sees it: what `GET /api/cluster/status` answers.

`members` are all nodes of the list, this one included, and behind them those that are not in it, or not yet, but that
the floor of the tombstones waits for: their status is `remembered`.
"""

import msgspec

from kvs.cluster.conduct import Conduct
from kvs.cluster.floor import Floor
from kvs.cluster.membership import Membership
from kvs.cluster.merkle import Sum
from kvs.cluster.messages import MemberState, MemberView
from kvs.cluster.peer_clocks import PeerClocks
from kvs.cluster.push import Push
from kvs.cluster.replica import Replica
from kvs.cluster.scrubbing import ScrubView
from kvs.cluster.sync_totals import Compared
from kvs.cluster.time_of import Now

_REMEMBERED = "remembered"


class ComparisonView(msgspec.Struct, frozen=True):
    """The last comparison that this node began with a peer. `at` is Unix ms, `refused` counts records of the peer that
    cannot be taken, `failure` is why it was given up."""

    at: int
    fetched: int
    sent: int
    set_aside: int
    refused: int
    questions: int
    behind: bool
    failure: str | None


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node. Times are Unix ms. What is not known, and what says nothing of this node itself, is None."""

    id: str
    address: str
    status: str
    last_seen: int
    joined_timestamp: int
    root_equal: bool | None = None
    last_equal: int | None = None
    proven: int | None = None
    waiting: int = 0
    refused: int = 0
    cut_off: bool = False
    clock_offset_ms: int | None = None
    last_comparison: ComparisonView | None = None


class ScrubStatus(msgspec.Struct, frozen=True):
    """How the Merkle tree was compared with the records since the start; `last_pass` is Unix ms."""

    records: int
    drifted: int
    corrupt: int
    passes: int
    last_pass: int | None


class CloneStatus(msgspec.Struct, frozen=True):
    """Another node with this one's id was found alive: when last, Unix ms, and what is known of it."""

    at: int
    detail: str


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer. `phase` is `filling`, `rejoining` or `settled`; `isolated`: no other node is up, though this
    one has seeds or knows others."""

    node_id: str
    mode: str
    phase: str
    isolated: bool
    root: str
    records: int
    gc_floor: int
    proven: int
    clock_offset_ms: int | None
    comparing_with: str | None
    scrub: ScrubStatus
    clone: CloneStatus | None
    members: list[MemberStatus]


class View:
    """Looks at the cores. It changes nothing."""

    def __init__(self, membership: Membership, replica: Replica, push: Push, floor: Floor, conduct: Conduct) -> None:
        self._membership = membership
        self._replica = replica
        self._push = push
        self._floor = floor
        self._conduct = conduct

    def of(
        self,
        *,
        mode: str,
        root: Sum,
        clocks: PeerClocks,
        has_seeds: bool,
        scrub: ScrubView,
        clone: tuple[int, str] | None,
        now: Now,
    ) -> ClusterView:
        mine = self._membership.me(now).id
        listed, remembered = self._membership.members(now), self._membership.remembered()
        ids = {member.id for member in listed}
        members = [self._member(member, member.status, clocks, now, is_this=member.id == mine) for member in listed]
        unlisted = sorted((state for state in remembered if state.id not in ids), key=lambda state: state.id)
        members += [self._member(state, _REMEMBERED, clocks, now, is_this=False) for state in unlisted]
        return ClusterView(
            node_id=mine,
            mode=mode,
            phase=self._replica.mode,
            isolated=not self._membership.peers() and (has_seeds or bool(remembered)),
            root=root.fingerprint.hex(),
            records=root.size,
            gc_floor=self._floor.floor_ms,
            proven=self._floor.proven_ms(now.unix_ms),
            clock_offset_ms=clocks.median_ms(now),
            comparing_with=self._replica.comparing_with,
            scrub=ScrubStatus(*scrub[:-1], scrub.last_pass or None),
            clone=None if clone is None else CloneStatus(*clone),
            members=members,
        )

    def _member(
        self, member: MemberView | MemberState, status: str, clocks: PeerClocks, now: Now, *, is_this: bool
    ) -> MemberStatus:
        node_id = member.id
        shown = MemberStatus(
            id=node_id,
            address=member.address,
            status=status,
            last_seen=member.last_seen,
            joined_timestamp=member.joined_timestamp,
        )
        if is_this:
            return shown
        return msgspec.structs.replace(
            shown,
            root_equal=self._replica.is_equal(node_id),
            last_equal=self._floor.last_equal_ms(node_id),
            proven=self._floor.told_by(node_id),
            waiting=self._push.waiting(node_id),
            refused=self._conduct.refused(node_id),
            cut_off=self._conduct.is_cut_off(node_id, now.mono_ms),
            clock_offset_ms=clocks.offset_ms(node_id, now),
            last_comparison=_comparison(self._replica.last_comparison(node_id)),
        )


def _comparison(compared: Compared | None) -> ComparisonView | None:
    if compared is None:
        return None
    return ComparisonView(*compared[:-1], compared.failure or None)
