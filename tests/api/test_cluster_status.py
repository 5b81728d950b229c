"""What operators ask a node about its cluster: the status, what a new node needs, and removing one that is gone."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from kvs.auth import scopes, secrets
from kvs.auth.tokens import LOCAL_SCHEME, derive_key, issue_local
from kvs.limits import BOOTSTRAP_SEEDS_MAX
from tests.api.accounts import Caller, Place, place
from tests.api.peers import CLUSTER, PEER1, SECRET, Peer, root_hash
from tests.api.running import Clock, RunningNode
from tests.process.eventually import eventually

NOW_MS = Clock().now_ms
STATUS, BOOTSTRAP = "/api/cluster/status", "/auth/cluster-bootstrap"
QUIET = {**CLUSTER, "probe_interval_ms": 3_600_000, "probe_timeout_ms": 100}
"""Settings of a node that hears peers, and does not ask them whether they live."""
NOWHERE = "127.0.0.1:9"
_TIMEOUT_S = 20.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """Starts nodes (settings are those of the configuration) and gives a peer of each."""
    with ExitStack() as ends:

        def started(node_id: str = "node1", clock: Clock | None = None, **settings: Any) -> Peer:
            node = RunningNode(tmp_path / node_id, clock=clock, node_id=node_id, **settings)
            ends.callback(node.stop)
            peer = Peer(node.address)
            ends.callback(peer.close)
            return peer

        yield started


@pytest.fixture
def peer(start: Callable[..., Peer]) -> Peer:
    """The only peer that the node has heard of. The node's clock stands still."""
    return start(clock=Clock(), **QUIET)


def ping(peer: Peer, *, ahead_ms: int = 0, root: str = "ab", proven: int = 7, gc_floor: int = 0) -> None:
    digest = {"root": root, "count": 1, "proven": proven, "gc_floor": gc_floor}
    document = {"sender": {**PEER1, "last_seen": NOW_MS + ahead_ms}, "to": "node1", "digest": digest}
    peer.ask("/members/ping", document)


def status(peer: Caller | Peer) -> Any:
    reply = peer.get(STATUS)
    assert reply.status == 200, reply
    return reply.json


def member(peer: Peer, node_id: str = "peer1") -> Any:
    return {each["id"]: each for each in status(peer)["members"]}[node_id]


def address_of(peer: Peer) -> str:
    return f"{peer.address[0]}:{peer.address[1]}"


def is_ahead(shown_ms: int, ahead_ms: int) -> bool:
    """The node's wall clock stands still in these tests, so its peers get ahead of it as time goes by."""
    return ahead_ms <= shown_ms < ahead_ms + 1000 * _TIMEOUT_S


# --- the status ---


def test_a_node_that_has_met_nobody(peer: Peer) -> None:
    peer.put("/kv/a", b"1")
    born = peer.get("/members/").json[0]
    assert status(peer) == {
        "node_id": "node1",
        "mode": "normal",
        "phase": "settled",
        "isolated": False,
        "root": root_hash(peer),
        "records": 1,
        "gc_floor": 0,
        "proven": NOW_MS - 60_000,
        "clock_offset_ms": None,
        "comparing_with": None,
        "scrub": status(peer)["scrub"],
        "clone": None,
        "members": [
            {
                **born,
                "root_equal": None,
                "last_equal": None,
                "proven": None,
                "waiting": 0,
                "refused": 0,
                "cut_off": False,
                "clock_offset_ms": None,
                "last_comparison": None,
            }
        ],
    }


def test_what_a_peer_says_is_shown(peer: Peer) -> None:
    ping(peer, ahead_ms=1234)
    shown = member(peer)
    assert (shown["status"], shown["address"], shown["joined_timestamp"]) == ("alive", NOWHERE, 1)
    assert is_ahead(shown["clock_offset_ms"], 1234)
    assert is_ahead(status(peer)["clock_offset_ms"], 1234)
    assert (shown["root_equal"], shown["last_equal"], shown["proven"]) == (False, None, 7)
    assert status(peer)["proven"] == 0
    ping(peer, root=root_hash(peer), proven=9)
    shown = member(peer)
    assert (shown["root_equal"], shown["last_equal"], shown["proven"]) == (True, NOW_MS, 9)
    assert status(peer)["proven"] == NOW_MS - 60_000
    ping(peer, root="cd")
    shown = member(peer)
    assert (shown["root_equal"], shown["last_equal"]) == (False, NOW_MS)


