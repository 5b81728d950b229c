"""Pushes to a peer that has just come up."""

from random import Random

from kvs.cluster.events import Change
from kvs.cluster.exchange import TAKEN, ReplicateAnswer
from kvs.cluster.push import Push, Reached, Send
from kvs.storage.keyspace import data_key
from tests.records import record

ENTRY = data_key(b"k")
CHANGE = Change(ENTRY, record(), seq=1)
VERSION = (CHANGE.record.timestamp, CHANGE.record.counter)


def test_what_is_written_before_a_peer_was_heard_reaches_it_then_and_counts_as_a_copy() -> None:
    push = Push(0, Random(1))
    push.add("b")
    assert push.committed([CHANGE]) == []
    assert push.waiting("b") == 1
    push.watch(1, ENTRY, VERSION, 1)
    (send,) = push.heard("b")
    assert isinstance(send, Send)
    assert (send.peer, [entry for entry, _ in send.request.records]) == ("b", [ENTRY])
    assert push.sent("b", ReplicateAnswer(bytes([TAKEN]))) == [Reached(1)]
    assert push.forget(1) == 1


def test_a_peer_that_was_heard_gets_a_write_at_once_though_it_is_said_to_be_up_again() -> None:
    push = Push(0, Random(1))
    push.add("b")
    assert push.heard("b") == []
    push.add("b")
    assert [type(effect) for effect in push.committed([CHANGE])] == [Send]


def test_a_peer_that_is_gone_and_back_is_to_be_heard_anew() -> None:
    push = Push(0, Random(1))
    push.add("b")
    push.heard("b")
    push.remove("b")
    push.add("b")
    assert push.committed([CHANGE]) == []
    assert push.heard("nobody") == []


def test_who_is_no_peer_has_sent_a_record_to_nobody_else() -> None:
    """A tool, or a node that this one does not know yet: all peers get it. What a peer brings it brings to all."""
    push = Push(0, Random(1))
    for peer in ("b", "c"):
        push.add(peer)
        push.heard(peer)
    assert push.committed([CHANGE._replace(source="b")]) == []
    sent = push.committed([CHANGE._replace(source="tool")])
    assert sorted(effect.peer for effect in sent if isinstance(effect, Send)) == ["b", "c"]
