"""`kvs cluster` against real daemons."""

import json
from typing import Any

import pytest

from tests.process.cli import Cli, Result
from tests.process.eventually import eventually

SECRET = "What-0nly-the-nodes-of-this-cluster-know"
_QUICK = "probe_interval_ms: 100\nprobe_timeout_ms: 100\nsuspicion_timeout: 0.5\n"
_TIMEOUT_S = 30.0


@pytest.fixture
def url(kvs: Cli) -> str:
    """Two nodes, node1 and node2, that hold the same; the first one's URL."""
    first = start(kvs, "node1")
    second = start(kvs, "node2", seed=first)
    assert eventually(lambda: all_equal(kvs, first) and all_equal(kvs, second), _TIMEOUT_S)
    return first


def start(kvs: Cli, name: str, *, seed: str = "", more: str = "") -> str:
    """The URL of a new member of the cluster."""
    seeds = f'seed_nodes: ["{seed.removeprefix("http://")}"]\n' if seed else ""
    path = kvs.config(f"{name}.yaml", f"node_id: {name}\ncluster_secret: {SECRET}\n{seeds}{_QUICK}{more}")
    path.write_text(path.read_text().replace("clustering_enabled: false\n", ""))
    started = kvs.run("start", path)
    assert started.code == 0, started.all
    return str(kvs.status(path)["url"])


def view(kvs: Cli, url: str) -> Any:
    shown = kvs.run("cluster", "status", "--url", url, "--json")
    assert shown.code == 0, shown.all
    return json.loads(shown.out)


def all_equal(kvs: Cli, url: str) -> bool:
    shown = view(kvs, url)
    others = [member for member in shown["members"] if member["id"] != shown["node_id"]]
    return shown["mode"] == "normal" and bool(others) and all(member["root_equal"] for member in others)


def cells(shown: Result) -> list[list[str]]:
    """The rows of the table, by words."""
    return [line.split() for line in shown.out.partition("\n\n")[2].splitlines()]


def test_status(kvs: Cli, url: str) -> None:
    shown = kvs.run("cluster", "status", "--url", url)
    assert (shown.code, shown.err) == (0, "")
    head = dict(line.split(":", 1) for line in shown.out.partition("\n\n")[0].splitlines())
    assert {name: head[name].strip() for name in ("node", "mode")} == {"node": "node1", "mode": "normal"}
    assert head["root"].strip() == view(kvs, url)["root"][:16] + "…, 0 records"
    heads, mine, other = cells(shown)
    assert heads[:4] == ["NODE", "ADDRESS", "STATUS", "SEEN"]
    assert mine == ["node1", url.removeprefix("http://"), "alive", "this", "node"]
    assert other[0] == "node2"
    assert other[2] == "alive"
    assert "equal" in other


def test_on_the_nodes_own_host_and_without_a_url(kvs: Cli, url: str) -> None:
    by_name = json.loads(kvs.run("cluster", "status", "--local", "node2", "--json").out)
    assert by_name["node_id"] == "node2"
    asked = kvs.run("cluster", "status", "--json", environ={"KVS_URL": url})
    assert json.loads(asked.out)["node_id"] == "node1"


def test_a_node_with_accounts_asks_for_a_token(kvs: Cli) -> None:
    path = kvs.config("strict.yaml", f"cluster_secret: {SECRET}\n")
    path.write_text(path.read_text().replace("auth_enabled: false\nclustering_enabled: false\n", ""))
    assert kvs.run("start", path).code == 0
    url = str(kvs.status(path)["url"])
    refused = kvs.run("cluster", "status", "--url", url)
    assert (refused.code, refused.err) == (4, "kvs: a valid token is needed (401 unauthorized)\n")
    local = kvs.run("cluster", "status", "--local", "strict", "--json")
    assert local.code == 0, local.all
    made = kvs.run("token", "create", "--local", "strict", "--scopes", "admin:audit")
    token = made.out.strip()
    with_token = kvs.run("cluster", "status", "--url", url, "--json", environ={"KVS_TOKEN": token})
    assert with_token.code == 0, with_token.all
    assert SECRET not in local.all + with_token.all


def test_a_lone_node_has_no_cluster(kvs: Cli) -> None:
    path = kvs.config("alone.yaml")
    assert kvs.run("start", path).code == 0
    shown = kvs.run("cluster", "status", "--local", "alone")
    assert (shown.code, shown.err) == (3, "kvs: this node is alone: its clustering_enabled is false\n")
    removed = kvs.run("cluster", "remove", "node2", "--local", "alone")
    assert removed.code == 1
    assert removed.err.startswith("kvs: ")
    assert "clustering_enabled" in removed.err


def test_nobody_there(kvs: Cli) -> None:
    assert kvs.run("cluster", "status", "--url", "http://127.0.0.1:9").code == 6
    path = kvs.config("off.yaml", f"cluster_secret: {SECRET}\n")
    path.write_text(path.read_text().replace("clustering_enabled: false\n", ""))
    for words in (["status"], ["remove", "node2"]):
        stopped = kvs.run("cluster", *words, "--local", "off")
        assert stopped.code == 3, stopped.all
        assert "does not run" in stopped.err


def test_remove(kvs: Cli, url: str) -> None:
    up = kvs.run("cluster", "remove", "node2", "--local", "node1")
    assert (up.code, up.err) == (5, "kvs: node2 is up; stop it before it is removed (409 member_is_up)\n")
    assert kvs.run("stop", "node2").code == 0
    assert eventually(lambda: [m["status"] for m in view(kvs, url)["members"]] == ["alive", "left"], _TIMEOUT_S)
    removed = kvs.run("cluster", "remove", "node2", "--local", "node1")
    assert (removed.code, removed.out, removed.err) == (0, "", "removed node2\n")
    assert [member["id"] for member in view(kvs, url)["members"]] == ["node1"]
    again = kvs.run("cluster", "remove", "node2", "--local", "node1", "--json")
    assert (again.code, again.err) == (3, "kvs: no member has the id node2 (404 unknown_member)\n")
    assert SECRET not in removed.all + again.all


def test_remove_says_what_it_did_in_json(kvs: Cli, url: str) -> None:
    assert kvs.run("stop", "node2").code == 0
    removed = kvs.run("cluster", "remove", "node2", "--local", "node1", "--json")
    assert (removed.code, json.loads(removed.out)) == (0, {"removed": "node2"})


def test_a_removal_reaches_the_others(kvs: Cli, url: str) -> None:
    third = start(kvs, "node3", seed=url)
    assert eventually(lambda: all_equal(kvs, third), _TIMEOUT_S)
    assert kvs.run("stop", "node2").code == 0
    assert kvs.run("cluster", "remove", "node2", "--local", "node1").code == 0
    assert eventually(lambda: [m["id"] for m in view(kvs, third)["members"]] == ["node1", "node3"], _TIMEOUT_S)


def test_remove_needs_to_know_where(kvs: Cli) -> None:
    wrong = kvs.run("cluster", "remove", "node2")
    assert wrong.code == 2
    assert "--local" in wrong.err
