"""Bugs that others had, planted here: the checks must find each of them, or they check nothing."""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import pytest

from kvs.cluster import members, roster
from kvs.cluster.gossip import Plans
from kvs.cluster.hearing import Hearing
from kvs.cluster.membership import Membership
from kvs.cluster.membership_events import Effect, Remove, Save
from kvs.cluster.messages import MemberState, Rumour, Status
from kvs.cluster.myself import Myself, Reaction
from kvs.cluster.roster import Roster, Word
from kvs.cluster.suspicion import Suspicions
from kvs.cluster.time_of import Now
from tests.sim.chaos import Chaos, settle
from tests.sim.membership import Link, World

Plant = Callable[[pytest.MonkeyPatch], None]

# --- what is looked at ---


def chaos(seed: int) -> None:
    """All agree again after the chaos; incarnations never go back; nothing is told before it is saved."""
    world = World(seed, Random(seed).choice([3, 4, 5]))
    world.start_all()
    Chaos(world).run(40_000)
    settle(world)


def quiet(seed: int) -> None:
    """Lost messages bury nobody, nor does a node that stalls while it suspects all others."""
    world = World(seed, 4, link=Link(loss=0.08, delay_max_ms=50))
    world.start_all()
    world.run(20_000)
    world.deaths.clear()
    world.run(60_000)
    assert not world.deaths, "buried alive"
    world.groups = {"n000": 1}
    world.run(3_500)
    world.heal()
    world.nodes[0].hold(15_000, tells=False)
    world.run(40_000)
    assert not [death for death in world.deaths if death.by == "n000"], "buried by a sleeper"


def halves(seed: int) -> None:
    """Halves find each other, and nobody is buried by the news of the other half."""
    world = World(seed, 6)
    world.start_all()
    world.run(10_000)
    world.groups = {node.id: number % 2 for number, node in enumerate(world.nodes)}
    world.run(40_000)
    world.heal()
    before = len(world.deaths)
    settle(world)
    assert len(world.deaths) == before, "buried by old news"


def death(seed: int) -> None:
    """The dead are known to be dead by all, leave the list, and do not come back; so do those that were removed."""
    world = World(seed, 5)
    world.settings = world.settings._replace(member_timeout_ms=30_000)
    world.start_all()
    world.run(10_000)
    dead, removed = world.nodes[3], world.nodes[4]
    dead.crash(host_too=True)
    removed.crash(host_too=True)
    world.run(20_000)
    assert {world.view(node).get(dead.id) for node in world.live()} == {"dead"}
    world.nodes[0].event(Remove(removed.id))
    world.run(60_000)
    for node in world.live():
        assert removed.id not in {m.id for m in node.running.remembered()}
    world.nodes[1].crash()
    world.nodes[1].wipe()
    world.nodes[1].start()
    for _ in range(30):
        world.run(10_000)
        for node in world.live():
            assert not {dead.id, removed.id} & set(world.view(node)), "a ghost"


def clones(seed: int) -> None:
    """A clone takes nothing away from who is there."""
    world = World(seed, 4)
    world.start_all()
    world.run(10_000)
    other = type(world.nodes[0])(world, 200)
    other.id, other.instances = world.nodes[3].id, 99
    other.start("10.9.9.9:8080")
    for _ in range(60):
        world.run(1_000)
        for node in world.nodes[:3]:
            assert [m.address for m in node.running.peers() if m.id == other.id] == [world.nodes[3].address]


# --- the bugs ---


def low_incarnation(patch: pytest.MonkeyPatch) -> None:
    """A restarted node takes the clock for its incarnation, whatever it had stored."""
    begin = Myself.__init__

    def init(self: Myself, state: MemberState, stored: Any, *rest: Any) -> None:
        begin(self, state, msgspec.structs.replace(stored, incarnation=0), *rest)

    patch.setattr(Myself, "__init__", init)


def better_wins(patch: pytest.MonkeyPatch) -> None:
    """At equal incarnations the better status wins."""
    for module in (members, roster):
        patch.setattr(module, "rank", lambda state: (state.incarnation, -members.RANK[state.status]))


