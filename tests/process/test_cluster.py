"""Three real nodes: they find each other, hold the same, and get over what happens to one of them or between them.

All tests of this file have one cluster, which each leaves whole; a test that finds it otherwise gets a new one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.process.cluster import Cluster, Node, allowed, seconds_until, three

LONG_S = 60.0
"""For what must come true and has no promise of time, or whose time is looked at afterwards."""


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Cluster]]:
    """The cluster, or a new one when it is not whole."""
    with ExitStack() as ends:
        found: list[Cluster] = []

        def whole() -> Cluster:
            if found and found[-1].is_whole():
                return found[-1]
            made = contextmanager(three)(tmp_path_factory.mktemp("cluster"))
            found.append(ends.enter_context(made))
            found[-1].first_sight_s = seconds_until(found[-1].all_see, LONG_S)
            seconds_until(found[-1].is_whole, LONG_S)
            return found[-1]

        yield whole


@pytest.fixture
def cluster(clusters: Callable[[], Cluster]) -> Cluster:
    return clusters()


@pytest.fixture
def nodes(cluster: Cluster) -> tuple[Node, Node, Node]:
    n1, n2, n3 = cluster.nodes
    return n1, n2, n3


def test_nodes_see_each_other_soon_after_the_last_was_started(cluster: Cluster) -> None:
    print(f"\nall saw each other {cluster.first_sight_s:.2f} s after the last start")
    assert cluster.first_sight_s < allowed(2)


def test_a_write_is_read_elsewhere_with_the_same_version(nodes: tuple[Node, Node, Node]) -> None:
    n1, *others = nodes
    made = n1.put("written/here", {"a": 1}).json()
    seconds_until(lambda: all(node.value("written/here") for node in others), allowed(1))
    for node in others:
        assert node.client.get("written/here").json() == {**made, "data": {"a": 1}}
    assert n1.ask("DELETE", "/kv/written/here").status == 204
    seconds_until(lambda: all(node.value("written/here") is None for node in others), allowed(1))


def test_a_write_waits_for_copies(cluster: Cluster, nodes: tuple[Node, Node, Node]) -> None:
    n1, n2, n3 = nodes
    assert n1.put("copies", 1, "?w=3").status == 201
    assert (n2.value("copies"), n3.value("copies")) == (1, 1)
    assert n1.put("copies", 2, "?w=4").status == 400
    cluster.part([n1], [n3])
    short = n1.put("copies", 3, "?w=3&timeout=300ms")
    assert (short.status, short.json()["replicated"]) == (202, 2)
    assert n1.put("copies", 4, "?w=2").status == 200
    cluster.heal()
    seconds_until(lambda: n3.value("copies") == 4, LONG_S)
    seconds_until(cluster.is_whole, LONG_S)


def test_a_killed_node_is_missed_and_comes_back(cluster: Cluster, nodes: tuple[Node, Node, Node]) -> None:
    n1, _, n3 = nodes
    n1.put("kill", 1, "?w=3")
    n3.kill()
    n1.put("kill", 2)
    dead_s = seconds_until(lambda: cluster.all_see(n1="alive", n2="alive", n3="dead"), LONG_S)
    n3.start()
    back_s = seconds_until(cluster.all_see, LONG_S)
    print(f"\ndead after {dead_s:.2f} s, back after {back_s:.2f} s")
    assert dead_s < allowed(10)
    assert back_s < allowed(3)
    assert n1.put("copies", 5, "?w=3").status in (200, 201)  # although it came back this moment
    seconds_until(cluster.is_whole, allowed(10))
    assert n3.value("kill") == 2


def test_a_node_that_is_stopped_has_left(cluster: Cluster, nodes: tuple[Node, Node, Node]) -> None:
    nodes[1].stop()
    assert seconds_until(lambda: cluster.all_see(n1="alive", n2="left", n3="alive"), LONG_S) < allowed(1)
    nodes[1].start()
    assert seconds_until(cluster.all_see, LONG_S) < allowed(3)
    seconds_until(cluster.is_whole, allowed(10))


def test_both_sides_of_a_partition_write_and_agree_afterwards(cluster: Cluster, nodes: tuple[Node, Node, Node]) -> None:
    n1, n2, n3 = nodes
    n1.bulk({"op": "put", "path": f"part/{n}", "data": "before"} for n in range(50))
    seconds_until(cluster.are_equal, allowed(10))
    cluster.part([n1], [n2, n3])
    n1.bulk({"op": "put", "path": f"part/{n}", "data": "one side"} for n in range(30))
    n2.bulk({"op": "put", "path": f"part/{n}", "data": "the other"} for n in range(20, 40))
    n3.bulk({"op": "delete", "path": f"part/{n}"} for n in range(40, 50))
    n1.bulk({"op": "put", "path": f"part/one/{n}", "data": n} for n in range(20))
    seconds_until(lambda: n3.value("part/39") == "the other" and n2.value("part/49") is None, allowed(2))
    assert n1.value("part/39") == "before"
    seconds_until(lambda: n1.members()["n2"] == n2.members()["n1"] == n3.members()["n1"] == "dead", LONG_S)
    cluster.heal()
    healed_s = seconds_until(cluster.is_whole, 2 * LONG_S)
    print(f"\nequal {healed_s:.2f} s after the network was mended")
    shown = n3.contents()
    assert [shown[f"part/{n}"]["data"] for n in range(40)] == ["one side"] * 20 + ["the other"] * 20
    assert not any(f"part/{n}" in shown for n in range(40, 50))
    assert all(shown[f"part/one/{n}"]["data"] == n for n in range(20))
    resolved = {event["key"] for node in nodes for event in node.events("Conflict resolved")}
    assert resolved >= {f"part/{n}" for n in range(20, 30)}


def test_a_node_that_was_away_is_brought_what_it_missed(cluster: Cluster, nodes: tuple[Node, Node, Node]) -> None:
    n1, n2, n3 = nodes
    n1.bulk({"op": "put", "path": f"away/{n}", "data": "old"} for n in range(1100))
    seconds_until(cluster.are_equal, LONG_S)
    n3.kill()
    n1.bulk({"op": "put", "path": f"away/{n}", "data": "new"} for n in range(500))
    n2.bulk({"op": "put", "path": f"away/{n}", "data": "new"} for n in range(500, 1000))
    n2.bulk({"op": "delete", "path": f"away/{n}"} for n in range(1000, 1100))
    n3.start()
    equal_s = seconds_until(cluster.are_equal, LONG_S)
    print(f"\nequal {equal_s:.2f} s after the start")
    assert equal_s < allowed(10)
    for node in nodes:
        found = {key: value["data"] for key, value in node.contents().items() if key.startswith("away/")}
        assert found == {f"away/{n}": "new" for n in range(1000)}
    seconds_until(cluster.is_whole, LONG_S)


def test_a_node_that_lost_its_data_is_filled_and_harms_nobody(cluster: Cluster, nodes: tuple[Node, Node, Node]) -> None:
    n1, _, n3 = nodes
    n1.bulk({"op": "put", "path": f"wiped/{n}", "data": n} for n in range(300))
    n3.put("wiped/mine", 1, "?w=3")
    seconds_until(cluster.are_equal, LONG_S)
    before = n1.contents()
    n3.kill()
    n3.wipe()
    n3.start()
    filled_s = seconds_until(cluster.is_whole, LONG_S)
    print(f"\nfilled {filled_s:.2f} s after the start")
    assert filled_s < allowed(10)
    assert n1.contents() == n3.contents() == before


def test_a_value_ends_everywhere_at_once(nodes: tuple[Node, Node, Node]) -> None:
    """The last test: who is filled after the end and before the record leaves the disks never gets it, and so has
    another root until then."""
    n1, *others = nodes
    n1.put("short", 1, "?ttl=1500ms&w=3")
    ends = n1.client.get("short").json()["expires_at"]
    for node in others:
        assert node.client.get("short").json()["expires_at"] == ends
    seconds_until(lambda: all(node.value("short") is None for node in nodes), allowed(2))
    assert all("short" not in node.contents() for node in nodes)
