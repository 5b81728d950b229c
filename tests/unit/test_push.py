"""Pushes to a peer that has just come up."""

from random import Random

import msgspec
import pytest

from kvs.cluster.copies import Reached
from kvs.cluster.events import Change
from kvs.cluster.exchange import TAKEN, ReplicateAnswer
from kvs.cluster.push import Push, PushEffect, Send
from kvs.storage.keyspace import data_key
from tests.records import record

ENTRY = data_key(b"k")
CHANGE = Change(ENTRY, record(), seq=1)
PEERS = 30


def test_what_is_written_before_a_peer_was_heard_reaches_it_then_and_counts_as_a_copy() -> None:
    push = Push("a", 0, Random(1))
    push.add("b")
    assert push.committed([CHANGE]) == []
    assert push.waiting("b") == 1
    assert push.watch(1, ENTRY, CHANGE.record, 1, send=True) == []
    (send,) = push.heard("b")
    assert isinstance(send, Send)
    assert (send.peer, [entry for entry, _ in send.request.records]) == ("b", [ENTRY])
    assert push.sent("b", ReplicateAnswer(bytes([TAKEN]))) == [Reached(1)]
    assert push.forget(1) == 1


def test_a_peer_that_was_heard_gets_a_write_at_once_though_it_is_said_to_be_up_again() -> None:
    push = Push("a", 0, Random(1))
    push.add("b")
    assert push.heard("b") == []
    push.add("b")
    assert [type(effect) for effect in push.committed([CHANGE])] == [Send]


def test_a_peer_that_is_gone_and_back_is_to_be_heard_anew() -> None:
    push = Push("a", 0, Random(1))
    push.add("b")
    push.heard("b")
    push.remove("b")
    push.add("b")
    assert push.committed([CHANGE]) == []
    assert push.heard("nobody") == []


def test_who_is_no_peer_has_sent_a_record_to_nobody_else() -> None:
    """A tool, or a node that this one does not know yet: all peers get it. What a peer brings it brings to all."""
    push = Push("a", 0, Random(1))
    for peer in ("b", "c"):
        push.add(peer)
        push.heard(peer)
    assert push.committed([msgspec.structs.replace(CHANGE, source="b")]) == []
    sent = push.committed([msgspec.structs.replace(CHANGE, source="tool")])
    assert sorted(effect.peer for effect in sent if isinstance(effect, Send)) == ["b", "c"]


def large() -> Push:
    """More peers than a write goes to by itself."""
    push = Push("a", 0, Random(1))
    for number in range(PEERS):
        push.add(f"n{number}")
        push.heard(f"n{number}")
    return push


@pytest.mark.parametrize("missing", [1, 6, 7, 20, PEERS])
def test_a_write_goes_to_as_many_as_must_have_it_and_some_more(missing: int) -> None:
    push = large()
    told = peers_of(push.committed([CHANGE]))
    told += peers_of(push.watch(1, ENTRY, CHANGE.record, missing, send=True))
    assert len(told) == len(set(told)) >= min(PEERS, missing + 1)
    for number, peer in enumerate(told[:missing], 1):
        effects = push.sent(peer, ReplicateAnswer(bytes([TAKEN])))
        assert effects == ([Reached(1)] if number == missing else [])
    assert push.forget(1) == missing


def test_some_that_do_not_answer_are_made_up_for() -> None:
    push = large()
    told = peers_of(push.committed([CHANGE])) + peers_of(push.watch(1, ENTRY, CHANGE.record, 20, send=True))
    for peer in told[:5]:
        push.failed(peer)
    effects = [effect for peer in told[5:] for effect in push.sent(peer, ReplicateAnswer(bytes([TAKEN])))]
    assert effects == [Reached(1)]


def test_nothing_more_is_sent_where_it_is_not_needed_or_not_wanted() -> None:
    push = large()
    assert len(peers_of(push.committed([CHANGE]))) == 5
    assert len(peers_of(push.watch(1, ENTRY, CHANGE.record, 5, send=True))) == 5
    assert push.watch(2, ENTRY, CHANGE.record, 5, send=True) == []
    assert push.watch(3, ENTRY, CHANGE.record, 20, send=False) == []


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_peers_that_were_not_heard_yet_are_not_counted_on(missing: int) -> None:
    push = Push("a", 0, Random(1))
    for number in range(PEERS):
        push.add(f"n{number}")
        if number % 3:
            push.heard(f"n{number}")
    told = peers_of(push.committed([CHANGE]))
    told += peers_of(push.watch(1, ENTRY, CHANGE.record, missing, send=True))
    assert len(told) == missing + 5, "they are held, so that none of them is among those it was sent to"


def peers_of(effects: list[PushEffect]) -> list[str]:
    return [effect.peer for effect in effects if isinstance(effect, Send)]
