"""What goes wrong with real nodes and is not as simple as one that is gone; each test has a cluster of its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.process.cli import Cli
from tests.process.cluster import Cluster, Node, allowed, seconds_until, three
from tests.process.eventually import eventually

LONG_S = 60.0
PUTS = 300


@pytest.fixture
def make_three(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Starts three nodes with these settings and waits until they are whole."""
    with ExitStack() as ends:

        def make(**settings: object) -> Cluster:
            cluster = ends.enter_context(contextmanager(three)(tmp_path, **settings))
            seconds_until(cluster.is_whole, LONG_S)
            return cluster

        yield make


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes a cluster without nodes."""
    with ExitStack() as ends:

        def make(**settings: object) -> Cluster:
            cluster = Cluster(tmp_path, settings)
            ends.callback(cluster.close)
            return cluster

        yield make


def put_ms(node: Node, count: int) -> list[float]:
    """How long each of so many writes took, the shortest first."""
    times = []
    for n in range(count):
        start = time.perf_counter()
        assert node.put(f"timed/{n % 50}", n).status < 300
        times.append((time.perf_counter() - start) * 1000)
    return sorted(times)


def p99(times: list[float]) -> float:
    return times[len(times) * 99 // 100]


def test_nodes_that_start_at_once_do_not_wait_for_each_other(make_cluster: Callable[..., Cluster]) -> None:
    """Each is a seed of all, itself included, and none was ever filled: one file may serve a whole cluster."""
    cluster = make_cluster()
    nodes = [cluster.add() for _ in range(3)]
    for node in nodes:
        node.daemon.configure({"seed_nodes": [each.address for each in nodes]})
    cluster.start()
    whole_s = seconds_until(cluster.is_whole, LONG_S)
    print(f"\nwhole {whole_s:.2f} s after the last start")
    assert whole_s < allowed(5)
    for node in nodes:
        assert node.put(f"by/{node.name}", 1, "?w=3").status == 201
    cluster.check_logs()


@pytest.mark.parametrize("until_dead", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["at first", "dead"])
def test_a_node_that_stands_still_slows_nobody(make_three: Callable[..., Cluster], until_dead: bool) -> None:
    """Neither while it still counts as alive nor once it is dead."""
    cluster = make_three()
    n1, n2, n3 = cluster.nodes
    before = put_ms(n1, PUTS)
    n3.hold()
    if until_dead:
        seconds_until(lambda: n1.members()["n3"] == n2.members()["n3"] == "dead", LONG_S)
    held = put_ms(n1, PUTS)
    seconds_until(lambda: n2.value("timed/7") == n1.value("timed/7"), allowed(1))
    n3.let_go_on()
    back_s = seconds_until(cluster.is_whole, LONG_S)
    print(f"\np99 of PUT {p99(before):.1f} ms, one node held {p99(held):.1f} ms; whole {back_s:.2f} s after it went on")
    assert p99(held) < max(5 * p99(before), 1000 * allowed(0.1))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["requests", "answers"])
def test_a_link_that_is_cut_one_way(make_three: Callable[..., Cluster], what: str) -> None:
    """n1 does not reach n2, or does not hear its answers; all other ways are open. Nobody is buried, and all come to
    hold the same while it lasts."""
    cluster = make_three()
    n1, n2, n3 = cluster.nodes
    link = cluster.network.link("n1", "n2")
    link.cut() if what == "requests" else link.cut_answers()
    for n in range(20):
        assert n1.put(f"one/{n}", n).status == 201
        assert n2.put(f"two/{n}", n).status == 201
    equal_s = seconds_until(cluster.are_equal, LONG_S)
    print(f"\nequal {equal_s:.2f} s after the last write, while {what} from n1 to n2 are lost")
    assert equal_s < allowed(15)
    assert len(n3.contents()) == 40
    # Long enough for a suspicion to become a death, were there one.
    assert not eventually(lambda: "dead" in {status for node in cluster.nodes for status in node.members().values()}, 8)
    cluster.heal()
    seconds_until(cluster.is_whole, LONG_S)


@pytest.mark.slow
def test_connections_that_break_and_crawl(make_three: Callable[..., Cluster]) -> None:
    """Every link is slow, one has next to no room, and connections break all the time."""
    cluster = make_three()
    n1, n2, n3 = cluster.nodes
    for a in cluster.nodes:
        for b in cluster.nodes:
            cluster.network.link(a.name, b.name).delay(0.02)
    cluster.network.link("n1", "n3").throttle(2_000)
    times = []
    for n in range(200):
        times += put_ms((n1, n2, n3)[n % 3], 1)
        assert n1.put(f"crawl/{n}", "x" * 1000).status == 201
        if n % 10 == 0:
            for link in cluster.network.links():
                link.drop()
    print(f"\np99 of PUT over bad links: {p99(sorted(times)):.1f} ms")
    seconds_until(cluster.are_equal, 2 * LONG_S)
    cluster.heal()
    seconds_until(cluster.is_whole, LONG_S)
    assert len(n3.contents()) == 201


@pytest.mark.slow
def test_a_partition_that_outlives_every_connection(make_three: Callable[..., Cluster]) -> None:
    """Nothing that was under way survives it: both sides must look for each other again."""
    cluster = make_three()
    n1, n2, n3 = cluster.nodes
    cluster.part([n1], [n2, n3])
    n1.put("a", 1)
    n2.put("b", 2)
    seconds_until(lambda: n1.members()["n2"] == n1.members()["n3"] == n2.members()["n1"] == "dead", LONG_S)
    for link in cluster.network.links():
        link.drop()
    cluster.heal()
    healed_s = seconds_until(cluster.is_whole, 5 * LONG_S)
    print(f"\nwhole {healed_s:.1f} s after the network was mended")
    assert healed_s < allowed(75)
    assert (n1.value("b"), n3.value("a")) == (2, 1)


def test_another_secret_lets_nobody_in(make_cluster: Callable[..., Cluster]) -> None:
    """Neither way: two clusters that know each other's addresses stay two."""
    cluster = make_cluster(bootstrap_patience=0.5)
    n1 = cluster.add()
    stranger = cluster.add("stranger", cluster_secret="another-secret-of-another-cluster")
    cluster.start()
    refusal = "A peer was refused: wrong or missing secret"
    assert n1.logged(refusal, LONG_S)
    assert n1.put("ours", 1).status == 201
    seconds_until(lambda: stranger.mode() == "normal", LONG_S)
    assert stranger.put("theirs", 2).status == 201
    refused = len(n1.events(refusal))
    seconds_until(lambda: len(n1.events(refusal)) > refused, LONG_S)
    assert (n1.members(), stranger.members()) == ({"n1": "alive"}, {"stranger": "alive"})
    assert (n1.value("theirs"), stranger.value("ours")) == (None, None)
    for node in cluster.nodes:
        text = "\n".join(node.daemon.log)
        assert "What-0nly" not in text
        assert "another-secret" not in text
    cluster.check_logs()


def test_a_conflict_is_resolved_for_the_older_node(make_cluster: Callable[..., Cluster], kvs: Cli) -> None:
    """Data directories of `kvs debug make-conflict`: the node of the first joined before the other."""
    made = kvs.run("debug", "make-conflict", "one", "two")
    assert made.code == 0
    cluster = make_cluster(sync_interval=3)
    older = cluster.add("conflict-older", data_dir=str(kvs.folder / "one"))
    newer = cluster.add("conflict-newer", data_dir=str(kvs.folder / "two"))
    cluster.start()
    key = "test/conflict/data"

    def agree() -> bool:
        return bool(older.value(key) == newer.value(key) == {"written_by": "conflict-older"})

    agree_s = seconds_until(agree, LONG_S)
    print(f"\nagreed {agree_s:.2f} s after the start")
    assert agree_s < allowed(10)
    (event,) = [event for node in cluster.nodes for event in node.events("Conflict resolved")]
    assert event["key"] == key
    seconds_until(cluster.are_equal, LONG_S)
    cluster.check_logs()