def test_a_comparison_that_fails_is_shown_with_its_reason(peer: Peer) -> None:
    ping(peer)
    assert eventually(lambda: member(peer)["last_comparison"], _TIMEOUT_S)
    failed = member(peer)["last_comparison"]
    assert {**failed, "failure": ""} == {
        "at": NOW_MS,
        "fetched": 0,
        "sent": 0,
        "set_aside": 0,
        "refused": 0,
        "questions": 1,
        "behind": False,
        "failure": "",
    }
    assert failed["failure"]


def test_a_node_with_a_wrong_clock_is_not_ready(peer: Peer) -> None:
    for ahead_ms, ready in ((60_001, False), (30_000, True), (-90_000, False)):
        ping(peer, ahead_ms=ahead_ms)
        reply = peer.get("/ready")
        assert (reply.status, reply.json) == (200 if ready else 503, {"ready": ready, "mode": "normal"})
        assert peer.get("/health").status == 200
        assert is_ahead(status(peer)["clock_offset_ms"], ahead_ms)


def test_who_has_seeds_and_meets_nobody_is_isolated(start: Callable[..., Peer]) -> None:
    peer = start(seed_nodes=(NOWHERE,), bootstrap_patience=0.1, **QUIET)
    assert status(peer)["isolated"]
    assert status(peer)["mode"] in ("syncing", "normal")
    assert eventually(lambda: status(peer)["mode"] == "normal", _TIMEOUT_S)
    assert (status(peer)["phase"], status(peer)["isolated"]) == ("settled", True)
    ping(peer)
    assert not status(peer)["isolated"]
    assert peer.send("DELETE", "/members/leave", b'{"id":"peer1","incarnation":1}').status == 204
    assert status(peer)["isolated"]


def test_two_nodes_find_each_other_equal(start: Callable[..., Peer]) -> None:
    settings = {**CLUSTER, "probe_interval_ms": 50, "probe_timeout_ms": 50}
    first = start("node1", **settings)
    second = start("node2", seed_nodes=(address_of(first),), **settings)
    assert eventually(lambda: status(second)["mode"] == "normal", _TIMEOUT_S)
    assert second.put("/kv/a", b"1").status == 201
    assert eventually(lambda: status(first)["records"] == 1, _TIMEOUT_S)
    for here, there in ((first, "node2"), (second, "node1")):
        assert eventually(lambda: member(here, there)["root_equal"], _TIMEOUT_S)  # noqa: B023 - called at once
        assert member(here, there)["last_equal"] > 0
        assert member(here, there)["waiting"] == 0
    assert status(first)["root"] == status(second)["root"] == root_hash(first)
    assert status(first)["comparing_with"] in (None, "node2")


def test_a_node_that_is_filled_after_a_value_ended_is_equal_at_once(start: Callable[..., Peer]) -> None:
    """The value is on the first one's disk for minutes still. Nobody sees it, and nothing is to be mended."""
    settings = {**CLUSTER, "probe_interval_ms": 50, "probe_timeout_ms": 50}
    first = start("node1", **settings)
    for value in (b"1", b"2"):
        assert first.put("/kv/ends?ttl=200ms", value).status in (200, 201)
    assert first.put("/kv/short?ttl=200ms", b"1").status == 201
    assert first.put("/kv/stays", b"1").status == 201
    assert eventually(lambda: {first.get(f"/kv/{key}").status for key in ("ends", "short")} == {404}, _TIMEOUT_S)
    second = start("node2", seed_nodes=(address_of(first),), **settings)
    assert eventually(lambda: status(second)["mode"] == "normal", _TIMEOUT_S)
    assert root_hash(first) == root_hash(second)
    assert [pair["path"] for pair in second.get("/kv/_range").json["pairs"]] == ["stays"]
    assert second.get("/kv/ends").status == second.get("/kv/short").status == 404
    for here, there in ((first, "node2"), (second, "node1")):
        assert eventually(lambda: member(here, there)["root_equal"], _TIMEOUT_S)  # noqa: B023 - called at once
        assert (member(here, there)["last_comparison"] or {"fetched": 0})["fetched"] == 0


