"""What is known of other nodes, and how two states of one node become one.

States of one node are ordered by (incarnation, status), alive < suspect < dead < left < removed, and the greater wins:

    equal incarnation     the worse status wins, so that an accusation is heard everywhere
    greater incarnation   wins whatever the status: only the node itself raises it, so it has refuted or come back

Beside the order: the earliest joined timestamp that is known wins, the latest `last_seen` wins, a known instance id
wins over an unknown one. Each of these is a maximum or a minimum, so merging is commutative, associative and
idempotent, and nodes agree whatever they hear in which order (SWIM, Das et al. 2002, section 4.2).

Two instances of one id, that is another data directory under the same name, are not merged: which of them has the id is
found out by asking (kvs.cluster.contests), and the winner *replaces* the other with its own joined timestamp.

An entry of the table is in one of these conditions:

    up            listed, alive or suspect
    down          listed, dead or left; after `member_timeout` it leaves the list and is remembered
    unconfirmed   not listed, alive: read from the disk at the start, listed once it answers
    remembered    not listed, dead or left: counts for the tombstone floor and is tried again, until it was silent for
                  the tombstone retention or an operator removes it
    removed       not listed: a tombstone that keeps old rumours from bringing the node back
"""

from collections.abc import Iterable, Iterator

import msgspec

from kvs.cluster.messages import MemberState, Status
from kvs.cluster.time_of import Now
from kvs.limits import MEMBERS_MAX, REMEMBER_MIN_MS

RANK = {Status.ALIVE: 0, Status.SUSPECT: 1, Status.DEAD: 2, Status.LEFT: 3, Status.REMOVED: 4}
UP = (Status.ALIVE, Status.SUSPECT)
DOWN = (Status.DEAD, Status.LEFT)

_UNKNOWN_JOINED = 0


def rank(state: MemberState) -> tuple[int, int]:
    """Sorts states of one node: the greater wins."""
    return state.incarnation, RANK[state.status]


def merge(a: MemberState, b: MemberState) -> MemberState:
    """What both together say about one node."""
    # The address only decides between clones, which have no right order: any fixed one will do.
    winner = max(a, b, key=lambda state: (rank(state), state.address))
    merged = (
        earliest_joined(a.joined_timestamp, b.joined_timestamp),
        max(a.last_seen, b.last_seen),
        max(a.instance_id, b.instance_id),
    )
    if merged == (winner.joined_timestamp, winner.last_seen, winner.instance_id):
        return winner
    joined_timestamp, last_seen, instance_id = merged
    return msgspec.structs.replace(
        winner, joined_timestamp=joined_timestamp, last_seen=last_seen, instance_id=instance_id
    )


def earliest_joined(a: int, b: int) -> int:
    """The earlier joined timestamp; unknown counts as latest, as in the order of versions."""
    return min(a, b) if _UNKNOWN_JOINED not in (a, b) else max(a, b)


def same_instance(a: MemberState, b: MemberState) -> bool:
    """Whether both may speak of one data directory."""
    return a.instance_id == b.instance_id or not a.instance_id or not b.instance_id


def same_process(a: MemberState, b: MemberState) -> bool:
    """Whether both may speak of one running node: one data directory at one address."""
    return a.address == b.address and same_instance(a, b)


class Entry:
    """A node in the table. Mutable; only the table and the roster change it. Times of `Now.mono_ms`.

    `since_ms` is when its condition became what it is, `heard_ms` when it was last heard itself, None if never.
    """

    __slots__ = ("heard_ms", "listed", "since_ms", "state")

    def __init__(self, state: MemberState, *, listed: bool, since_ms: int) -> None:
        self.state = state
        self.listed = listed
        self.since_ms = since_ms
        self.heard_ms: int | None = None

    @property
    def is_up(self) -> bool:
        return self.listed and self.state.status in UP

    @property
    def is_down(self) -> bool:
        return self.listed and self.state.status in DOWN

    @property
    def is_unconfirmed(self) -> bool:
        return not self.listed and self.state.status in UP

    @property
    def is_removed(self) -> bool:
        return self.state.status is Status.REMOVED


class Table:
    """All known nodes but this one, at most MEMBERS_MAX - 1."""

    def __init__(self, stored: Iterable[MemberState], retention_ms: int, now: Now) -> None:
        """`stored`: what was known before a restart. Nobody is listed before it answers."""
        self._retention_ms = retention_ms
        self._entries: dict[str, Entry] = {}
        self._up: dict[str, Entry] = {}
        self._down: dict[str, int] = {}
        for state in stored:
            if state.status in UP:
                state = msgspec.structs.replace(state, status=Status.ALIVE)
            self._entries[state.id] = Entry(state, listed=False, since_ms=now.mono_ms)

    def get(self, node_id: str) -> Entry | None:
        return self._entries.get(node_id)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def up(self) -> list[Entry]:
        return list(self._up.values())

    @property
    def up_count(self) -> int:
        return len(self._up)

    def put(self, state: MemberState, now: Now, *, listed: bool) -> Entry | None:
        """Add a node or give it a new state; None when there is no room for another. `since_ms` starts anew when its
        condition changes."""
        entry = self._entries.get(state.id)
        if entry is None:
            if not self._make_room():
                return None
            entry = self._entries[state.id] = Entry(state, listed=listed, since_ms=now.mono_ms)
        else:
            if (entry.listed, entry.state.status) != (listed, state.status):
                entry.since_ms = now.mono_ms
            entry.state, entry.listed = state, listed
        self._up.pop(state.id, None)
        self._down.pop(state.id, None)
        if entry.is_up:
            self._up[state.id] = entry
        elif entry.is_down:
            self._down[state.id] = entry.since_ms
        return entry

    def _make_room(self) -> bool:
        """The oldest removed node is forgotten for a new one; nobody else is."""
        if len(self._entries) < MEMBERS_MAX - 1:
            return True
        removed = [entry for entry in self if entry.is_removed]
        if not removed:
            return False
        oldest = min(removed, key=lambda entry: entry.state.last_seen)
        del self._entries[oldest.state.id]
        return True

    # --- leaving the list and the memory ---

    def first_down_ms(self) -> int | None:
        """When the node that is down for longest went down."""
        return min(self._down.values(), default=None)

    def down_since(self, limit_ms: int) -> list[Entry]:
        """Those that went down at `limit_ms` or before."""
        return [self._entries[node_id] for node_id, since_ms in self._down.items() if since_ms <= limit_ms]

    def forget(self, now: Now) -> list[str]:
        """Drop who was silent for the retention; their ids.

        Not for long after a start: if all nodes of a cluster were off for months, they still know each other."""
        tried_ms = min(self._retention_ms, REMEMBER_MIN_MS)
        gone = [
            node_id
            for node_id, entry in self._entries.items()
            if not entry.listed
            and now.unix_ms - entry.state.last_seen > self._retention_ms
            and now.mono_ms - entry.since_ms > tried_ms
        ]
        for node_id in gone:
            del self._entries[node_id]
        return gone

    def is_memorable(self, state: MemberState, now: Now) -> bool:
        """Whether a node that others call gone is worth remembering, and telling others.

        Half of the retention and not all of it: whoever forgets a node must not hear of it again from somebody who
        learnt of it later, or the nodes remind each other for ever."""
        return now.unix_ms - state.last_seen <= self._retention_ms // 2
