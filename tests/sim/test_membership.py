"""Whole clusters of memberships, by seed: who lives is listed by all, who died by none, and nobody is buried alive."""

import statistics
from random import Random

import pytest

from kvs.cluster.membership_events import Identity, MembershipSettings, Remove, Sender
from kvs.cluster.messages import MemberList, Persisted
from tests.sim.chaos import Chaos, settle
from tests.sim.membership import Death, Link, SimNode, World

MINUTE_MS = 60_000


def running(seed: int, count: int, *, link: Link | None = None, settings: MembershipSettings | None = None) -> World:
    """A cluster that has found itself."""
    world = World(seed, count, link=link, settings=settings)
    world.start_all()
    world.run(500)
    assert world.run_until(world.is_converged, MINUTE_MS) is not None, world.disagreements()
    return world


def deaths_of(world: World, node: SimNode) -> list[Death]:
    return [death for death in world.deaths if death.of == node.id]


# --- everything at once ---


def chaotic(seed: int, for_ms: int) -> World:
    chance = Random(f"shape {seed}")
    link = Link(
        loss=chance.choice([0.0, 0.0, 0.02, 0.1]),
        duplicates=chance.choice([0.0, 0.1]),
        delay_max_ms=chance.choice([5, 50, 300]),
    )
    world = World(seed, chance.choice([3, 3, 4, 5, 7]), link=link)
    world.start_all()
    Chaos(world).run(for_ms)
    return world


@pytest.mark.parametrize("seed", range(24))
def test_after_the_chaos_all_agree_again(seed: int) -> None:
    settle(chaotic(seed, 40_000))


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("block", range(20))
def test_after_much_chaos_all_agree_again(block: int) -> None:
    for seed in range(1_000 + 100 * block, 1_100 + 100 * block):
        settle(chaotic(seed, 120_000))


def test_the_same_seed_is_the_same_run() -> None:
    prints = [chaotic(seed, 20_000).fingerprint() for seed in (7, 7, 8)]
    assert prints[0] == prints[1] != prints[2]


# --- death ---


def detection(seed: int, count: int, *, host_too: bool, link: Link | None = None) -> tuple[int, int]:
    """The ms until the first, and until all, know of a death."""
    world = running(seed, count, link=link)
    world.run(2_000 + 137 * seed)
    victim, began_ms = world.chance.choice(world.nodes), world.now_ms
    victim.crash(host_too=host_too)
    all_ms = world.run_until(
        lambda: all(world.view(node).get(victim.id) == "dead" for node in world.live()), 2 * MINUTE_MS
    )
    assert all_ms is not None
    assert not world.false_deaths()
    return min(death.at_ms for death in deaths_of(world, victim)) - began_ms, all_ms


@pytest.mark.parametrize(
    ("count", "host_too", "median_ms", "most_ms"),
    [
        (2, True, (4_500, 5_500), 6_500),
        (3, True, (4_800, 6_200), 8_500),
        (3, False, (4_000, 5_200), 7_500),
        (5, True, (4_800, 6_800), 10_000),
    ],
)
def test_a_death_is_known_in_about_six_seconds(
    count: int, host_too: bool, median_ms: tuple[int, int], most_ms: int
) -> None:
    times = [detection(seed, count, host_too=host_too) for seed in range(15)]
    assert median_ms[0] <= statistics.median(first for first, _ in times) <= median_ms[1]
    assert max(all_ms for _, all_ms in times) <= most_ms


@pytest.mark.slow
@pytest.mark.parametrize(("count", "most_ms"), [(10, 13_000), (30, 20_000), (100, 30_000)])
def test_a_death_in_a_large_cluster(count: int, most_ms: int) -> None:
    for seed in range(3):
        assert detection(seed, count, host_too=True, link=Link(loss=0.02))[1] <= most_ms


# --- no death ---


def test_nobody_is_buried_alive_for_lost_messages() -> None:
    world = running(1, 10, link=Link(loss=0.05, delay_max_ms=50))
    world.run(3 * MINUTE_MS)
    assert world.deaths == []


@pytest.mark.slow
@pytest.mark.parametrize(("count", "loss"), [(3, 0.05), (5, 0.1), (10, 0.05), (10, 0.1), (30, 0.05)])
def test_nobody_is_buried_alive_in_an_hour(count: int, loss: float) -> None:
    world = running(2, count, link=Link(loss=loss, delay_max_ms=50))
    world.run(60 * MINUTE_MS)
    assert world.deaths == []


def test_who_is_cut_off_from_one_is_kept_alive_by_the_others() -> None:
    world = running(3, 5)
    world.cuts = {("n000", "n001"), ("n003", "n002"), ("n002", "n003")}
    world.run(2 * MINUTE_MS)
    assert world.deaths == []


