"""Clusters and parts of clusters that meet: soon every node lists every other, and nobody is known by half."""

from collections.abc import Sequence
from random import Random

import pytest

from tests.sim.chaos import Chaos
from tests.sim.membership import Link, SimNode, World

MINUTE_MS = 60_000
LIMIT_MS = 3 * MINUTE_MS
"""Within this all list all: the next retry (a minute) reaches somebody of the other side, pings and rumours do the
rest, and what these leave out the next exchange of lists (two minutes at most)."""
GOOD, BAD = Link(), Link(loss=0.05, duplicates=0.05, delay_max_ms=100)


def know_each_other(world: World, side: Sequence[SimNode]) -> bool:
    """Whether all of these list all of these, and nobody else."""
    alive = {node.id: "alive" for node in side}
    return all(world.view(node) == alive for node in side)


def two_clusters(seed: int, left: int, right: int) -> World:
    """Two clusters of one secret that never heard of each other. The seeds of each are its own first two nodes."""
    world = World(seed, left + right, link=(GOOD, BAD)[seed % 2])
    sides = world.nodes[:left], world.nodes[left:]
    for number, side in enumerate(sides):
        world.groups |= {node.id: number for node in side}
        world.settings = world.settings._replace(seeds=tuple(node.address for node in side[:2]))
        for node in side:
            node.start()
    assert world.run_until(lambda: all(know_each_other(world, side) for side in sides), LIMIT_MS) is not None
    return world


def check_becomes_whole(world: World) -> None:
    assert world.run_until(world.is_converged, LIMIT_MS) is not None, world.disagreements()
    world.run(MINUTE_MS)
    if world.link is GOOD:  # over bad links somebody may be suspected just now
        assert world.is_converged(), world.disagreements()
    assert not world.false_deaths()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("left", "right"), [(1, 1), (1, 4), (3, 3), (5, 8)])
def test_two_clusters_become_one_when_one_node_is_given_a_seed_of_the_other(seed: int, left: int, right: int) -> None:
    world = two_clusters(seed, left, right)
    world.heal()
    bridge = world.nodes[-1]
    bridge.crash()
    world.settings = world.settings._replace(seeds=(world.nodes[0].address,))
    bridge.start()
    check_becomes_whole(world)


@pytest.mark.parametrize("seed", range(4))
def test_two_clusters_become_one_when_a_third_node_names_seeds_of_both(seed: int) -> None:
    world = two_clusters(seed, 3, 4)
    world.heal()
    bridge = SimNode(world, 90)
    world.nodes.append(bridge)
    world._by_id[bridge.id] = bridge
    world.settings = world.settings._replace(seeds=(world.nodes[0].address, world.nodes[3].address))
    bridge.start()
    check_becomes_whole(world)


@pytest.mark.parametrize("seed", range(6))
def test_parts_that_changed_while_they_were_apart_become_one(seed: int) -> None:
    """On each side nodes were restarted, moved to other addresses, lost their disks, or are new. The seeds stay where
    they are: who knows nobody would find nobody else."""
    chance = Random(f"parts {seed}")
    world = World(seed, 9, link=(GOOD, BAD)[seed % 2])
    late = world.nodes[7:]
    for node in world.nodes[:7]:
        node.start()
    assert world.run_until(lambda: know_each_other(world, world.nodes[:7]), LIMIT_MS) is not None
    world.groups = {node.id: number % 3 for number, node in enumerate(world.nodes)}
    world.run(chance.choice([2_000, 30_000, 11 * MINUTE_MS]))
    for node in late:
        node.start()
    for number, node in enumerate(world.nodes[:7]):
        if chance.random() < 0.5:
            node.crash()
            if chance.random() < 0.3:
                node.wipe()
            node.start(f"10.0.9.{number}:8080" if number > 1 and chance.random() < 0.5 else None)
        world.run(chance.randint(0, 20_000))
    world.heal()
    assert world.run_until(world.is_converged, LIMIT_MS) is not None, world.disagreements()


@pytest.mark.parametrize("seed", range(8))
def test_after_chaos_in_two_clusters_all_meet(seed: int) -> None:
    world = two_clusters(100 + seed, 3, 3)
    Chaos(world).run(20_000)
    world.heal()
    world.settings = world.settings._replace(seeds=(world.nodes[0].address, world.nodes[3].address))
    for node in world.nodes:
        node.crash()
        node.start()
    assert world.run_until(world.is_converged, LIMIT_MS) is not None, world.disagreements()
