"""What becomes of what is said about other nodes.

A node's own word (its ping, its answer, its join, its place in its own list), with `same` as in kvs.cluster.members:

    known as                own word                      then
    nothing                 any                           listed, if there is room
    same, up                equal incarnation             heard: it lives, and what is held against it is told to it
    same, any               higher incarnation            listed as alive
    unconfirmed, same       equal incarnation             listed as alive
    removed                 higher incarnation            listed as alive
    another process         higher incarnation            contested: who has the id is found out by asking
                            any other                     strange: told what is held
    same, any               lower incarnation             stale: the same

A rumour, that is one member's word about another:

    known as                rumour                        then
    nothing, not listed     alive, suspect, and news      checked: listed only once it answers a ping itself
    nothing                 dead, left, not too old       remembered, never listed
    nothing                 removed                       kept as a tombstone
    listed, same            greater in the order          taken, and told on
    listed, same            suspect, equal                one more accuser, told on when it shortens the wait
    another process         alive, suspect, higher        checked
    another process         gone, higher                  taken; but a death, while the one that is held is up, is left
                                                          to this node's own probes
    any                     not greater                   its joined timestamp and `last_seen` are merged
    any                     above all that may be claimed checked, if it is to be alive; else nothing

A death is taken as an accusation only, where it stands in a whole list, or where the node was not even suspected here.
After a partition the lists and rumours of both halves are full of deaths, and each of the buried must be able to refute
first (hashicorp/memberlist does so with lists, mergeState).
"""

from enum import Enum
from typing import Any

import msgspec

from kvs.cluster.address import host_of, is_address, is_loopback
from kvs.cluster.gossip import Rumours
from kvs.cluster.members import UP, Entry, Table, earliest_joined, merge, rank, same_instance, same_process
from kvs.cluster.membership_events import MemberDown, MemberGone, MemberUp
from kvs.cluster.messages import MemberState, Rumour, Status
from kvs.cluster.myself import Myself, as_rumour, may_claim
from kvs.cluster.outbox import Outbox
from kvs.cluster.suspicion import Suspicions
from kvs.cluster.time_of import Now
from kvs.errors import BadRequest, Unavailable


class Word(Enum):
    """What a node's own word came to. Who is contested or strange is another process than the one that is held, and is
    answered, but not listened to."""

    TAKEN = "taken"
    STALE = "stale"
    CONTESTED = "contested"
    STRANGE = "strange"


