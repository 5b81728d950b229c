"""Two nodes with one id: the one that was there stays and says so, the other does not start."""

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.cli import Cli
from tests.process.cluster import Cluster, Node, seconds_until
from tests.process.daemon import NotStarted
from tests.process.eventually import eventually

SECRET = "What-0nly-the-nodes-of-this-cluster-know"
LONG_S = 60.0
TAKEN = "another living node has the node_id n2: give this one another, or stop that one"
ALARM = "A clone of this node is alive: stop one of them"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Cluster, Node, Node]]:
    """Two nodes that hold the same."""
    with ExitStack() as ends:
        cluster = Cluster(tmp_path)
        ends.callback(cluster.close)
        n1, n2 = cluster.add(), cluster.add()
        cluster.start()
        seconds_until(cluster.is_whole, LONG_S)
        yield cluster, n1, n2
        cluster.check_logs()


def check_living(n1: Node, n2: Node) -> None:
    """It was not hurt, and says what happened."""
    seconds_until(lambda: n2.events(ALARM), LONG_S)
    assert {event["level"] for event in n2.events(ALARM)} == {"error"}
    shown = n2.ask("GET", "/api/cluster/status").json()
    assert "n2" in shown["clone"]["detail"]
    assert shown["clone"]["at"] > 0
    assert n1.members() == n2.members() == {"n1": "alive", "n2": "alive"}
    assert n2.put("goes/on", 1, "?w=2").status in (200, 201)


def test_a_node_with_an_id_of_its_own_data_directory_that_is_taken(pair: tuple[Cluster, Node, Node]) -> None:
    """A configuration that was copied with its node_id."""
    cluster, n1, n2 = pair
    twin = cluster.add("n2")
    with pytest.raises(NotStarted) as end:
        twin.start()
    assert end.value.code == 1
    assert TAKEN in end.value.errors
    assert len(end.value.errors.splitlines()) == 1
    cluster.nodes.remove(twin)
    check_living(n1, n2)


def test_a_node_on_a_copy_of_the_others_data(pair: tuple[Cluster, Node, Node]) -> None:
    cluster, n1, n2 = pair
    n1.put("kept", 1, "?w=2")
    n2.stop()
    twin = cluster.add("n2")
    shutil.copytree(n2.daemon.data_dir, twin.daemon.data_dir)
    n2.start()
    seconds_until(lambda: n1.members() == {"n1": "alive", "n2": "alive"}, LONG_S)
    with pytest.raises(NotStarted) as end:
        twin.start()
    assert (end.value.code, TAKEN in end.value.errors) == (1, True)
    cluster.nodes.remove(twin)
    check_living(n1, n2)
    assert n2.value("kept") == 1


def test_the_id_is_free_once_the_other_is_gone(pair: tuple[Cluster, Node, Node]) -> None:
    """Also for one that was refused a moment ago, and for another data directory: then it is filled."""
    cluster, n1, n2 = pair
    n1.put("kept", 1, "?w=2")
    twin = cluster.add("n2")
    with pytest.raises(NotStarted):
        twin.start()
    n2.kill()
    cluster.nodes.remove(n2)
    twin.start()
    seconds_until(cluster.is_whole, LONG_S)
    assert twin.value("kept") == 1
    assert n1.ask("GET", "/api/cluster/status").json()["members"][1]["address"] == twin.address


# --- as an operator sees it ---


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def configure(kvs: Cli, name: str, node_id: str, port: int, *seeds: int) -> Path:
    given = json.dumps([f"127.0.0.1:{seed}" for seed in seeds])
    path = kvs.config(f"{name}.yaml", f"node_id: {node_id}\ncluster_secret: {SECRET}\nseed_nodes: {given}\n", port=port)
    path.write_text(path.read_text().replace("clustering_enabled: false\n", ""))
    return path


def test_start_shows_why(kvs: Cli) -> None:
    """With the id of the seed itself."""
    first, second = free_port(), free_port()
    assert kvs.run("start", configure(kvs, "one", "n1", first)).code == 0
    twin = configure(kvs, "two", "n1", second, first)
    for word in ("start", ""):
        refused = kvs.run(*([word, twin] if word else [twin]))
        assert (refused.code, refused.out if word else "") == (1, "")
        assert "another living node has the node_id n1" in refused.err
        assert len(refused.err.splitlines()) == 1
    assert kvs.run("status", "two").code == 3
    shown = kvs.run("cluster", "status", "--url", f"http://127.0.0.1:{first}")
    assert "clone:" in shown.out
    assert [member["id"] for member in kvs_members(kvs, first)] == ["n1"]


def kvs_members(kvs: Cli, port: int) -> list[dict[str, object]]:
    shown = kvs.run("cluster", "status", "--url", f"http://127.0.0.1:{port}", "--json")
    found: list[dict[str, object]] = json.loads(shown.out)["members"]
    return found


def test_of_two_that_start_at_once_one_stays(kvs: Cli) -> None:
    """Each is the other's seed, and neither was there before."""
    ports = free_port(), free_port()
    paths = [configure(kvs, name, "n1", port, *ports) for name, port in zip(("one", "two"), ports, strict=True)]
    processes = [kvs.popen(path) for path in paths]
    try:
        assert eventually(lambda: any(process.poll() is not None for process in processes), LONG_S)
        assert eventually(lambda: any(is_running(kvs, path) for path in paths), LONG_S)
        (ended,) = [process for process in processes if process.poll() is not None]
        assert ended.returncode == 1
    finally:
        for process in processes:
            process.kill()
            _, errors = process.communicate()
            assert "Traceback" not in errors


def is_running(kvs: Cli, path: Path) -> bool:
    shown = kvs.status(path)
    return shown["state"] == "RUNNING" and shown["mode"] in ("normal", "syncing")