def ghosts(patch: pytest.MonkeyPatch) -> None:
    """A rumour about an unknown node lists it, dead or alive."""

    def unknown(self: Roster, rumour: Rumour, now: Now) -> bool:
        entry = self.table.put(roster._plain(rumour), now, listed=False)
        if entry is not None:
            self._take(entry, rumour, now, listed=True)
        return False

    patch.setattr(Roster, "_unknown", unknown)


def no_refutation(patch: pytest.MonkeyPatch) -> None:
    """A node that hears that it is suspected does nothing."""
    patch.setattr(Myself, "hear", lambda self, claim: Reaction.NOTHING)


def told_before_saved(patch: pytest.MonkeyPatch) -> None:
    """The Save comes last."""
    effects = Membership._effects

    def late(self: Membership, now: Now) -> list[Effect]:
        return sorted(effects(self, now), key=lambda effect: isinstance(effect, Save))

    patch.setattr(Membership, "_effects", late)


def no_retry(patch: pytest.MonkeyPatch) -> None:
    """The dead and the seeds are not tried again."""
    patch.setattr(Plans, "retry_peers", lambda self, down: [])
    patch.setattr(Plans, "retry_seeds", lambda self, reached: [])


def no_stall(patch: pytest.MonkeyPatch) -> None:
    """A node that stalled judges what ended meanwhile."""
    patch.setattr(Membership, "_notice_lag", lambda self, event, now: None)


def instant_death(patch: pytest.MonkeyPatch) -> None:
    """No time to defend oneself."""
    start = Suspicions.start

    def hasty(self: Suspicions, node_id: str, accuser: str, count: int, now_ms: int) -> None:
        start(self, node_id, accuser, count, now_ms - 60_000)

    patch.setattr(Suspicions, "start", hasty)


def deaths_by_list(patch: pytest.MonkeyPatch) -> None:
    """A death that is told is believed at once."""

    def listed(self: Roster, entry: members.Entry, rumour: Rumour, now: Now, *, in_list: bool) -> None:
        if members.rank(rumour) > members.rank(entry.state):
            self._take(entry, rumour, now, listed=True, accuser=rumour.accuser)

    patch.setattr(Roster, "_listed", listed)


def removed_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """An operator's removal leaves nothing that keeps old rumours out."""

    def remove(self: Roster, node_id: str, now: Now) -> bool:
        entry = self.table.get(node_id)
        if entry is not None:
            self._take(entry, entry.state, now, listed=False)
            del self.table._entries[node_id]
        return entry is not None

    patch.setattr(Roster, "remove", remove)


def first_come(patch: pytest.MonkeyPatch) -> None:
    """Whoever has the higher incarnation has the id, without asking who is there."""

    def speaker(self: Hearing, state: MemberState, now: Now, *, from_afar: bool) -> Word:
        word = self._roster.own_word(state, now, from_afar=from_afar)
        if word is Word.CONTESTED:
            self._roster.replace(state, now)
            word = Word.TAKEN
        return word

    patch.setattr(Hearing, "speaker", speaker)


def dead_stay_listed(patch: pytest.MonkeyPatch) -> None:
    """Nobody leaves the list."""
    patch.setattr(Roster, "unlist", lambda self, entry, now: self.table._down.pop(entry.state.id, None))


PLANTED: list[tuple[Plant, Callable[[int], None]]] = [
    (low_incarnation, chaos),
    (better_wins, death),
    (ghosts, death),
    (no_refutation, chaos),
    (told_before_saved, chaos),
    (no_retry, halves),
    (no_stall, quiet),
    (instant_death, quiet),
    (deaths_by_list, halves),
    (removed_is_forgotten, death),
    (first_come, clones),
    (dead_stay_listed, death),
]
TRIES = 8


def is_found(look: Callable[[int], None], seed: int) -> bool:
    try:
        look(seed)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize(("plant", "look"), PLANTED, ids=lambda part: part.__name__)
def test_a_planted_bug_is_found(plant: Plant, look: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(is_found(look, seed) for seed in range(TRIES))


@pytest.mark.parametrize("look", [chaos, quiet, halves, death, clones], ids=lambda part: part.__name__)
def test_without_a_bug_nothing_is_found(look: Callable[[int], None]) -> None:
    for seed in range(2):
        look(seed)


def test_every_status_has_its_rank() -> None:
    assert sorted(members.RANK[status] for status in Status) == list(range(len(Status)))