class Roster:
    """Changes the table, and sees to what follows: rumours, suspicions, effects."""

    def __init__(self, myself: Myself, table: Table, rumours: Rumours, suspicions: Suspicions, out: Outbox) -> None:
        self.myself = myself
        self.table = table
        self._rumours = rumours
        self._suspicions = suspicions
        self._out = out

    # --- telling ---

    @property
    def count(self) -> int:
        """Nodes that are not down, this one included."""
        return self.table.up_count + 1

    def complaint(self, node_id: str, said: MemberState | None = None) -> MemberState | None:
        """What is held of a node, where that is not simply that it lives (and is as it `said`)."""
        entry = self.table.get(node_id)
        if entry is None:
            return None
        held = entry.state
        if held.status is not Status.ALIVE:
            return held
        if said is None:
            return None
        differs = held.incarnation == said.incarnation and not same_process(held, said)
        return held if differs or held.incarnation > said.incarnation else None

    def all_known(self, now: Now) -> tuple[MemberState, ...]:
        """The list for a peer: what may be told, this node included."""
        return (
            self.myself.state(now),
            *(
                entry.state
                for entry in self.table
                if entry.listed or (entry.state.status not in UP and self.table.is_memorable(entry.state, now))
            ),
        )

    # --- hearing a node itself ---

    def own_word(self, state: MemberState, now: Now, *, from_afar: bool) -> Word:
        """A node speaks of itself. Raises BadRequest when it cannot be reached where it says, Unavailable when there is
        no room for it. `from_afar`: it does not speak from this host."""
        check_address(state.address, from_afar=from_afar)
        status = Status.LEFT if state.status is Status.LEFT else Status.ALIVE
        state = msgspec.structs.replace(state, last_seen=max(0, now.unix_ms), status=status)
        entry = self.table.get(state.id)
        if entry is None:
            if status is Status.ALIVE:
                self._list_newcomer(state, now)
            return Word.TAKEN
        held = entry.state
        if entry.is_removed:
            if state.incarnation <= held.incarnation:
                return Word.STALE
            self._take(entry, state, now, listed=True)
        elif not same_process(held, state):
            return Word.CONTESTED if state.incarnation > held.incarnation else Word.STRANGE
        elif state.incarnation < held.incarnation:
            return Word.STALE
        elif state.incarnation > held.incarnation or entry.is_unconfirmed or status is Status.LEFT:
            self._take(entry, state, now, listed=entry.listed or status is Status.ALIVE)
        else:
            self._merge_quietly(entry, state)
        entry.heard_ms = now.mono_ms
        self._suspicions.heard(state.id, now.mono_ms)
        return Word.TAKEN

    def replace(self, state: MemberState, now: Now) -> None:
        """The contest for an id was won by this node: what was known of it may be another's past."""
        entry = self.table.get(state.id)
        if entry is None or state.incarnation <= entry.state.incarnation:
            return
        state = msgspec.structs.replace(state, last_seen=max(0, now.unix_ms), status=Status.ALIVE)
        if not same_instance(entry.state, state):
            if entry.is_up:
                self._out.add(MemberDown(entry.state))
            if entry.listed:
                self._out.add(MemberGone(state.id))
            self._out.report("Member was replaced", member=state.id, address=state.address)
            self.table.put(state, now, listed=False)
        self._take(entry, state, now, listed=True)
        entry.heard_ms = now.mono_ms

    def _list_newcomer(self, state: MemberState, now: Now) -> None:
        entry = self.table.put(state, now, listed=False)
        if entry is None:
            raise Unavailable("this node knows as many members as it can", code="member_limit", retry_after_s=60)
        entry.heard_ms = now.mono_ms
        self._take(entry, state, now, listed=True)

    # --- hearing of a node ---

    def rumour(self, rumour: Rumour, now: Now, *, from_afar: bool, in_list: bool = False) -> bool:
        """One node speaks of another. Whether that one should be checked by a ping."""
        if not is_reachable(rumour.address, from_afar=from_afar):
            return False
        # Nobody has been seen in the future; a clock that says so would keep the dead remembered.
        if rumour.last_seen > now.unix_ms:
            rumour = msgspec.structs.replace(rumour, last_seen=max(0, now.unix_ms))
        entry = self.table.get(rumour.id)
        if not may_claim(rumour.incarnation, 0 if entry is None else entry.state.incarnation):
            return rumour.status in UP
        if entry is None:
            return self._unknown(rumour, now)
        held = entry.state
        if not same_process(held, rumour):
            if rumour.incarnation <= held.incarnation:
                return False
            if rumour.status in UP:
                return True
            if not (entry.is_up and rumour.status is Status.DEAD):
                self._take(entry, rumour, now, listed=entry.listed, accuser=rumour.accuser)
        elif not entry.listed:
            if rumour.status in UP:
                return rumour.incarnation > held.incarnation or entry.is_unconfirmed
            if rank(rumour) > rank(held):
                self._take(entry, rumour, now, listed=False)
        else:
            self._listed(entry, rumour, now, in_list=in_list)
        self._merge_quietly(entry, rumour)
        return False

    def _unknown(self, rumour: Rumour, now: Now) -> bool:
        if rumour.status in UP:
            return True
        if rumour.status is Status.REMOVED or self.table.is_memorable(rumour, now):
            state = _plain(rumour)
            if self.table.put(state, now, listed=False) is not None:
                self._out.should_save = True
                if rumour.status is Status.REMOVED:
                    self._rumours.add(as_rumour(state))
        return False

    def _listed(self, entry: Entry, rumour: Rumour, now: Now, *, in_list: bool) -> None:
        if rumour.status is Status.DEAD and entry.is_up and (in_list or entry.state.status is Status.ALIVE):
            rumour = msgspec.structs.replace(rumour, status=Status.SUSPECT)
        if rank(rumour) > rank(entry.state):
            self._take(entry, rumour, now, listed=True, accuser=rumour.accuser)
        elif rumour.status is Status.SUSPECT and rank(rumour) == rank(entry.state):
            self._confirm(entry, rumour.accuser)

    # --- judging ---

    def accuse(self, node_id: str, now: Now) -> None:
        """This node found it silent."""
        entry = self.table.get(node_id)
        if entry is None or not entry.is_up:
            return
        if entry.state.status is Status.SUSPECT:
            self._confirm(entry, self.myself.id)
        else:
            suspect = msgspec.structs.replace(entry.state, status=Status.SUSPECT)
            self._take(entry, suspect, now, listed=True, accuser=self.myself.id)

    def bury(self, now: Now) -> None:
        """Those that did not defend themselves in time are dead."""
        for node_id in self._suspicions.ended(now.mono_ms):
            self._suspicions.clear(node_id)
            entry = self.table.get(node_id)
            if entry is not None and entry.is_up:
                dead = msgspec.structs.replace(entry.state, status=Status.DEAD)
                self._take(entry, dead, now, listed=True, accuser=self.myself.id)

    def unlist(self, entry: Entry, now: Now) -> None:
        """It was down for long enough."""
        self._take(entry, entry.state, now, listed=False)

    def left(self, node_id: str, incarnation: int, now: Now) -> None:
        """It says that it goes, or somebody says so for it."""
        entry = self.table.get(node_id)
        if entry is not None and not entry.is_removed:
            held = entry.state.incarnation
            incarnation = max(incarnation, held) if may_claim(incarnation, held) else held
            state = msgspec.structs.replace(entry.state, status=Status.LEFT, incarnation=incarnation)
            self._take(entry, state, now, listed=entry.listed)

    def remove(self, node_id: str, now: Now) -> bool:
        """An operator says that it will not come back. Whether it was known."""
        entry = self.table.get(node_id)
        if entry is None:
            return False
        # From now on, so that the tombstone outlives what others remember of the node.
        state = msgspec.structs.replace(entry.state, status=Status.REMOVED, last_seen=max(0, now.unix_ms))
        self._take(entry, state, now, listed=False)
        self._out.must_save = True
        return True

    def _confirm(self, entry: Entry, accuser: str) -> None:
        if self._suspicions.confirm(entry.state.id, accuser):
            self._rumours.add(as_rumour(entry.state, accuser))

    # --- changing ---

    def _take(self, entry: Entry, new: MemberState, now: Now, *, listed: bool, accuser: str = "") -> None:
        """Merge a new state into an entry of the table and do what follows from the change."""
        old, was_listed, was_up = entry.state, entry.listed, entry.is_up
        state = _plain(merge(old, new) if same_instance(old, new) else new)
        self.table.put(state, now, listed=listed and state.status is not Status.REMOVED)
        if rank(state) != rank(old) or state.address != old.address or entry.listed > was_listed:
            self._rumours.add(as_rumour(state, accuser))
        if not entry.is_up or state.status is Status.ALIVE:
            self._suspicions.clear(state.id)
        elif rank(state) != rank(old):
            self._suspicions.start(state.id, accuser, self.count, now.mono_ms)
        if entry.is_up and (not was_up or state.address != old.address):
            self._out.add(MemberUp(state))
        if was_up and not entry.is_up:
            self._out.add(MemberDown(state))
        if was_listed and not entry.listed:
            self._out.add(MemberGone(state.id))
        if _outlasts(old, was_listed) != _outlasts(state, entry.listed):
            self._out.should_save = True
        if (old.status, was_listed) != (state.status, entry.listed):
            self._report(state, accuser, listed=entry.listed, was_up=was_up)

    def _merge_quietly(self, entry: Entry, state: MemberState) -> None:
        """What does not change how the node is rated is no news, but kept."""
        held = entry.state
        lasting = earliest_joined(held.joined_timestamp, state.joined_timestamp), held.instance_id or state.instance_id
        is_lasting = lasting != (held.joined_timestamp, held.instance_id)
        if (is_lasting or state.last_seen > held.last_seen) and same_process(held, state):
            last_seen = max(held.last_seen, state.last_seen)
            entry.state = msgspec.structs.replace(
                held, joined_timestamp=lasting[0], instance_id=lasting[1], last_seen=last_seen
            )
            self._out.should_save |= is_lasting

    def _report(self, state: MemberState, accuser: str, *, listed: bool, was_up: bool) -> None:
        known: dict[str, Any] = {"member": state.id, "address": state.address, "incarnation": state.incarnation}
        if not listed and state.status is not Status.REMOVED:
            self._out.report("Member left the list", **known, status=str(state.status))
        elif state.status is Status.ALIVE:
            self._out.report("Member refuted a suspicion" if was_up else "Member is up", **known)
        elif state.status is Status.SUSPECT:
            self._out.report("Member is suspected", **known, accuser=accuser)
        elif state.status is Status.DEAD:
            self._out.report("Member is dead", warning=True, **known, accuser=accuser)
        else:
            self._out.report("Member left" if state.status is Status.LEFT else "Member was removed", **known)


def is_reachable(address: str, *, from_afar: bool) -> bool:
    """Whether an address may be believed. One on loopback, told from another host, would lead to this one."""
    return is_address(address) and not (from_afar and is_loopback(host_of(address)))


def check_address(address: str, *, from_afar: bool) -> None:
    """Raises BadRequest."""
    if not is_reachable(address, from_afar=from_afar):
        raise BadRequest("a member's address is host:port, and reachable from this node", code="invalid_address")


def _plain(state: MemberState) -> MemberState:
    """Without what only a rumour has."""
    if type(state) is MemberState:
        return state
    fields = {name: getattr(state, name) for name in MemberState.__struct_fields__}
    return MemberState(**fields)


def _outlasts(state: MemberState, listed: bool) -> tuple[object, ...]:
    """The parts of a state whose change is saved soon. Incarnations of others are not among them: an old one on the
    disk costs a check after the next start, a save for each refutation would cost an fsync."""
    removed = state.incarnation if state.status is Status.REMOVED else 0
    down = state.status not in UP
    return state.address, state.instance_id, state.joined_timestamp, listed, down, removed
