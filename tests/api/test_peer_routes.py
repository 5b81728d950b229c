"""Routes for peers: who may ask, and what holds for all of them."""

import json
from collections.abc import Callable, Iterator
from unittest.mock import Mock

import pytest

from kvs.auth.scopes import ALL
from kvs.limits import AUDIT_OFFER_MAX_BYTES, MEMBER_LIST_MAX_BYTES, PEER_BODY_MAX_BYTES, PING_MAX_BYTES
from kvs.server.handlers.audit import AuditPeers
from kvs.server.handlers.context import Context
from kvs.server.handlers.members import Members
from kvs.server.handlers.peers import Peers
from kvs.server.routes import routes
from tests.api.accounts import Caller, Place, place, steady
from tests.api.client import Client, Reply
from tests.api.peers import CLUSTER, PEER_CALLS, SECRET, WITH_BODY, Peer

Route = tuple[str, str]
ROUTES = sorted(PEER_CALLS)
MEMBERS = "/members/"
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
REFUSAL = {"title": "Unauthorized", "status": 401, "detail": "a valid token is needed", "code": "unauthorized"}


def name(route: object) -> str:
    return " ".join(route) if isinstance(route, tuple) else str(route)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("peers") / "data", **CLUSTER) as made:
        yield made


@pytest.fixture
def peer(at: Place) -> Iterator[Peer]:
    made = Peer(at.node.address)
    yield made
    made.close()


@pytest.fixture
def stranger(at: Place) -> Iterator[Client]:
    """Somebody without any credentials."""
    made = Client(at.node.address)
    yield made
    made.close()


def _ask(client: Client, route: Route, headers: dict[str, str]) -> Reply:
    return client.send(*route, PEER_CALLS[route].body, headers)


def test_every_route_of_peers_is_tested() -> None:
    made = routes(
        Mock(spec=Context), None, Mock(), Mock(spec=Members), Mock(spec=Peers), audit_peers=Mock(spec=AuditPeers)
    )
    assert sorted((route.method, route.template) for route in made if route.access.peer) == ROUTES


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_peers_are_answered(peer: Peer, route: Route) -> None:
    reply = _ask(peer, route, {})
    assert reply.status in (PEER_CALLS[route].status, 204)
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_the_name_of_the_head_field_may_be_in_any_case(stranger: Client, route: Route) -> None:
    for field in ("x-cluster-secret", "X-CLUSTER-SECRET"):
        reply = _ask(stranger, route, {field: SECRET, "x-node-id": "peer1"})
        assert reply.status in (PEER_CALLS[route].status, 204)


WRONG = {
    "none": {},
    "empty": {"X-Cluster-Secret": ""},
    "another": {"X-Cluster-Secret": "x" * len(SECRET)},
    "in lower case": {"X-Cluster-Secret": SECRET.lower()},
    "one letter off": {"X-Cluster-Secret": SECRET[:-1] + "x"},
    "its beginning": {"X-Cluster-Secret": SECRET[:-1]},
    "with more behind": {"X-Cluster-Secret": SECRET + "x"},
    "not ASCII": {"X-Cluster-Secret": "é" * 20},
    "twice": {"X-Cluster-Secret": SECRET, "x-cluster-secret": SECRET},
    "a right and a wrong one": {"X-Cluster-Secret": SECRET, "x-cluster-secret": "wrong"},
    "a wrong and a right one": {"X-Cluster-Secret": "wrong", "x-cluster-secret": SECRET},
    "joined": {"X-Cluster-Secret": f"{SECRET}, {SECRET}"},
    "as a token": {"Authorization": f"Bearer {SECRET}"},
    "as a local token": {"Authorization": f"KVS-Local {SECRET}"},
    "as an id": {"X-Node-ID": SECRET},
    "under another name": {"Cluster-Secret": SECRET},
    "as a cookie": {"Cookie": f"X-Cluster-Secret={SECRET}"},
}


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_everybody_else_learns_nothing(
    at: Place, stranger: Client, route: Route, capfd: pytest.CaptureFixture[str]
) -> None:
    before = stranger.get(MEMBERS).body
    named = {"X-Node-ID": "peer1", "X-Request-ID": "same"}
    answers = {_told(_ask(stranger, route, {**named, **wrong})) for wrong in WRONG.values()}
    answers.add(_told(_ask(at.root.ask, route, named)))
    answers.add(_told(stranger.send(*route, b"\xff" * 100, {**named, "X-Node-ID": "node1"})))
    assert len(answers) == 1
    assert stranger.get(MEMBERS).body == before
    assert SECRET not in "".join(capfd.readouterr())


def _told(reply: Reply) -> str:
    """All of a refusal but what names this one answer."""
    status, headers, body = steady(reply)
    headers.pop("connection", None)
    assert status == 401
    assert headers["www-authenticate"] == "Bearer"
    assert {name: value for name, value in reply.json.items() if name != "request_id"} == REFUSAL
    return json.dumps([sorted(headers.items()), body.decode()])


