"""Up to which moment all nodes are proven to hold the same: below it tombstones are not needed any more.

Each node knows for every other one up to when the two were seen to be equal: a ping that showed equal roots, the start
of a comparison that moved everything, or the timestamp of what it kept back, if that is earlier. Its own proof is the
earliest of these; it goes out with every ping, once it is on the disk: a node must not come back knowing less than
others rely on. The floor is the earliest proof of all nodes that were not removed, dead ones included, and never falls.
Whoever hears of a higher floor takes it over.

So a record older than the floor is on every node: its writer was equal to each other node after it had been written.
MARGIN_MS is taken off every proof for clocks that differ.

A node that never had another beside it has no floor and tells nobody of one, or an empty node would make those outdated
that have everything. It sweeps by its own clock; but if it has seeds, then not at all before it has met somebody: what
it deleted may be there in an older version.

Of a clock that is wrong nothing is believed: neither a floor nor a proof from the future, and what this node itself has
proven while its clock was ahead is forgotten once that is mended.

A node that comes back whose own proof is below the others' floor may hold what was deleted and forgotten: see
`is_outdated`. So may one that was restored from a backup. It starts without proofs, and knows one thing: up to which
moment the backed-up node knew of every deletion, `as_of`. That is no proof towards others, and while nobody else is
there it moves nothing. Two halves of a cluster that were cut off from each other for so long that each has forgotten
the other are both as good: see `apart`, and for what they exchanged after their last proof `absences`.

Proofs are of what two nodes held. When a peer's data directory is another one, those about it are forgotten; when this
node is about to set records aside, all are. What remains is when this node was `last` equal to anybody, or when peers
began to fill it: from then on it holds what may be deleted while it is away.

    n floor   JSON {"floor": Unix ms, "equal": {node id: Unix ms}, "instances": {node id: instance id},
                    "last": Unix ms or null, "as_of": Unix ms, "had_peers": bool, "away": {node id: Unix ms}}
"""

from collections.abc import Iterable, Mapping
from itertools import repeat
from types import MappingProxyType

import msgspec

from kvs.cluster.superseded import Absences
from kvs.errors import StoreCorrupt
from kvs.limits import FLOOR_SAVE_STEP_MS, LAST_PROOF_SAVE_STEP_MS

NO_INSTANCES: Mapping[str, str] = MappingProxyType({})


class Stored(msgspec.Struct, frozen=True):
    """What a node must know of it after a restart. `equal` tells up to when this node was equal to each other one,
    `instances` which data directories those had, `last` the latest proof, that of forgotten ones included, or when
    peers began to fill it (None: neither ever was). `as_of` is 0 for a node that was not restored; `had_peers` says
    whether the backed-up node knew others. `away` tells since when nodes are."""

    floor: int = 0
    equal: Mapping[str, int] = {}
    as_of: int = 0
    had_peers: bool = False
    instances: Mapping[str, str] = {}
    last: int | None = None
    away: Mapping[str, int] = {}


def encode(stored: Stored) -> bytes:
    return msgspec.json.encode(stored)


def decode(raw: bytes | None) -> Stored:
    """Raises StoreCorrupt."""
    try:
        return Stored() if raw is None else msgspec.json.decode(raw, type=Stored)
    except msgspec.DecodeError:
        raise StoreCorrupt("the floor of the tombstones is unreadable") from None


