"""What members tell a node over HTTP, and what it does not believe."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from kvs.limits import MEMBER_NUMBER_MAX, MEMBERS_MAX
from tests.api.peers import CLUSTER, PEER1, Peer
from tests.api.running import Clock, RunningNode

NOW_MS = Clock().now_ms
PLACES = [
    "127.0.0.1:0",
    "127.0.0.1:70000",
    "0.0.0.0:80",
    "[::]:80",
    "224.0.0.1:80",
    "255.255.255.255:80",
    "127.1:80",
    "0x7f000001:80",
    "2130706433:80",
    "http://127.0.0.1:80",
    "file:///etc/passwd",
    "127.0.0.1:80/kv",
    "user@127.0.0.1:80",
    "127.0.0.1",
    ":80",
    "host\r\nX: y:80",
    "host\0:80",
    "hóst:80",
    "h" * 300 + ":80",
    "",
]
"""Addresses at which there is no member."""


@contextmanager
def peer_of_a_node(folder: Path) -> Iterator[Peer]:
    """The clock of the node stands still."""
    node = RunningNode(folder / "data", clock=Clock(), **CLUSTER)
    made = Peer(node.address)
    yield made
    made.close()
    node.stop()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    """The only peer that the node has heard of."""
    with peer_of_a_node(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def unheard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """For all tests of messages that are refused."""
    with peer_of_a_node(tmp_path_factory.mktemp("members")) as made:
        yield made


def listed(peer: Peer) -> dict[str, str]:
    """Status by id."""
    return {member["id"]: member["status"] for member in peer.get("/members/").json}


def test_whoever_joins_is_listed_and_gets_the_list(peer: Peer) -> None:
    answer = peer.ask("/members/join", PEER1)
    assert {member["id"] for member in answer} == {"node1", "peer1"} == set(listed(peer))
    assert peer.send("DELETE", "/members/leave", b'{"id":"peer1","incarnation":9}').status == 204
    assert listed(peer) == {"node1": "alive", "peer1": "left"}


@pytest.mark.parametrize("address", PLACES)
def test_a_member_has_an_address_where_one_can_be(unheard: Peer, address: str) -> None:
    reply = unheard.refused("/members/join", {**PEER1, "address": address})
    assert reply.code in ("invalid_address", "invalid_body")
    ping = {"sender": {**PEER1, "address": address}, "to": "node1"}
    assert unheard.refused("/members/ping", ping).code in ("invalid_address", "invalid_body")
    assert listed(unheard) == {"node1": "alive"}


@pytest.mark.parametrize("node_id", ["", "a b", "a\n", "é", "a" * 256, "a/b", "\u0430lice", 7, None])
def test_ids_are_plain(unheard: Peer, node_id: object) -> None:
    assert unheard.refused("/members/join", {**PEER1, "id": node_id}).code == "invalid_body"


@pytest.mark.parametrize("number", [-1, 1.5, 2**63, 2**64, MEMBER_NUMBER_MAX + 1, "1", None, True, 1e300])
@pytest.mark.parametrize("field", ["incarnation", "joined_timestamp"])
def test_numbers_are_within_what_everybody_holds(unheard: Peer, field: str, number: object) -> None:
    assert unheard.refused("/members/join", {**PEER1, field: number}).code == "invalid_body"
    assert listed(unheard) == {"node1": "alive"}


def test_a_message_speaks_for_who_sends_it(unheard: Peer) -> None:
    other = {**PEER1, "id": "peer2"}
    assert unheard.refused("/members/join", other).code == "wrong_sender"
    assert unheard.refused("/members/ping", {"sender": other, "to": "node1"}).code == "wrong_sender"
    asked = {"sender": other, "target": "node1", "timeout_ms": 1}
    assert unheard.refused("/members/ping_req", asked).code == "wrong_sender"
    assert listed(unheard) == {"node1": "alive"}


def test_a_ping_for_another_node_is_refused(peer: Peer) -> None:
    reply = peer.refused("/members/ping", {"sender": PEER1, "to": "node2"})
    assert (reply.status, reply.code) == (409, "wrong_node")
    asked = {"sender": PEER1, "target": "nobody", "timeout_ms": 1}
    assert peer.refused("/members/ping_req", asked).code == "unknown_member"


def test_nobody_else_is_this_node(peer: Peer) -> None:
    """Neither by a join nor by a ping under its id, nor by a rumour of its death, however new."""
    twin = Peer(peer.address, node_id="node1")
    mine = {**PEER1, "id": "node1", "incarnation": MEMBER_NUMBER_MAX, "instance_id": "other"}
    assert twin.refused("/members/join", mine).code == "node_id_taken"
    assert twin.refused("/members/ping", {"sender": mine, "to": "node1"}).code == "node_id_taken"
    twin.close()
    born = peer.get("/members/").json[0]
    rumour = {"id": "node1", "address": "127.0.0.1:9", "status": "dead", "incarnation": NOW_MS + 60_000}
    answer = peer.ask("/members/ping", {"sender": PEER1, "to": "node1", "rumours": [rumour]})
    assert answer["sender"]["status"] == "alive"
    assert answer["sender"]["incarnation"] > rumour["incarnation"]
    assert next(member for member in peer.get("/members/").json if member["id"] == "node1") == born


def test_rumours_make_no_members(peer: Peer) -> None:
    """10,000 nodes that nobody has heard of are not listed, and a longer list than may be is refused."""
    for start in range(0, 10_000, 1_000):
        fakes = [{"id": f"fake{n}", "address": f"10.9.{n % 250}.1:{n % 60_000 + 1}"} for n in range(start, start + 999)]
        assert len(peer.ask("/members/gossip", [*fakes, {**PEER1, "last_seen": NOW_MS}])) < MEMBERS_MAX
    assert set(listed(peer)) <= {"node1", "peer1"}
    assert peer.refused("/members/gossip", [{**PEER1, "id": f"fake{n}"} for n in range(1_001)]).code == "invalid_body"


def test_this_node_may_not_be_named_as_gone(peer: Peer) -> None:
    assert peer.send("DELETE", "/members/leave", b'{"id":"node1","incarnation":9007199254740991}').status == 204
    assert peer.send("DELETE", "/members/leave", b'{"id":"nobody"}').status == 204
    assert listed(peer) == {"node1": "alive"}


def test_a_clock_that_differs_too_much_stops_writes_until_it_is_mended(peer: Peer) -> None:
    for clock_ms, status in ((NOW_MS, 201), (NOW_MS + 60_001, 503), (NOW_MS + 30_000, 200), (NOW_MS - 90_000, 503)):
        peer.ask("/members/ping", {"sender": {**PEER1, "last_seen": clock_ms}, "to": "node1"})
        reply = peer.put("/kv/clock", b"1")
        assert reply.status == status
        assert status != 503 or reply.code == "clock_skew"


def test_the_log_tells_when_writes_are_refused_for_the_clock_and_when_no_more(peer: Peer) -> None:
    with structlog.testing.capture_logs() as log:
        for clock_ms in (NOW_MS, NOW_MS + 90_000, NOW_MS + 90_001, NOW_MS + 30_000, NOW_MS):
            peer.ask("/members/ping", {"sender": {**PEER1, "last_seen": clock_ms}, "to": "node1"})
    told = [entry for entry in log if "clock" in entry["event"]]
    assert [entry["log_level"] for entry in told] == ["warning", "info"]
    assert [entry["offset_ms"] for entry in told] == [90_000, 30_000]
    assert told[0]["max_clock_drift_ms"] == 60_000


def test_a_peer_that_does_not_tell_its_clock_stops_nothing(peer: Peer) -> None:
    peer.ask("/members/ping", {"sender": PEER1, "to": "node1"})
    assert peer.put("/kv/clock", b"1").status == 201
