"""`POST /audit/heads`: what a node keeps of the audit logs of its peers, and what it refuses to keep."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from kvs.auth.tokens import derive_key
from kvs.cluster.audit_heads import Head, HeadKey
from kvs.limits import AUDIT_HEADS_PER_MESSAGE_MAX
from tests.api.peers import PEER1, SECRET, Peer
from tests.auditing import HOUR_MS, START_MS, heads_in, make_log

KEY = HeadKey(derive_key(SECRET.encode(), "audit").key)
OLD_SECRET = "What-the-nodes-knew-0nce"
OLD_KEY = HeadKey(derive_key(OLD_SECRET.encode(), "audit").key)
FOREIGN_KEY = HeadKey(b"x" * 32)


def heads(count: int, *, key: HeadKey = KEY, log: str = "log-of-peer1", shift_ms: int = 0) -> list[Head]:
    """Of a log of `peer1`, link by link."""
    rows = make_log([START_MS + shift_ms + hour * HOUR_MS for hour in range(count)], log=log, key=key)
    made: list[Head] = []
    for head in heads_in(rows):
        fields = {"node_id": "peer1", "previous": made[-1].id if made else head.previous}
        made.append(key.sign(msgspec.structs.replace(head, **fields)))
    return made


def offer(peer: Peer, *offered: Head, anew: bool = False) -> Mapping[str, Any]:
    answer = peer.ask("/audit/heads", {"heads": [msgspec.to_builtins(head) for head in offered], "anew": anew})
    assert isinstance(answer, dict)
    return answer


@pytest.fixture
def member(peer: Peer) -> Peer:
    """A peer that has joined."""
    peer.ask("/members/join", PEER1)
    return peer


def kept(peer: Peer) -> list[dict[str, Any]]:
    found = peer.ask("/api/audit/kept?node_id=peer1", method="GET")["nodes"]["peer1"]
    assert found == offer(peer)["kept"]
    return list(found)


def test_the_newest_is_kept_and_shown(member: Peer) -> None:
    one, two, three = heads(3)
    assert kept(member) == []
    assert offer(member, one)["taken"]
    assert offer(member, one)["taken"]
    assert offer(member, two, three)["taken"]
    assert kept(member) == [msgspec.to_builtins(three)]
    assert list(member.ask("/api/audit/kept", method="GET")["nodes"]) == ["peer1"]


@pytest.mark.parametrize("anew", [False, True])
def test_an_older_one_or_a_fork_does_not_take_its_place(member: Peer, anew: bool) -> None:
    made, forks = heads(5), heads(5, shift_ms=1)
    offer(member, made[3])
    for head in (made[2], forks[3], forks[4], heads(1, log="another")[0]):
        answer = offer(member, head, anew=anew)
        assert answer["taken"] == anew
        assert answer["kept"][0] == msgspec.to_builtins(made[3])
    assert offer(member, made[4])["kept"][0] == msgspec.to_builtins(made[4])


def test_strangers_and_foreign_keys_are_refused(peer: Peer) -> None:
    (head,) = heads(1)
    document = {"heads": [msgspec.to_builtins(head)]}
    assert peer.refused("/audit/heads", document).code == "unknown_member"
    peer.ask("/members/join", PEER1)
    others = {
        "another node's": msgspec.structs.replace(head, node_id="peer2"),
        "changed": msgspec.structs.replace(head, last=7),
        "signed by nobody": msgspec.structs.replace(head, signature="0" * 128),
        "signed by another cluster": heads(1, key=FOREIGN_KEY)[0],
    }
    for name, other in others.items():
        refused = peer.refused("/audit/heads", {"heads": [msgspec.to_builtins(other)]})
        assert (refused.status, refused.code) == (400, "bad_message"), name
    assert kept(peer) == []


def test_the_former_secret_counts_while_it_is_accepted(make_peer: Callable[..., Peer]) -> None:
    peer = make_peer(cluster_secret_previous=OLD_SECRET)
    peer.ask("/members/join", PEER1)
    assert offer(peer, heads(1, key=OLD_KEY)[0])["taken"]


def test_messages_are_bounded(member: Peer) -> None:
    (head,) = heads(1)
    many = [msgspec.to_builtins(head)] * (AUDIT_HEADS_PER_MESSAGE_MAX + 1)
    assert member.refused("/audit/heads", {"heads": many}).code == "bad_message"
    for field, value in {
        "node_id": "x" * 300,
        "log": "x" * 100,
        "number": 0,
        "last": 2**60,
        "oldest": "x" * 24,
    }.items():
        strange = {**msgspec.to_builtins(head), field: value}
        assert member.refused("/audit/heads", {"heads": [strange]}).code == "bad_message", field


def test_what_is_kept_survives_a_node_without_a_log_of_its_own(make_peer: Callable[..., Peer]) -> None:
    peer = make_peer(tamper_logging_enabled=False)
    peer.ask("/members/join", PEER1)
    assert offer(peer, heads(1)[0])["taken"]
    assert len(kept(peer)) == 1
