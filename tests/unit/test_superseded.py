"""What two nodes exchanged after their last proof is remembered when it is replaced while one of them is away, so that
it does not come back from there."""

import msgspec
import pytest

from kvs.cluster.events import Command, Delete, Discard, Merge, Merged, Put, Sweep
from kvs.cluster.superseded import Absences
from kvs.storage.codec import encode_record
from kvs.storage.compression import RAW
from kvs.storage.current import read_current
from kvs.storage.keyspace import SUPERSEDED, TOMBSTONES, data_key
from kvs.storage.record import Record, new_uuid, value_digest
from tests.nodes import LoneNode

PROVEN_MS = 1_700_000_000_000
WRITTEN_MS = PROVEN_MS + 10
LOST_MS = PROVEN_MS + 20
LATER_MS = PROVEN_MS + 500
NOW_MS = PROVEN_MS + 900_000
KEY = data_key(b"k")
ONE_AWAY = Absences(((PROVEN_MS, LOST_MS),))


def put(payload: bytes = b"1") -> Put:
    return Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=payload)


def delete() -> Delete:
    return Delete(entry=KEY, uuid=new_uuid())


def written(at_ms: int = WRITTEN_MS) -> tuple[LoneNode, Record]:
    """A node that has a value, and a peer that has it too and is away since."""
    node = LoneNode(in_cluster=True)
    node.do(at_ms, put())
    node.node.superseded.absences = ONE_AWAY
    return node, stored(node)


def stored(node: LoneNode) -> Record:
    found = read_current(node.store, KEY).stored
    assert found is not None
    return found.record


def forget(node: LoneNode) -> None:
    node.do(NOW_MS, Sweep(rows=tuple(node.rows(TOMBSTONES))))
    assert read_current(node.store, KEY).raw is None


def merge(value: Record, source: str = "peer") -> Merge:
    return Merge(entry=KEY, record=value, raw=encode_record(value), digest=value_digest(value.data), source=source)


@pytest.mark.parametrize("later", [[delete()], [put(b"2"), delete()], [put(b"2"), put(b"3"), delete()]])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("source", ["peer", "whoever met it"])
def test_what_was_replaced_and_deleted_does_not_come_back(later: list[Command], source: str, *, restarts: bool) -> None:
    node, value = written()
    for command in later:
        node.do(LATER_MS, command)
    forget(node)
    if restarts:
        node.restart()
    node.do(NOW_MS, merge(value, source))
    assert (stored(node).deleted, stored(node).base) == (True, (value.timestamp, value.counter))
    assert stored(node).timestamp > value.timestamp
    node.check_rows()


def test_nor_does_what_was_deleted_before_the_peer_went_away() -> None:
    """It had not heard of that, and nothing replaces a tombstone that is swept."""
    node = LoneNode(in_cluster=True)
    node.do(WRITTEN_MS, put())
    value = stored(node)
    node.do(WRITTEN_MS + 1, delete())
    node.node.superseded.absences = ONE_AWAY
    forget(node)
    node.do(NOW_MS, merge(value))
    assert stored(node).deleted


def test_what_the_peer_wrote_since_is_taken() -> None:
    node, value = written()
    node.do(LATER_MS, delete())
    forget(node)
    newer = msgspec.structs.replace(value, uuid=new_uuid(), counter=value.counter + 1, payload=b"2")
    node.do(NOW_MS, merge(newer))
    assert stored(node) == newer


@pytest.mark.parametrize("at_ms", [PROVEN_MS - 1, LOST_MS + 1])
def test_what_the_proof_covers_or_the_peer_never_had_leaves_no_note(at_ms: int) -> None:
    node, _ = written(at_ms)
    node.do(LATER_MS, put(b"2"))
    node.do(LATER_MS + 1, delete())
    forget(node)
    assert not node.rows(SUPERSEDED)


@pytest.mark.parametrize("absences", [None, Absences(), Absences((), PROVEN_MS)])
def test_while_nobody_is_away_there_are_no_notes(absences: Absences | None) -> None:
    node, value = written()
    node.node.superseded.absences = absences
    node.do(LATER_MS, delete())
    forget(node)
    assert not node.rows(SUPERSEDED)
    node.do(NOW_MS, merge(value))
    assert stored(node) == value


def test_a_note_goes_when_the_peer_is_back_and_has_what_followed() -> None:
    node, value = written()
    node.do(LATER_MS, put(b"2"))
    (row,) = node.rows(SUPERSEDED)
    for needed in (None, ONE_AWAY, Absences((), PROVEN_MS), Absences((), value.timestamp)):
        node.node.superseded.absences = needed
        node.do(NOW_MS, Sweep(rows=(row,)))
        assert node.rows(SUPERSEDED).keys() == {row}, needed
    for free in (Absences((), value.timestamp + 1), Absences(((value.timestamp + 1, NOW_MS),))):
        node.node.superseded.absences = free
        before = node.rows(SUPERSEDED)
        node.do(NOW_MS, Sweep(rows=(row, row)))
        assert not node.rows(SUPERSEDED)
        node.store.commit({row: before[row]})
    assert stored(node).data == b"2", "the record itself stays"


def test_nor_does_it_come_back_with_a_backup_of_who_was_away() -> None:
    node, value = written()
    node.do(LATER_MS, delete())
    forget(node)
    newer = msgspec.structs.replace(value, uuid=new_uuid(), counter=value.counter + 1, payload=b"2")
    for record, verdict in ((value, "forgotten"), (newer, "wins")):
        (outcome,) = node.do(NOW_MS, msgspec.structs.replace(merge(record, source=""), as_of_ms=NOW_MS))
        assert isinstance(outcome, Merged)
        assert outcome.verdict.kind == verdict
    assert stored(node) == newer


def test_what_is_set_aside_counts_for_nothing() -> None:
    """Whether it was deleted nobody knows, and so it is with what it had replaced."""
    node, value = written()
    node.do(LATER_MS, put(b"2"))
    node.do(NOW_MS, Discard(entries=(KEY,), before_ms=NOW_MS))
    assert not node.rows(SUPERSEDED)
    node.do(NOW_MS, merge(value))
    assert stored(node) == value
