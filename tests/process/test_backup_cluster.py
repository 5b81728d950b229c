"""Restoring in a cluster of real nodes: what was revoked and deleted since the backup stays so, on every node, at every
moment; and a whole cluster comes back from the backup of one node."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kvs.auth.scopes import ALL
from tests.process.cli import Cli
from tests.process.cluster import Cluster, Node, allowed, seconds_until, three

LONG_S = 60.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that ask for tokens; the first has made the root account, and all know of it."""
    with ExitStack() as ends:
        made = ends.enter_context(contextmanager(three)(tmp_path, auth_enabled=True))
        seconds_until(lambda: is_ready(made), LONG_S)
        root = root_token(made.nodes[0])
        seconds_until(lambda: all(node.ask("GET", "/kv/any", token=root).status == 404 for node in made.nodes), LONG_S)
        yield made


def is_ready(cluster: Cluster) -> bool:
    return cluster.all_see() and {node.mode() for node in cluster.up} == {"normal"}


def root_token(node: Node) -> str:
    (found,) = {line.removeprefix("Token: ") for line in node.daemon.log if line.startswith("Token: ")}
    return found


def back_up(node: Node, token: str) -> Path:
    made = node.ask("POST", "/api/backup?timeout=1m", token=token)
    assert made.status == 201, made
    return node.daemon.folder / "backups" / str(made.json()["name"])


def restore(node: Node, backup: Path) -> None:
    """With the command, into the empty folder of a node that does not run."""
    node.wipe()
    done = Cli(node.daemon.folder).run("backup", "restore", backup, node.daemon.folder / f"{node.name}.yaml")
    assert done.code == 0, done


def values(node: Node, token: str, keys: list[str]) -> list[object]:
    return [
        answer.json()["data"] if (answer := node.ask("GET", f"/kv/{key}", token=token)).status == 200 else None
        for key in keys
    ]


def test_what_was_revoked_and_deleted_since_the_backup_stays_so(cluster: Cluster) -> None:
    n1, n2, n3 = cluster.nodes
    root = root_token(n1)
    user = n1.ask("POST", "/api/users", {"nickname": "ann"}, root).json()["uuid"]
    made = n1.ask("POST", "/api/tokens", {"user_uuid": user, "scopes": list(ALL)}, root).json()
    revoked = str(made["token"])
    keys = ["kept", "deleted", "changed", "new"]
    for key in keys[:3]:
        assert n1.ask("PUT", f"/kv/{key}?w=3", 1, root).status == 201
    seconds_until(lambda: n3.ask("GET", "/kv/kept", token=revoked).status == 200, LONG_S)
    backup = back_up(n3, root)
    assert n2.ask("DELETE", f"/api/tokens/{made['token_id']}", token=root).status == 204
    assert n2.ask("DELETE", "/kv/deleted", token=root).status == 204
    assert n2.ask("PUT", "/kv/changed?w=3", 2, root).status == 200
    assert n2.ask("PUT", "/kv/new?w=3", 3, root).status == 201
    instance = {member["id"]: member for member in n1.ask("GET", "/members/").json()}["n3"]["joined_timestamp"]
    n3.stop()
    restore(n3, backup)
    n3.start()
    # From the first answer on. While it does not know, it judges no token: neither a good one nor a revoked one.
    statuses = set()

    def is_normal() -> bool:
        statuses.add(n3.ask("GET", "/kv/kept", token=revoked).status)
        return n3.mode() == "normal"

    seconds_until(is_normal, allowed(LONG_S))
    statuses.add(n3.ask("GET", "/kv/kept", token=revoked).status)
    assert statuses <= {401, 503}
    assert n3.ask("GET", "/kv/kept", token=revoked).status == 401
    seconds_until(lambda: values(n3, root, keys) == [1, None, 2, 3], LONG_S)
    seconds_until(lambda: is_ready(cluster) and len(set(cluster.roots())) == 1, LONG_S)
    for node in cluster.nodes:
        assert values(node, root, keys) == [1, None, 2, 3]
        assert node.ask("GET", "/kv/kept", token=revoked).status == 401
    again = {member["id"]: member for member in n1.ask("GET", "/members/").json()}["n3"]["joined_timestamp"]
    assert again > instance, "it is a new instance"


def test_a_whole_cluster_comes_back_from_the_backup_of_one_node(cluster: Cluster) -> None:
    n1, n2, n3 = cluster.nodes
    root = root_token(n1)
    keys = [f"key{number}" for number in range(5)]
    for key in keys:
        assert n1.ask("PUT", f"/kv/{key}?w=3", key, root).status == 201
    backup = back_up(n2, root)
    for node in cluster.nodes:
        node.stop()
    restore(n1, backup)
    for node in (n2, n3):
        node.wipe()
        node.daemon.configure({"bootstrap_patience": 2})
    n1.daemon.configure({"bootstrap_patience": 2})
    cluster.start()
    seconds_until(lambda: is_ready(cluster), LONG_S)
    for node in cluster.nodes:
        seconds_until(lambda node=node: values(node, root, keys) == keys, LONG_S)  # type: ignore[misc]
    assert n3.ask("PUT", "/kv/new?w=3", 1, root).status == 201


def test_a_merge_into_one_node_reaches_all(cluster: Cluster) -> None:
    n1, n2, n3 = cluster.nodes
    root = root_token(n1)
    keys = ["lost", "changed"]
    for key in keys:
        assert n1.ask("PUT", f"/kv/{key}?w=3", 1, root).status == 201
    backup = back_up(n1, root)
    assert n1.ask("PUT", "/kv/changed?w=3", 2, root).status == 200
    # Every node loses its data; the first one begins anew.
    for node in cluster.nodes:
        node.stop()
        node.wipe()
    cluster.start()
    seconds_until(lambda: is_ready(cluster), LONG_S)
    token = root_token_of_second_life(n1, root)
    assert n1.ask("PUT", "/kv/changed?w=3", 3, token).status == 201
    environment = {"KVS_TOKEN": token, "KVS_URL": n1.daemon.url}
    merged = Cli(n1.daemon.folder).run("backup", "restore", backup, environ=environment)
    assert merged.code == 0, merged
    for node in (n2, n3):
        seconds_until(lambda node=node: values(node, token, keys) == [1, 3], LONG_S)  # type: ignore[misc]
    assert values(n1, root, keys) == [1, 3], "the token of before is good again"


def root_token_of_second_life(node: Node, first: str) -> str:
    found = [line.removeprefix("Token: ") for line in node.daemon.log if line.startswith("Token: ")]
    return next(token for token in found if token != first)