class Floor:
    """All times are Unix ms."""

    def __init__(
        self,
        stored: Stored,
        margin_ms: int,
        *,
        retention_ms: int = 0,
        has_seeds: bool = False,
        born_ms: int = 0,
    ) -> None:
        """`retention_ms`: younger tombstones are dropped by nobody, whatever the floor. `born_ms`: when the data
        directory was made."""
        self._margin_ms = margin_ms
        self._retention_ms = retention_ms
        self._has_seeds = has_seeds
        self._own_from_ms = 0 if stored.as_of else max(0, born_ms - margin_ms)
        """What is older came from others, who keep to the same rules; of a backup nobody knows where it came from."""
        self._equal = dict(stored.equal)
        self._instances = dict(stored.instances)
        self._last_ms = max(stored.equal.values(), default=None) if stored.last is None else stored.last
        self._as_of_ms = stored.as_of
        self._had_peers = stored.had_peers
        self._proofs: dict[str, int] = {}
        self._members: set[str] = set()
        self._away = dict(stored.away)
        self._saved = stored
        self.announced_ms = 0
        """The proof that others may be told."""
        self.floor_ms = stored.floor

    def members(self, others: Iterable[str], instances: Mapping[str, str] = NO_INSTANCES) -> None:
        """All other nodes that count, dead ones too; and the instance ids of those that are known."""
        self._members = set(others)
        for peer, instance in instances.items():
            self._is(peer, instance)

    def member(self, peer: str, instance: str) -> None:
        """This node counts too. Its instance id, or "" where that is not known."""
        self._members.add(peer)
        if instance:
            self._is(peer, instance)

    def _is(self, peer: str, instance: str) -> None:
        if self._instances.get(peer, instance) != instance:
            self._equal.pop(peer, None)
            self._proofs.pop(peer, None)
        self._instances[peer] = instance

    def begin(self, now_ms: int) -> None:
        """This node starts. Whoever was there when it stopped was so until now, as far as it knows."""
        self._away = {peer: self._away.get(peer, now_ms) for peer in self._equal}

    def is_back(self, peer: str) -> bool:
        """The peer is up. Whether that has to be stored: the next absence must not count from this one's begin, or what
        the two exchange in between would be forgotten with a restart."""
        self._away.pop(peer, None)
        return peer in self._saved.away

    def is_lost(self, peer: str, now_ms: int) -> None:
        """The peer is not up any more."""
        self._away.setdefault(peer, now_ms)

    def equal(self, peer: str, at_ms: int) -> None:
        """This node and the peer held the same, as of this moment."""
        proven_ms = max(self._equal.get(peer, 0), at_ms - self._margin_ms)
        self._equal[peer] = proven_ms
        self._last_ms = max(self._last_ms or 0, proven_ms)

    def compared(self, at_ms: int) -> None:
        """As of this moment this node had nothing of before that a peer lacked; but not all that the peer had could be
        taken, so that the two are not equal. Its absence is over; a deletion may be among what it did not take."""
        self._last_ms = max(self._last_ms or 0, at_ms - self._margin_ms)

    def filled(self, since_ms: int) -> bool:
        """Peers fill this node, since this moment: should it be away before it is equal to anybody, what it got may be
        deleted meanwhile. Whether that has to be stored, before what it got is."""
        if self._saved.last is not None:
            return False
        self.compared(since_ms)
        return True

    def doubt(self) -> None:
        """This node will set records aside. That it lacks one is no sign any more that it was deleted here, and what it
        held at a time is not what it holds."""
        self._equal.clear()

    def heard(self, peer: str, proven_ms: int, floor_ms: int, now_ms: int) -> None:
        """What a peer says: its own proof, and its floor."""
        self._proofs[peer] = proven_ms if proven_ms <= now_ms else 0
        if floor_ms <= now_ms:
            self.floor_ms = max(self.floor_ms, floor_ms)

    @property
    def is_shared(self) -> bool:
        """Whether another node counts, or did."""
        return bool(self._members) or self._last_ms is not None

    @property
    def collected_below_ms(self) -> int | None:
        """Tombstones below this may go here: the floor that is on the disk, so that nobody forgets which went; but none
        of this node's own that another one has not seen, whatever the floor of those is that did without this node.

        None while there is no other node to wait for. A restored node waits for the others of before, though it does
        not know them yet.
        """
        if not (self.had_peers or self._has_seeds):
            return None
        if not self._members:
            return self._saved.floor
        return min(self._saved.floor, *map(self._equal.get, self._members, repeat(self._own_from_ms)))

    @property
    def had_peers(self) -> bool:
        """Whether another node counts, or did, here or where this node's data were backed up."""
        return self.is_shared or self._had_peers

    @property
    def has_past(self) -> bool:
        """Whether this node holds what it held beside others before: it was equal to one, filled, or restored."""
        return self._last_ms is not None or bool(self._as_of_ms)

    @property
    def is_unproven(self) -> bool:
        """Whether this node was restored, should have others beside it, and has not been equal to any since."""
        return bool(self._as_of_ms) and self._last_ms is None and (self._had_peers or self._has_seeds)

    def as_of_ms(self, now_ms: int) -> int:
        """Up to when this node is proven to know of every deletion: a backup says so of what is in it."""
        if self.has_past:
            return max(self._last_ms or 0, self._as_of_ms)
        return now_ms - self._margin_ms

    def proven_ms(self, now_ms: int) -> int:
        """This node's own proof."""
        return min((self._equal.get(peer, 0) for peer in self._members), default=now_ms - self._margin_ms)

    def raise_(self, now_ms: int) -> bool:
        """Move the floor up as far as all proofs allow; whether it or the proof has gone far enough to be stored."""
        if not self.is_shared:
            return False
        self._forget_future(now_ms)
        proofs = [self._proofs.get(peer, 0) for peer in self._members]
        proven_ms = self.proven_ms(now_ms)
        self.floor_ms = max(self.floor_ms, min([proven_ms, *proofs]))
        return (
            self.floor_ms >= self._saved.floor + FLOOR_SAVE_STEP_MS
            or proven_ms >= self.announced_ms + FLOOR_SAVE_STEP_MS
            or (self._last_ms or 0) >= (self._saved.last or 0) + LAST_PROOF_SAVE_STEP_MS
        )

    def _forget_future(self, now_ms: int) -> None:
        """This node's clock was ahead."""
        if any(proven_ms > now_ms for proven_ms in self._equal.values()):
            self._equal = {peer: proven_ms if proven_ms <= now_ms else 0 for peer, proven_ms in self._equal.items()}
        if self._last_ms is not None and self._last_ms > now_ms:
            self._last_ms = max(self._equal.values(), default=0)
        self._away = {peer: min(away_ms, now_ms) for peer, away_ms in self._away.items()}
        if self.announced_ms > now_ms:
            self.announced_ms = 0
        if self.floor_ms > now_ms:
            self.floor_ms = 0
        if self._own_from_ms > now_ms:
            self._own_from_ms = 0
        if self._saved.floor > now_ms:
            self._saved = Stored()

    def saved(self, stored: Stored, now_ms: int) -> None:
        """This is on the disk."""
        self._saved = stored
        self.announced_ms = min((stored.equal.get(peer, 0) for peer in self._members), default=self.proven_ms(now_ms))

    def apart(self, now_ms: int) -> Mapping[str, int]:
        """The nodes that were away while tombstones went here which they never saw, and up to when each was equal to
        this node, 0 for never. What one of them holds that it wrote before, or that another one wrote which is not
        among them, and that is not here any more, was deleted here."""
        dropped_ms = min(self._saved.floor, now_ms - self._retention_ms)
        if dropped_ms <= 0:
            return {}
        proofs = {**dict.fromkeys(self._members, 0), **self._equal}
        return {peer: proven_ms for peer, proven_ms in proofs.items() if proven_ms < dropped_ms}

    def absences(self) -> Absences:
        """Which versions peers may have got from this node, or given to it, that `apart` does not tell of: they came
        after the last proof."""
        lost = {peer: away_ms + self._margin_ms for peer, away_ms in self._away.items() if peer in self._equal}
        back = [proven_ms for peer, proven_ms in self._equal.items() if peer not in lost]
        spans = tuple((self._equal[peer], until_ms) for peer, until_ms in lost.items() if self._equal[peer] <= until_ms)
        return Absences(spans, min(back, default=None))

    def last_equal_ms(self, peer: str) -> int | None:
        """The last moment as of which this node and the peer were seen to hold the same; None for never."""
        proven_ms = self._equal.get(peer)
        return None if proven_ms is None else proven_ms + self._margin_ms

    def told_by(self, peer: str) -> int | None:
        """The peer's own proof; None while it told none since the start."""
        return self._proofs.get(peer)

    def is_outdated(self, floor_ms: int, now_ms: int) -> bool:
        """Whether this node may hold records that were deleted, and forgotten, while it was away: it was last equal to
        anybody before `floor_ms`, a peer's floor, and so long ago that tombstones from then may be gone. A floor alone
        proves no absence: nodes that lost their disks and met each other have one, and know nothing of this node. Of
        two that were away from each other for too long the one with the higher floor is not outdated, or each would
        wait for the other."""
        if floor_ms > now_ms or not self.has_past:
            return False
        return self.as_of_ms(now_ms) < min(floor_ms, now_ms - self._retention_ms) and self.floor_ms < floor_ms

    def stored(self) -> Stored:
        counted = self._members | self._equal.keys()
        instances = {peer: instance for peer, instance in self._instances.items() if peer in counted}
        away = {peer: away_ms for peer, away_ms in self._away.items() if peer in self._equal}
        return Stored(self.floor_ms, dict(self._equal), self._as_of_ms, self._had_peers, instances, self._last_ms, away)