# --- who may ask ---


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node with authentication, in a cluster of its own."""
    with place(tmp_path_factory.mktemp("status") / "data", **QUIET) as made:
        yield made


@pytest.mark.parametrize("scope", scopes.ALL)
def test_the_status_is_for_administrators_of_anything(at: Place, scope: str) -> None:
    asked = at.user(scope).ask
    assert asked.get(STATUS).status == asked.send("HEAD", STATUS).status == (200 if "admin" in scope else 403)


@pytest.mark.parametrize("scope", scopes.ALL)
def test_the_secret_is_for_who_makes_tokens(at: Place, scope: str) -> None:
    asked = at.user(scope).ask
    expected = 200 if scope == "admin:tokens:create" else 403
    assert asked.get(BOOTSTRAP).status == asked.send("HEAD", BOOTSTRAP).status == expected


def test_nobody_else_is_told(at: Place) -> None:
    for target in (STATUS, BOOTSTRAP):
        assert at.caller().get(target).status == 401
        assert at.caller("no token").get(target).status == 401
        peer = Peer(at.node.address)
        assert peer.get(target).status == 401, "the cluster's secret opens no route of users"
        peer.close()


def test_the_operator_on_the_host_may_ask(at: Place) -> None:
    key = derive_key(secrets.load(at.folder), "local")
    asked = at.caller()
    asked.authorization = f"{LOCAL_SCHEME} {issue_local(key, jti='1', now_ms=at.clock.now_ms)}"
    assert asked.get(STATUS).status == 200
    assert asked.get(BOOTSTRAP).status == 200


def test_other_methods_are_refused(at: Place) -> None:
    for target in (STATUS, BOOTSTRAP):
        reply = at.root.ask.post(target)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


def test_a_node_without_accounts_tells_everybody_its_status_and_nobody_the_secret(peer: Peer) -> None:
    asked = Caller(peer.address)
    assert asked.get(STATUS).status == 200
    assert (asked.get(BOOTSTRAP).status, asked.get(BOOTSTRAP).code) == (404, "unknown_route")
    asked.close()


def test_a_lone_node_has_neither(start: Callable[..., Peer], tmp_path: Path) -> None:
    alone = start()
    assert (alone.get(STATUS).status, alone.get(STATUS).code) == (404, "unknown_route")
    with place(tmp_path / "data") as strict:
        for target in (STATUS, BOOTSTRAP):
            assert strict.root.ask.get(target).code == "unknown_route"


# --- what a new node needs ---


def test_a_new_node_is_given_the_secret_and_whom_to_ask(at: Place) -> None:
    reply = at.root.ask.get(BOOTSTRAP)
    host, port = at.node.address
    assert reply.json == {"cluster_secret": SECRET, "seed_nodes": [f"{host}:{port}"]}
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-type"] == "application/json"


def test_a_node_names_itself_first_then_who_is_up(tmp_path: Path) -> None:
    with place(tmp_path / "data", **QUIET) as made:
        for number in range(BOOTSTRAP_SEEDS_MAX):
            joined = {**PEER1, "id": f"p{number}", "address": f"127.0.0.1:{number + 1}"}
            peer = Peer(made.node.address, node_id=f"p{number}")
            peer.ask("/members/join", joined)
            peer.close()
        peer = Peer(made.node.address)
        assert peer.send("DELETE", "/members/leave", b'{"id":"p0","incarnation":1}').status == 204
        peer.close()
        host, port = made.node.address
        seeds = made.root.ask.get(BOOTSTRAP).json["seed_nodes"]
        assert seeds == [f"{host}:{port}", *(f"127.0.0.1:{number + 1}" for number in range(1, BOOTSTRAP_SEEDS_MAX))]


def test_without_a_secret_nobody_can_join(tmp_path: Path) -> None:
    with place(tmp_path / "data", clustering_enabled=True) as made:
        reply = made.root.ask.get(BOOTSTRAP)
        assert (reply.status, reply.code) == (404, "not_found")


# --- who counts for copies ---


def put_on(peer: Peer, nodes: int) -> tuple[int, object]:
    """The status of a write that is to be on so many nodes, and how many have it."""
    reply = peer.put(f"/kv/copies?w={nodes}&timeout=50ms", b"1")
    return reply.status, reply.json.get("replicated")


def test_a_write_may_wait_for_all_that_are_known_and_not_removed(peer: Peer) -> None:
    assert put_on(peer, 2) == (400, None)
    ping(peer)
    assert put_on(peer, 2) == (202, 1)
    assert put_on(peer, 3) == (400, None)
    assert peer.send("DELETE", "/members/leave", b'{"id":"peer1","incarnation":1}').status == 204
    assert put_on(peer, 2) == (202, 1), "a step of a rolling restart refuses no write"
    assert remove(peer, "peer1") == (204, None)
    assert put_on(peer, 2) == (400, None)
    assert put_on(peer, 1) == (200, None)


def test_a_write_may_wait_for_those_that_were_not_heard_since_a_restart(tmp_path: Path) -> None:
    for asked in range(2):
        node = RunningNode(tmp_path / "data", clock=Clock(), **QUIET)
        peer = Peer(node.address)
        try:
            if not asked:
                ping(peer)
            assert eventually(lambda: status(peer)["mode"] == "normal", _TIMEOUT_S)  # noqa: B023 - called at once
            assert member(peer)["status"] == ("remembered" if asked else "alive")
            assert put_on(peer, 2) == (202, 1)
            assert put_on(peer, 3) == (400, None)
        finally:
            peer.close()
            node.stop()


# --- removing a node for good ---


def remove(peer: Peer, node_id: str) -> tuple[int, object]:
    reply = peer.send("DELETE", "/members/leave", b'{"id":"%b","remove":true}' % node_id.encode())
    return reply.status, reply.code if reply.body else None


def test_who_is_up_or_unknown_is_not_removed(peer: Peer) -> None:
    ping(peer)
    assert remove(peer, "peer1") == (409, "member_is_up")
    assert remove(peer, "node1") == (409, "this_node")
    assert remove(peer, "nobody") == (404, "unknown_member")
    assert member(peer)["status"] == "alive"


def test_a_node_that_left_is_waited_for_until_it_is_removed(peer: Peer) -> None:
    ping(peer)
    assert peer.send("DELETE", "/members/leave", b'{"id":"peer1","incarnation":1}').status == 204
    assert (member(peer)["status"], status(peer)["proven"]) == ("left", 0)
    assert remove(peer, "peer1") == (204, None)
    assert [each["id"] for each in status(peer)["members"]] == ["node1"]
    assert eventually(lambda: status(peer)["proven"] == NOW_MS - 60_000, _TIMEOUT_S)
    assert remove(peer, "peer1") == (404, "unknown_member")


def test_a_removed_node_that_comes_back_is_a_member_again(peer: Peer) -> None:
    ping(peer)
    peer.send("DELETE", "/members/leave", b'{"id":"peer1","incarnation":1}')
    assert remove(peer, "peer1") == (204, None)
    ping(peer)
    assert len(status(peer)["members"]) == 1, "an old word of it does not bring it back"
    peer.ask("/members/join", {**PEER1, "incarnation": 2})
    assert member(peer)["status"] == "alive"


def test_a_node_that_left_the_list_is_shown_and_can_be_removed(start: Callable[..., Peer]) -> None:
    peer = start(clock=Clock(), **{**QUIET, "probe_interval_ms": 20, "probe_timeout_ms": 10}, **_SHORT)
    ping(peer)
    assert eventually(lambda: len(peer.get("/members/").json) == 1, _TIMEOUT_S)
    assert member(peer)["status"] == "remembered"
    assert status(peer)["isolated"]
    assert remove(peer, "peer1") == (204, None)
    assert len(status(peer)["members"]) == 1
    assert eventually(lambda: status(peer)["proven"] == NOW_MS - 60_000, _TIMEOUT_S)


_SHORT = {"suspicion_timeout": 0.1, "member_timeout": 0.1}


@pytest.mark.parametrize("word", [b"1", b'"yes"', b"null", b"[]"])
def test_the_order_is_a_switch(peer: Peer, word: bytes) -> None:
    ping(peer)
    reply = peer.send("DELETE", "/members/leave", b'{"id":"peer1","remove":%b}' % word)
    assert (reply.status, reply.code) == (400, "invalid_body")
    assert member(peer)["status"] == "alive"


def test_only_peers_give_the_order(peer: Peer) -> None:
    stranger = Caller(peer.address)
    assert stranger.send("DELETE", "/members/leave", b'{"id":"peer1","remove":true}').status == 401
    stranger.close()