def test_anybody_may_see_the_members(at: Place, stranger: Client, peer: Peer) -> None:
    for asker in (stranger, peer, at.root.ask, at.caller("nonsense")):
        for target in (MEMBERS, MEMBERS.rstrip("/")):
            reply = asker.get(target)
            assert reply.status == 200
            mine = next(member for member in reply.json if member["id"] == "node1")
            assert set(mine) == {"id", "address", "last_seen", "joined_timestamp", "status"}
            assert mine["status"] == "alive"
            assert mine["address"] == "{}:{}".format(*at.node.address)


def test_the_secret_opens_nothing_for_users(at: Place, peer: Peer) -> None:
    targets = [
        ("GET", "/kv/a"),
        ("PUT", "/kv/a"),
        ("GET", "/kv/_range"),
        ("GET", "/api/users"),
        ("POST", "/api/tokens"),
    ]
    for method, target in targets:
        assert peer.send(method, target, b"1").status == 401
        assert at.caller(SECRET).send(method, target, b"1").status == 401
        assert peer.send(method, target, b"1", {"Authorization": f"KVS-Local {SECRET}"}).status == 401


def test_a_token_with_every_scope_opens_nothing_of_peers(at: Place) -> None:
    token = at.token(at.root.uuid, ALL)
    for route in ROUTES:
        assert _ask(at.caller(token), route, {"X-Node-ID": "peer1"}).status == 401


@pytest.mark.parametrize(
    "settings", [{"clustering_enabled": False}, {"clustering_enabled": False, "auth_enabled": True}]
)
def test_a_lone_node_has_none_of_them(make_client: Callable[..., Client], settings: dict[str, object]) -> None:
    alone = make_client(cluster_secret=SECRET, **settings)
    asker = Peer(alone.address)
    for route in [*ROUTES, ("GET", MEMBERS), ("GET", "/members")]:
        for client in (alone, asker):
            reply = client.send(*route, PEER_CALLS.get(route, PEER_CALLS["GET", "/merkle_tree/root"]).body)
            assert (reply.status, reply.code) == (404, "unknown_route")
    asker.close()


def test_a_cluster_without_a_secret_lets_nobody_in(make_client: Callable[..., Client]) -> None:
    alone = make_client(clustering_enabled=True, cluster_secret="")
    for secret in ("", "x", "None"):
        with_secret = Caller(alone.address)
        for route in ROUTES:
            assert _ask(with_secret, route, {"X-Cluster-Secret": secret, "X-Node-ID": "peer1"}).status == 401
        with_secret.close()
    assert [member["id"] for member in alone.get(MEMBERS).json] == ["node1"]


def test_the_former_secret_is_good_while_it_is_named(make_client: Callable[..., Client]) -> None:
    node = make_client(**CLUSTER, cluster_secret_previous="the-former-secret-of-this-cluster")
    for secret, status in ((SECRET, 200), ("the-former-secret-of-this-cluster", 200), ("the-one-before-that", 401)):
        asker = Peer(node.address, secret)
        assert asker.send("GET", "/merkle_tree/root").status == status
        asker.close()


@pytest.mark.parametrize("path", sorted({path for _, path in ROUTES}))
def test_other_methods_are_refused_with_those_that_are_taken(peer: Peer, path: str) -> None:
    taken = {method for method, other in ROUTES if other == path}
    if "GET" in taken:
        taken.add("HEAD")
    for method in METHODS:
        if method not in taken:
            reply = peer.send(method, path)
            assert reply.status == 405
            assert set(reply.headers["allow"].split(", ")) == taken


@pytest.mark.parametrize("route", WITH_BODY, ids=name)
def test_bodies_have_a_limit(peer: Peer, route: Route) -> None:
    """It is known from what is declared, and, where that is cheap to send, from what comes."""
    most = AUDIT_OFFER_MAX_BYTES if route[1] == "/audit/heads" else PEER_BODY_MAX_BYTES
    if route[1].startswith("/members/") and route[1] != "/members/pairs_by_time":
        most = MEMBER_LIST_MAX_BYTES if route[1] in ("/members/join", "/members/gossip") else PING_MAX_BYTES
    peer.open()
    head = f"{route[0]} {route[1]} HTTP/1.1\r\nHost: kvs\r\nX-Cluster-Secret: {SECRET}\r\nX-Node-ID: peer1\r\n"
    peer.write(f"{head}Content-Length: {most + 1}\r\n\r\n".encode())
    reply = peer.read()
    assert (reply.status, reply.code, reply.json["limit"]) == (413, "too_large", most)
    if most < PEER_BODY_MAX_BYTES:
        reply = peer.send(*route, [b" " * 65536] * (most // 65536 + 2))
        assert (reply.status, reply.code) == (413, "too_large")


@pytest.mark.parametrize("route", WITH_BODY, ids=name)
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_bodies_compressed_by_http_are_refused(peer: Peer, route: Route, encoding: str) -> None:
    reply = peer.send(*route, PEER_CALLS[route].body, {"Content-Encoding": encoding})
    assert (reply.status, reply.code) == (415, "unsupported_media")
