"""What whoever has the secret may do under an id that is no member's, and what becomes of one that sends nonsense."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog

from kvs.cluster import exchange
from kvs.cluster.exchange import REFUSED, DiffAnswer, DiffRequest, ReplicateAnswer, ReplicateRequest, Span
from kvs.limits import CUT_OFF_MS, NONSENSE_MAX
from kvs.storage.codec import encode_record
from kvs.storage.keyspace import data_key
from tests.api.peers import CLUSTER, PEER1, PEER_CALLS, Peer, sent
from tests.api.running import Clock, RunningNode
from tests.process.eventually import eventually
from tests.records import record

NOW_MS = Clock().now_ms
IDS = ["stranger", "", "node1", "a b", "n" * 300]
"""Of nobody, of nobody, of the node that is asked, and two that no node can have."""
FAST = {"probe_interval_ms": 50, "probe_timeout_ms": 50}
SLOW = {"probe_interval_ms": 60_000}
"""Nobody finds out within a test that no peer answers at the address of `PEER1`."""
QUESTION = DiffRequest.of([Span(b"", b"", bytes(6))], 32)


def listed(peer: Peer) -> list[str]:
    return [member["id"] for member in peer.get("/api/cluster/status").json["members"]]


@pytest.mark.parametrize("node_id", IDS)
def test_a_stranger_reads_and_writes_records_and_becomes_no_member(peer: Peer, node_id: str) -> None:
    peer.credentials["X-Node-ID"] = node_id
    for (method, path), call in PEER_CALLS.items():
        if path.startswith("/members/") and path != "/members/pairs_by_time":
            continue
        assert peer.send(method, path, call.body).status in (200, 204)
    assert peer.ask("/replicate", {"records": [sent("k", NOW_MS)]})["outcomes"] == ["taken"]
    assert peer.get("/kv/k").json["data"] == 1
    assert listed(peer) == ["node1"]
    shown = peer.get("/api/cluster/status").json
    assert (shown["isolated"], shown["gc_floor"]) == (False, 0), "nothing waits for it"


@pytest.mark.parametrize("node_id", ["stranger", "", "peer2"])
def test_a_stranger_speaks_for_no_member(peer: Peer, node_id: str) -> None:
    peer.ask("/members/join", PEER1)
    peer.credentials["X-Node-ID"] = node_id
    for path in ("/members/join", "/members/ping", "/members/ping_req"):
        document = PEER_CALLS["POST", path].document
        assert peer.refused(path, document).code == "wrong_sender"
    assert listed(peer) == ["node1", "peer1"]


def test_what_a_stranger_brings_reaches_the_other_nodes(tmp_path: Path) -> None:
    with ExitStack() as ends:

        def start(node_id: str, **settings: Any) -> Peer:
            node = RunningNode(tmp_path / node_id, node_id=node_id, **{**CLUSTER, **FAST, **settings})
            ends.callback(node.stop)
            peer = Peer(node.address, node_id="tool")
            ends.callback(peer.close)
            return peer

        first = start("node1")
        second = start("node2", seed_nodes=("{}:{}".format(*first.address),))
        assert eventually(lambda: len(first.get("/members/").json) == len(second.get("/members/").json) == 2, 20.0)
        assert first.ask("/replicate", {"records": [sent("brought", NOW_MS)]})["outcomes"] == ["taken"]
        assert eventually(lambda: second.get("/kv/brought").status == 200, 20.0)


# --- nonsense ---


def nonsense(peer: Peer) -> int:
    return peer.post_binary("/merkle_tree/diff", b"nonsense").status


def test_who_keeps_sending_nonsense_is_cut_off(make_peer: Callable[..., Peer]) -> None:
    peer = make_peer(**SLOW)
    peer.ask("/members/join", PEER1)
    with structlog.testing.capture_logs() as log:
        assert [nonsense(peer) for _ in range(NONSENSE_MAX + 2)] == [400] * NONSENSE_MAX + [403] * 2
    assert len([line for line in log if line["event"] == "A peer keeps sending what cannot be: it is cut off"]) == 1
    shown = next(each for each in peer.get("/api/cluster/status").json["members"] if each["id"] == "peer1")
    assert (shown["refused"], shown["cut_off"], shown["status"]) == (NONSENSE_MAX, True, "alive")
    refusal = peer.post_binary("/replicate", exchange.encode(ReplicateRequest([])))
    assert (refusal.status, refusal.code) == (403, "cut_off")
    assert peer.ask("/members/ping", {"sender": PEER1, "to": "node1"})["sender"]["id"] == "node1", "it still lives"
    peer.credentials["X-Node-ID"] = "peer2"
    assert len(peer.ask_binary("/merkle_tree/diff", QUESTION, DiffAnswer).kinds) == 1, "others are heard"


def test_records_that_cannot_be_are_counted_and_cut_off_too(peer: Peer) -> None:
    """Though each comes with one that can be taken."""
    good = (data_key(b"good"), encode_record(record()))
    request = ReplicateRequest([(data_key(b"_bad"), good[1]), good])
    for _ in range(NONSENSE_MAX):
        answer = peer.ask_binary("/replicate", request, ReplicateAnswer)
        assert answer.outcomes[0] == REFUSED
        assert answer.outcomes[1] != REFUSED
    assert peer.post_binary("/replicate", exchange.encode(request)).code == "cut_off"


def test_nonsense_of_a_member_counts_in_either_form(make_peer: Callable[..., Peer]) -> None:
    peer = make_peer(**SLOW)
    peer.ask("/members/join", PEER1)
    bad = {"records": [{**sent("k", NOW_MS), "uuid": "none"}]}
    for number in range(NONSENSE_MAX):
        if number % 3 == 0:
            assert nonsense(peer) == 400
        elif number % 3 == 1:
            assert peer.refused("/kv_range", []).code == "bad_message"
        else:
            assert peer.ask("/replicate", bad) == {"outcomes": ["refused"]}
    for path in ("/merkle_tree/diff", "/kv_range", "/replicate", "/members/pairs_by_time"):
        reply = peer.send("POST", path, b"{}")
        assert (reply.status, reply.code) == (403, "cut_off")
    shown = next(each for each in peer.get("/api/cluster/status").json["members"] if each["id"] == "peer1")
    assert (shown["refused"], shown["cut_off"]) == (NONSENSE_MAX, True)
    for tool in ("operator", "node1", ""):
        peer.credentials["X-Node-ID"] = tool
        assert peer.ask("/kv_range", {})["pairs"] == []


def test_tools_may_be_wrong_as_often_as_they_like(peer: Peer) -> None:
    """A person who tries things out is no daemon that is broken."""
    for _ in range(2 * NONSENSE_MAX):
        assert peer.send("POST", "/merkle_tree/diff", b"{").status == 400
        assert peer.ask("/replicate", {"records": [7]}) == {"outcomes": ["refused"]}
    assert peer.ask("/merkle_tree/root", method="GET")
    assert len(peer.ask_binary("/merkle_tree/diff", QUESTION, DiffAnswer).kinds) == 1


def test_the_while_is_minutes() -> None:
    assert 60_000 <= CUT_OFF_MS <= 600_000
