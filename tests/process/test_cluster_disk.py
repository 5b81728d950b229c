"""A node of a cluster whose disk fails while it meets the others."""

import json
from pathlib import Path

from tests.process.cluster import Cluster, Node, seconds_until
from tests.process.shim import Fault, Shim

LONG_S = 60.0


def test_a_node_that_cannot_save_what_it_learns_goes_on_when_its_disk_works(shim: Path, tmp_path: Path) -> None:
    """What it could not save of its peers and of being filled is saved later, and no word of it is a bug's."""
    cluster = Cluster(tmp_path, {"probe_interval_ms": 200, "probe_timeout_ms": 200})
    n1, n2 = cluster.add(), cluster.add()
    disk = Shim(shim, tmp_path / "shim", n2.daemon.data_dir, Fault("sync", ".log", "eio", lasting=True))
    n2.daemon.environment = disk.environment
    try:
        n1.start()
        cluster.part([n1], [n2])
        n2.start()
        disk.arm()
        cluster.heal()
        seconds_until(cluster.all_see, LONG_S)
        seconds_until(lambda: n2.mode() == "degraded", LONG_S)
        assert n2.put("k", 1).status == 503
        disk.disarm()
        seconds_until(cluster.is_whole, LONG_S)
        assert n2.put("k", 1, "?w=2").status == 201
        assert n2.logged("This node was filled by its peers", LONG_S)
        cluster.check_logs()
    finally:
        cluster.close()


def told(node: Node, member: str) -> list[str]:
    """What it logged of this member and of its list, from when it saw the member first."""
    lines = [json.loads(line) for line in list(node.daemon.log) if line.startswith("{")]
    found = [line for line in lines if line.get("member") == member or str(line["event"]).startswith("The member list")]
    first = next((i for i, line in enumerate(found) if line.get("member") == member), len(found))
    return [str(line["event"]) for line in found[first:]]


def test_a_member_list_that_the_disk_did_not_take_is_saved_later(shim: Path, tmp_path: Path) -> None:
    """A node that learns of a member while its disk fails knows it after a restart, though nobody else is up then."""
    cluster = Cluster(tmp_path, {"probe_interval_ms": 200, "probe_timeout_ms": 200})
    n1, n2, n3 = cluster.add(), cluster.add(), cluster.add()
    disk = Shim(shim, tmp_path / "shim", n2.daemon.data_dir, Fault("sync", ".log", "eio", lasting=True))
    n2.daemon.environment = disk.environment
    n3.daemon.configure({"seed_nodes": [n1.address]})
    try:
        cluster.start(n1, n2)
        seconds_until(cluster.is_whole, LONG_S)
        disk.arm()
        n3.start()
        seconds_until(lambda: told(n2, "n3") == ["Member is up", "The member list could not be saved"], LONG_S)
        disk.disarm()
        seconds_until(lambda: told(n2, "n3")[-1] == "The member list was saved", LONG_S)
        for node in cluster.nodes:
            node.kill()
        n2.start()
        remembered = {member["id"] for member in n2.ask("GET", "/api/cluster/status").json()["members"]}
        assert remembered == {"n1", "n2", "n3"}, "deletions would not wait for those that are missing"
        cluster.check_logs()
    finally:
        cluster.close()
