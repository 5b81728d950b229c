"""Nodes that have just met and are restarted at once, and clusters that meet: nobody is forgotten or known by half."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.cluster import Cluster, seconds_until

LONG_S = 60.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as ends:
        made = Cluster(tmp_path)
        ends.callback(made.close)
        yield made
        made.check_logs()


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("who", ["n1", "n2"])
def test_a_restart_right_after_the_first_meeting(cluster: Cluster, who: str, how: str) -> None:
    """Only n2 has a seed: n1 finds it by whom it met, which is saved at once."""
    n1, n2 = cluster.add(), cluster.add()
    cluster.start(n1)
    cluster.start(n2)
    seconds_until(cluster.all_see, LONG_S)
    node = n1 if who == "n1" else n2
    node.stop() if how == "stop" else node.kill()
    node.start()
    back_s = seconds_until(cluster.all_see, LONG_S)
    print(f"\nall saw each other {back_s:.2f} s after the restart")
    seconds_until(cluster.is_whole, LONG_S)


def test_all_restart_one_after_the_other_at_once(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.add()
    cluster.start()
    for node in cluster.nodes * 2:
        seconds_until(cluster.all_see, LONG_S)
        node.stop()
        node.start()
    seconds_until(cluster.is_whole, LONG_S)


def test_two_clusters_become_one(cluster: Cluster) -> None:
    """One node is given a seed of the other cluster; each has written under keys of its own and one of both."""
    n1, n2 = cluster.add(), cluster.add()
    n3 = cluster.add(seed_nodes=[])
    n4 = cluster.add(seed_nodes=[n3.address])
    cluster.start()
    seconds_until(lambda: n1.members().keys() == n2.members().keys() == {"n1", "n2"}, LONG_S)
    seconds_until(lambda: n3.members().keys() == n4.members().keys() == {"n3", "n4"}, LONG_S)
    assert n1.put("of/one", 1, "?w=2").status == 201
    assert n3.put("of/the/other", 2, "?w=2").status == 201
    assert n2.put("of/both", "one", "?w=2").status == 201
    assert n4.put("of/both", "other", "?w=2").status == 201
    n4.stop()
    n4.daemon.configure({"seed_nodes": [n1.address]})
    n4.start()
    met_s = seconds_until(cluster.all_see, LONG_S)
    print(f"\nall saw each other {met_s:.2f} s after the start")
    seconds_until(cluster.is_whole, LONG_S)
    assert n2.contents().keys() == {"of/one", "of/the/other", "of/both"}
    assert n2.value("of/both") == "other"
