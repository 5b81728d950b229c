"""Tokens in a cluster of real nodes: one secret signs them for all, and who is revoked is revoked everywhere."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kvs.auth.scopes import ALL
from tests.process.cluster import SECRET, Cluster, Node, allowed, seconds_until, three

LONG_S = 60.0
NEW_SECRET = "An0ther-secret-that-takes-the-place-of-the-first"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that ask for tokens; the first has made the root account."""
    with ExitStack() as ends:
        made = ends.enter_context(contextmanager(three)(tmp_path, auth_enabled=True))
        seconds_until(lambda: takes_writes(made), LONG_S)
        yield made


def takes_writes(cluster: Cluster) -> bool:
    """Whether every node does, and sees all others."""
    return cluster.all_see() and {node.mode() for node in cluster.nodes} == {"normal"}


def first_account(node: Node) -> dict[str, str]:
    lines = (line.partition(": ") for line in node.daemon.log if not line.startswith("{"))
    return {label: value for label, separator, value in lines if separator}


def made(node: Node, path: str, token: str, document: object) -> dict[str, str]:
    answer = node.ask("POST", path, document, token)
    assert answer.status == 201, answer
    return dict(answer.json())


def good_on(token: str) -> Callable[[Node], bool]:
    def ask(node: Node) -> bool:
        status = node.ask("GET", "/kv/any", token=token).status
        assert status in (401, 404)
        return status == 404

    return ask


def everywhere(cluster: Cluster, token: str, *, good: bool, timeout_s: float) -> float:
    """How long it took until the token was good on every node, or on none."""
    return seconds_until(lambda: {good_on(token)(node) for node in cluster.nodes} == {good}, timeout_s)


def test_a_token_of_one_node_is_good_on_all_until_it_is_revoked_on_any(cluster: Cluster) -> None:
    n1, n2, n3 = cluster.nodes
    root = first_account(n1)["Token"]
    assert first_account(n2) == first_account(n3) == {}
    everywhere(cluster, root, good=True, timeout_s=LONG_S)
    user = made(n2, "/api/users", root, {"nickname": "ann"})["uuid"]
    asked = {"user_uuid": user, "scopes": ["read", "write", "delete"]}
    token = made(n2, "/api/tokens", root, asked)
    other = made(n2, "/api/tokens", root, asked)["token"]
    good_s = everywhere(cluster, token["token"], good=True, timeout_s=LONG_S)
    everywhere(cluster, other, good=True, timeout_s=LONG_S)
    assert n3.ask("DELETE", f"/api/tokens/{token['token_id']}", token=root).status == 204
    gone_s = everywhere(cluster, token["token"], good=False, timeout_s=LONG_S)
    everywhere(cluster, other, good=True, timeout_s=LONG_S)
    assert n1.ask("DELETE", f"/api/users/{user}", token=root).status == 204
    deleted_s = everywhere(cluster, other, good=False, timeout_s=LONG_S)
    print(f"\ngood everywhere {good_s:.3f} s, revoked {gone_s:.3f} s, user deleted {deleted_s:.3f} s after the answer")
    assert max(good_s, gone_s, deleted_s) < allowed(1)
    n2.kill()
    n2.start()
    assert not good_on(token["token"])(n2)
    assert not good_on(other)(n2)


def test_a_deleted_user_stays_deleted_where_the_other_side_of_a_cut_changed_his_group_later(cluster: Cluster) -> None:
    n1, n2, n3 = cluster.nodes
    root = first_account(n1)["Token"]
    everywhere(cluster, root, good=True, timeout_s=LONG_S)
    user = made(n1, "/api/users", root, {"nickname": "mallory"})["uuid"]
    group = made(n1, "/api/groups", root, {"groupname": "team", "members": [user]})["uuid"]
    token = made(n1, "/api/tokens", root, {"user_uuid": user, "scopes": ["read", "write", "delete"]})["token"]
    everywhere(cluster, token, good=True, timeout_s=LONG_S)
    cluster.part([n1], [n2, n3])
    assert n1.ask("DELETE", f"/api/users/{user}", token=root).status == 204
    assert not good_on(token)(n1)
    assert n2.ask("DELETE", f"/api/groups/{group}", token=root).status == 204  # that writes the user once more
    assert good_on(token)(n2), "it has not heard of it"
    cluster.heal()
    everywhere(cluster, token, good=False, timeout_s=LONG_S)
    seconds_until(lambda: len(set(cluster.roots())) == 1, LONG_S)
    for node in cluster.nodes:
        assert not good_on(token)(node)
        assert node.ask("GET", f"/api/users/{user}", token=root).status == 404
        assert user not in {one["uuid"] for one in node.ask("GET", "/api/users", token=root).json()["users"]}


def test_tokens_outlive_the_secret_that_signed_them_while_it_is_named(cluster: Cluster) -> None:
    old = first_account(cluster.nodes[0])["Token"]
    user = first_account(cluster.nodes[0])["User UUID"]
    everywhere(cluster, old, good=True, timeout_s=LONG_S)
    restart_all(cluster, cluster_secret=NEW_SECRET, cluster_secret_previous=SECRET)
    everywhere(cluster, old, good=True, timeout_s=LONG_S)
    new = made(cluster.nodes[1], "/api/tokens", old, {"user_uuid": user, "scopes": list(ALL)})["token"]
    everywhere(cluster, new, good=True, timeout_s=LONG_S)
    restart_all(cluster, cluster_secret_previous="")
    everywhere(cluster, new, good=True, timeout_s=LONG_S)
    everywhere(cluster, old, good=False, timeout_s=LONG_S)


@pytest.mark.slow
def test_a_secret_is_replaced_node_by_node_and_no_peer_is_refused(cluster: Cluster) -> None:
    """Each node first takes the new one too, then uses it, then forgets the old one. The cluster is whole all along."""
    user = first_account(cluster.nodes[0])["User UUID"]
    tokens = [first_account(cluster.nodes[0])["Token"]]
    seeds = [node.address for node in cluster.nodes]
    for settings in (
        {"cluster_secret_previous": NEW_SECRET},
        {"cluster_secret": NEW_SECRET, "cluster_secret_previous": SECRET},
        {"cluster_secret_previous": ""},
    ):
        for node in cluster.nodes:
            everywhere(cluster, tokens[-1], good=True, timeout_s=LONG_S)
            node.stop()
            node.daemon.configure({**settings, "seed_nodes": seeds})
            node.start()
            seconds_until(lambda: takes_writes(cluster), LONG_S)
        if settings["cluster_secret_previous"]:
            asked = {"user_uuid": user, "scopes": list(ALL)}
            tokens.append(made(cluster.nodes[2], "/api/tokens", tokens[-1], asked)["token"])
    everywhere(cluster, tokens[-1], good=True, timeout_s=LONG_S)
    everywhere(cluster, tokens[0], good=False, timeout_s=LONG_S)
    assert not any(node.events("A peer was refused: wrong or missing secret") for node in cluster.nodes)


def restart_all(cluster: Cluster, **settings: object) -> None:
    """With these settings; then all see each other again."""
    for node in cluster.nodes:
        node.stop()
        node.daemon.configure(settings)
    cluster.start()
    seconds_until(lambda: takes_writes(cluster), LONG_S)
