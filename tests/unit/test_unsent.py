"""What waits for a peer: KVS's own records are neither overtaken by those of users nor dropped with them."""

from random import Random

from kvs.cluster.copies import Reached
from kvs.cluster.events import Change
from kvs.cluster.exchange import TAKEN, ReplicateAnswer
from kvs.cluster.push import Behind, Push, PushEffect, Send
from kvs.limits import FETCH_KEYS_MAX, OUTBOX_MAX_BYTES, OUTBOX_MAX_RECORDS
from kvs.storage.keyspace import data_key, system_key
from tests.records import record

FIRST, LATER = (Change(data_key(key), record(), seq=1) for key in (b"first", b"later"))
METADATA = Change(system_key(b"metadata"), record(), seq=2)


def flood(number: int, *, own: bool = False) -> list[Change]:
    key = system_key if own else data_key
    return [Change(key(b"%d" % at), record(), seq=at) for at in range(number)]


def busy() -> Push:
    """With a message under way to its only peer."""
    push = Push("a", 0, Random(1))
    push.add("b")
    push.heard("b")
    assert messages(push.committed([FIRST])) == [[FIRST.entry]]
    return push


def messages(effects: list[PushEffect]) -> list[list[bytes]]:
    return [[entry for entry, _ in effect.request.records] for effect in effects if isinstance(effect, Send)]


def taken(push: Push, number: int) -> list[list[bytes]]:
    """The peer answers; what it is sent then."""
    return messages(push.sent("b", ReplicateAnswer(bytes([TAKEN]) * number)))


def test_own_records_go_before_those_of_users() -> None:
    push = busy()
    push.committed([LATER])
    push.committed([METADATA])
    assert taken(push, 1) == [[METADATA.entry, LATER.entry]]


def test_a_flood_of_values_drops_no_own_record() -> None:
    push = busy()
    push.committed([METADATA])
    assert push.committed(flood(OUTBOX_MAX_RECORDS + 1)) == [Behind("b")]
    assert (push.dropped, push.waiting("b")) == (OUTBOX_MAX_RECORDS + 1, 2)
    push.committed([LATER])
    assert taken(push, 1) == [[METADATA.entry, LATER.entry]]


def test_what_a_peer_did_not_get_of_own_records_goes_before_what_is_written_then() -> None:
    push = busy()
    push.committed([METADATA])
    assert taken(push, 1) == [[METADATA.entry]]
    push.committed([FIRST])
    assert push.failed("b") == [Behind("b")]
    assert (push.dropped, push.waiting("b")) == (1, 1)
    assert messages(push.committed([LATER])) == [[METADATA.entry, LATER.entry]]


def test_what_a_peer_did_not_get_of_own_records_goes_as_soon_as_it_is_heard_again() -> None:
    push = busy()
    push.committed([METADATA])
    push.failed("b")
    assert messages(push.heard("b")) == [[METADATA.entry]]
    assert messages(push.heard("b")) == [], "it is under way"


def test_a_later_version_of_an_own_record_stands_for_the_one_that_did_not_arrive() -> None:
    push = busy()
    push.committed([METADATA])
    assert taken(push, 1) == [[METADATA.entry]]
    push.committed([Change(METADATA.entry, record(timestamp=99), seq=3)])
    push.failed("b")
    (send,) = push.heard("b")
    assert isinstance(send, Send)
    push.sent("b", ReplicateAnswer(bytes([TAKEN])))
    assert (len(send.request.records), push.waiting("b"), push.dropped) == (1, 0, 0)


def test_nothing_of_users_overtakes_own_records_that_were_too_many() -> None:
    push = busy()
    began = push.mark
    assert push.committed(flood(OUTBOX_MAX_RECORDS + 1, own=True)) == [Behind("b")]
    push.committed([METADATA])
    assert taken(push, 1) == [[METADATA.entry]]
    assert push.committed([LATER]) == [Behind("b")]
    for mark, but in ((began, ()), (push.mark, (METADATA.entry,))):
        push.equal("b", mark, but)
        assert push.committed([LATER]) == [Behind("b")], "the comparison began before, or left some to the push"
    assert taken(push, 1) == []
    push.equal("b", push.mark, (LATER.entry,))
    assert messages(push.committed([LATER])) == [[LATER.entry]]


def test_a_value_larger_than_the_bound_reaches_the_peer_and_drops_nothing() -> None:
    large = Change(data_key(b"large"), record(payload=bytes(OUTBOX_MAX_BYTES)), seq=3)
    push = busy()
    push.committed([LATER])
    assert push.committed([large]) == []
    assert push.committed([METADATA]) == []
    assert taken(push, 1) == [[METADATA.entry, LATER.entry, large.entry]]
    assert push.dropped == 0


def test_too_much_beside_the_largest_value_is_dropped() -> None:
    half = bytes(OUTBOX_MAX_BYTES // 2)
    push = busy()
    changes = [Change(data_key(b"%d" % at), record(payload=half), seq=at) for at in range(3)]
    assert push.committed(changes[:2]) == []
    assert push.committed(changes[2:]) == [Behind("b")]
    assert push.waiting("b") == 1


def test_many_own_records_leave_in_several_messages_before_any_value() -> None:
    push = busy()
    push.committed([LATER])
    push.committed(flood(FETCH_KEYS_MAX, own=True))
    (first,) = taken(push, 1)
    assert LATER.entry not in first
    assert taken(push, len(first)) == [[LATER.entry]]


# --- copies that somebody waits for ---


def test_a_peer_that_is_found_equal_has_what_was_written_before() -> None:
    push = busy()
    push.failed("b")
    push.watch(1, FIRST.entry, FIRST.record, 1, send=True)
    began = push.mark
    push.watch(2, LATER.entry, LATER.record, 1, send=True)
    assert push.equal("b", began, (FIRST.entry,)) == [], "that one the comparison left to the push"
    assert push.equal("b", began) == [Reached(1)]
    assert push.equal("b", began) == [], "the other one was written while it went on"
    assert push.equal("b", push.mark) == [Reached(2)]
    assert (push.forget(1), push.forget(2)) == (1, 1)