def test_a_node_that_stalls_buries_nobody() -> None:
    for seed in range(6):
        world = running(seed, 4, link=Link(loss=0.02))
        sleeper = world.chance.choice(world.nodes)
        for for_ms in (300, 1_500, 6_000, 30_000):
            sleeper.hold(for_ms, tells=world.chance.random() < 0.5)
            world.run(for_ms + world.chance.randint(0, 20_000))
        assert not [death for death in world.deaths if death.by == sleeper.id]
        assert not [death for death in world.deaths if death.of != sleeper.id]
        settle(world)


def test_short_stalls_of_all_bury_nobody() -> None:
    world = running(4, 5, link=Link(loss=0.02))
    for _ in range(80):
        world.chance.choice(world.nodes).hold(world.chance.choice([200, 700, 2_500]), tells=False)
        world.run(world.chance.randint(100, 1_000))
    assert world.deaths == []


def test_jumps_of_the_wall_clock_bury_nobody() -> None:
    world = running(5, 4)
    for _ in range(40):
        world.chance.choice(world.nodes).clock_ms += world.chance.randint(-(10**9), 10**9)
        world.run(2_000)
    assert world.deaths == []
    assert world.is_converged()


# --- joining and finding each other again ---


def test_a_newcomer_is_known_to_all_within_a_moment() -> None:
    world = World(6, 31)
    for node in world.nodes[:30]:
        node.start()
    world.run(MINUTE_MS)
    world.nodes[30].start()
    took_ms = world.run_until(world.is_converged, MINUTE_MS, step_ms=10)
    assert took_ms is not None
    assert took_ms <= 500


@pytest.mark.parametrize(("count", "rounds_max"), [(8, 5), (32, 8)])
def test_a_newcomer_spreads_by_rumour_in_few_rounds(count: int, rounds_max: int) -> None:
    """It talks to one seed only; the others hear of it, ask it, and tell others: O(log n) probe intervals."""
    world = World(7, count + 1)
    for node in world.nodes[:count]:
        node.start()
    world.run(MINUTE_MS)
    newcomer = world.nodes[count]
    world.loses = lambda a, b, _: a is newcomer and b is not world.nodes[0]
    newcomer.start()

    def is_known() -> bool:
        return all(world.view(node).get(newcomer.id) == "alive" for node in world.nodes[:count])

    took_ms = world.run_until(is_known, MINUTE_MS)
    assert took_ms is not None
    assert took_ms <= rounds_max * world.settings.probe_interval_ms


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_nodes_that_start_at_once_find_each_other() -> None:
    world = World(8, 100, link=Link(loss=0.01, delay_max_ms=50))
    world.start_all(spread_ms=2_000)
    world.run(2_000)
    took_ms = world.run_until(world.is_converged, MINUTE_MS)
    assert took_ms is not None
    assert took_ms <= 20_000
    assert not world.false_deaths()


