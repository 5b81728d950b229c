"""Versions that lose a conflict go into the history where they belong, once, however often they come."""

from itertools import permutations, product

import pytest

from kvs.cluster.events import Merge, Merged, Put, Report
from kvs.cluster.ingest import merge_of
from kvs.storage.codec import decode, encode_record
from kvs.storage.compression import RAW
from kvs.storage.keyspace import REVISIONS, data_key, revision_row
from kvs.storage.record import Record, new_uuid
from tests.nodes import LoneNode
from tests.records import record

NOW = 1_700_000_000_000
KEY = data_key(b"k")


@pytest.fixture
def node() -> LoneNode:
    return LoneNode(in_cluster=True)


def version(after_ms: int, base_ms: int | None = None) -> Record:
    """One of another writer, who had seen nothing, or the version of `base_ms`."""
    base = (0, 0) if base_ms is None else (NOW + base_ms, 0)
    return record(uuid=bytes([after_ms]) * 16, timestamp=NOW + after_ms, base=base, payload=b"%d" % after_ms)


def merge(incoming: Record) -> Merge:
    return merge_of(KEY, encode_record(incoming), "far")


def shown(node: LoneNode) -> list[int]:
    """The timestamps of the history, newest first, behind NOW."""
    kept = node.history(KEY, NOW)
    assert [number for number, _ in kept] == list(range(1, len(kept) + 1))
    return [revision.timestamp - NOW for _, revision in kept]


def told(node: LoneNode, *versions: Record) -> int:
    """Take them in, each in a group of its own; how many conflicts the log and the metrics tell of. Both agree."""
    lines, before = 0, conflicts(node)
    for incoming in versions:
        group = node.plan(NOW, [merge(incoming)])
        lines += sum(isinstance(effect, Report) for effect in group.effects)
        node.store.commit(group.batch)
        node.node.committed(group)
    node.check_rows()
    assert conflicts(node) - before == lines
    return lines


def conflicts(node: LoneNode) -> int:
    tally = node.node.tally
    assert tally.held_won + tally.incoming_won == tally.discarded_kept + tally.discarded_lost
    return tally.held_won + tally.incoming_won


def test_a_loser_goes_where_its_version_belongs(node: LoneNode) -> None:
    assert told(node, version(1), version(5), version(10)) == 2
    assert told(node, version(7)) == 1
    assert shown(node) == [10, 7, 5]


@pytest.mark.parametrize("versions_max", [1, 2, 3, 5])
def test_the_history_is_newest_first_whatever_comes_in_which_order(versions_max: int) -> None:
    for order in permutations((1, 2, 3, 4)):
        node = LoneNode(in_cluster=True, versions_max=versions_max)
        told(node, *map(version, order))
        assert shown(node) == [4, 3, 2, 1][:versions_max]


def test_what_comes_again_changes_nothing(node: LoneNode) -> None:
    for order in product((1, 2, 3), repeat=4):
        node = LoneNode(in_cluster=True)
        assert told(node, *map(version, order)) == len(set(order)) - 1
        before = dict(node.store.scan(b"a", b"z"))
        assert told(node, *map(version, order)) == 0
        assert dict(node.store.scan(b"a", b"z")) == before
        assert shown(node) == sorted(set(order), reverse=True)


def test_copies_of_one_group_are_one(node: LoneNode) -> None:
    node.do(NOW, merge(version(9)), *[merge(version(3))] * 3, *[merge(version(5))] * 3)
    assert (shown(node), conflicts(node)) == ([9, 5, 3], 2)
    node.check_rows()


def test_one_for_which_there_is_no_place_changes_nothing_either(node: LoneNode) -> None:
    told(node, *map(version, (3, 5, 7)))
    before = dict(node.store.scan(b"a", b"z"))
    assert told(node, version(1), version(1)) == 2, "nothing says that it was here before"
    assert dict(node.store.scan(b"a", b"z")) == before
    assert (node.node.tally.discarded_kept, node.node.tally.discarded_lost) == (2, 2)


def test_revisions_of_the_own_clients_stay_however_often_a_loser_comes(node: LoneNode) -> None:
    node.do(NOW + 10, *[Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=b"%d" % number) for number in range(2)])
    told(node, version(9))
    mine = node.history(KEY, NOW)
    assert told(node, version(9), version(8)) == 0, "the last writer knew of a later one"
    assert node.history(KEY, NOW) == mine


def test_what_writers_knew_of_is_no_conflict_and_has_no_place(node: LoneNode) -> None:
    assert told(node, version(1), version(2, 1), version(3, 2), version(1), version(2, 1)) == 0
    assert shown(node) == [3, 2, 1]


def test_a_loser_below_a_tombstone(node: LoneNode) -> None:
    deleted = record(uuid=b"\t" * 16, timestamp=NOW + 9, deleted=True)
    assert told(node, version(8), deleted, version(5), version(5), version(8)) == 2
    assert shown(node) == [9, 8, 5]


def test_a_lower_limit_counts_at_once(node: LoneNode) -> None:
    told(node, version(1), version(3), version(9))
    node.restart(versions_max=2)
    assert told(node, version(2)) == 1
    assert shown(node) == [9, 3]
    assert told(node, version(5)) == 1
    assert shown(node) == [9, 5]
    assert len(node.rows(REVISIONS)) == 1


def test_revisions_are_kept_byte_for_byte_and_one_that_cannot_be_read_stays_behind(node: LoneNode) -> None:
    told(node, version(2), version(6), version(9))
    raw = node.store.get(KEY)
    assert raw is not None
    row = revision_row(KEY, decode(KEY, raw).generation - 1)
    six = node.store.get(row)
    assert six is not None
    node.store.commit({row: six[:-1] + b"x"})
    assert told(node, version(4), version(4)) == 1
    raw = node.store.get(KEY)
    assert raw is not None
    stored = decode(KEY, raw)
    found = node.store.get(revision_row(KEY, stored.generation - 1))
    assert found is not None
    assert decode(KEY, found).record == version(4)
    assert node.store.get(revision_row(KEY, stored.generation - 2)) == six[:-1] + b"x"


def test_the_loser_is_told_as_such(node: LoneNode) -> None:
    told(node, version(9))
    (outcome,) = node.do(NOW, merge(version(3)))
    assert isinstance(outcome, Merged)
    assert (outcome.verdict.kind, outcome.verdict.conflict) == ("loses", True)