@pytest.mark.parametrize("count", [2, 3, 9])
def test_halves_find_each_other_again(count: int) -> None:
    world = running(9, count)
    world.groups = {node.id: number % 2 for number, node in enumerate(world.nodes)}
    world.run(12 * MINUTE_MS)  # the others are not even listed any more
    assert {len(world.view(node)) for node in world.nodes} <= {count // 2, count - count // 2}
    world.heal()
    buried = len(world.deaths)
    assert settle(world) <= 90_000
    assert len(world.deaths) == buried, "nobody is buried by the news of the other half"


def test_nodes_find_each_other_again_without_seeds() -> None:
    world = running(10, 4)
    world.run(2_000)  # until who became known is saved
    world.settings = world.settings._replace(seeds=())
    for node in world.nodes:
        node.crash()
        node.start()
    assert settle(world) <= 5_000, "all are known from the disk"


def test_a_quick_restart_is_no_death() -> None:
    world = running(11, 3)
    for node in world.nodes * 3:
        node.crash()
        world.run(1_500)
        node.start()
        world.run(3_000)
    assert not world.false_deaths()
    assert world.is_converged()


def test_a_node_whose_clock_was_set_back_comes_back_from_the_dead() -> None:
    world = running(12, 3)
    node = world.nodes[2]
    node.crash(host_too=True)
    world.run(20_000)
    node.clock_ms -= 10**9
    node.start()
    assert settle(world) <= 2_000


# --- leaving, and being removed ---


def test_who_leaves_is_known_to_have_left_and_can_come_back() -> None:
    world = running(13, 4)
    node = world.nodes[3]
    node.stop()
    world.run(3_000)
    assert {world.view(other)[node.id] for other in world.live()} == {"left"}
    node.start()
    assert settle(world) <= 2_000
    assert not world.false_deaths()


def test_the_dead_leave_the_list_everywhere_and_no_ghost_comes_back() -> None:
    world = running(14, 5, settings=MembershipSettings(member_timeout_ms=30_000))
    node = world.nodes[4]
    node.crash()
    world.run(90_000)
    for _ in range(10):
        world.run(MINUTE_MS)
        assert all(node.id not in world.view(other) for other in world.live())
    assert all(node.id in {m.id for m in other.running.remembered()} for other in world.live())


def test_a_removed_node_is_forgotten_everywhere_and_a_late_comer_does_not_learn_of_it() -> None:
    world = running(15, 5)
    gone, late = world.nodes[4], world.nodes[3]
    gone.crash()
    late.crash()
    world.run(20_000)
    world.nodes[0].event(Remove(gone.id))
    world.run(5_000)
    late.start()
    world.run(5 * MINUTE_MS)
    for node in world.live():
        assert gone.id not in world.view(node)
        assert gone.id not in {m.id for m in node.running.remembered()}
    gone.start()
    assert settle(world) <= 5_000, "it lives: nobody keeps it out"


# --- one id, two nodes ---


def clone(world: World, node: SimNode, *, same_disk: bool) -> SimNode:
    """Another host that runs under the node's id."""
    other = SimNode(world, 200)
    other.id = node.id
    other.instances = node.instances if same_disk else 99
    if same_disk:
        other.persisted, other.joined_ms = node.persisted, node.joined_ms
    other.start("10.9.9.9:8080")
    return other


def addresses_of(world: World, node_id: str) -> set[str]:
    return {
        member.address
        for node in world.live()
        for member in node.running.members(node.now())
        if member.id == node_id and member.status == "alive"
    }


@pytest.mark.parametrize("same_disk", [True, False])
@pytest.mark.parametrize("clock_ms", [0, -3_600_000])
def test_a_clone_is_refused_and_takes_over_when_the_first_one_dies(same_disk: bool, clock_ms: int) -> None:
    world = running(16, 4)
    first = world.nodes[3]
    first.clock_ms -= clock_ms
    second = clone(world, first, same_disk=same_disk)
    for _ in range(10):
        world.run(5_000)
        assert addresses_of(world, first.id) == {first.address}
    assert True in second.clones_found
    assert set(first.clones_found) == {False}, "the one that lives is told, and is not the one to stop"
    assert not world.false_deaths()
    first.crash(host_too=True)
    took_ms = world.run_until(lambda: addresses_of(world, first.id) == {second.address}, 2 * MINUTE_MS)
    assert took_ms is not None
    assert took_ms <= MINUTE_MS
    assert world.run_until(lambda: all(world.view(n)[first.id] == "alive" for n in world.live()), 10_000) is not None
    joined = {m.joined_timestamp for m in world.nodes[0].running.peers() if m.id == first.id}
    assert joined == {first.joined_ms if same_disk else second.joined_ms}


def test_a_replaced_node_has_a_new_joined_timestamp_everywhere() -> None:
    world = running(17, 4)
    node = world.nodes[2]
    node.crash()
    world.run(3_000)
    node.wipe()
    node.start()
    assert settle(world) <= 5_000
    for other in world.live():
        joined = {m.id: m.joined_timestamp for m in other.running.members(other.now())}
        assert joined[node.id] == node.joined_ms


def test_two_ids_at_one_address_are_told_apart() -> None:
    """A node that was renamed: the old name is silent at an address where another answers."""
    world = running(18, 3)
    old, new = world.nodes[2], SimNode(world, 100)
    world.nodes.append(new)
    old.crash()
    new.start(old.address)
    assert settle(world) <= 2 * MINUTE_MS
    assert world.run_until(lambda: world.view(world.nodes[0]).get(old.id) == "dead", 20_000) is not None
    assert world.view(world.nodes[0])[new.id] == "alive"


# --- cost ---


@pytest.mark.parametrize("count", [3, 10])
def test_an_idle_cluster_says_little(count: int) -> None:
    """One ping a second and its answer for each node, whatever the size of the cluster."""
    world = running(19, count)
    world.run(30_000)
    messages, size_bytes = world.messages, world.bytes
    world.run(30_000)
    assert (world.messages - messages) / 30 / count <= 2.3
    assert (world.bytes - size_bytes) / (world.messages - messages) <= 400


def test_what_nodes_know_is_bounded_by_who_there_is() -> None:
    world = chaotic(20, 20_000)
    settle(world)
    world.run(2 * MINUTE_MS)
    for node in world.live():
        parts = node.running
        assert len(parts._rumours) <= len(world.nodes)
        assert len(parts._out._sent) <= 20
        assert not parts._hearing.contests._open
        assert not parts._hearing.checks._waiting


def test_lists_of_strangers_are_checked_before_anybody_is_listed() -> None:
    """What a node is told of a cluster that is gone does not come back to life."""
    world = World(21, 3)
    ghosts = tuple(SimNode(world, number) for number in range(50, 60))
    states = []
    for ghost in ghosts:
        identity = Identity(ghost.id, ghost.address, "x", 1)
        states.append(world.make(world.settings, identity, Persisted(), Random(1), ghost.now()).me(ghost.now()))
    world.start_all()
    world.run(2_000)
    first, second = world.nodes[:2]
    first.answer(MemberList((second.running.me(second.now()), *states)), _sender(second), lambda _: None)
    world.run(2 * MINUTE_MS)
    assert world.is_converged()
    assert all(len(world.view(node)) == 3 for node in world.nodes)


def _sender(node: SimNode) -> Sender:
    return Sender(node.id, node.address.rpartition(":")[0])
