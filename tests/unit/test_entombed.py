"""An expired record turns into a tombstone of the same version, at each node by its own sweep: that is no conflict."""

import msgspec
import pytest

from kvs.cluster.events import Ended, Group, Lapse, Merge, Put, Report, Sweep
from kvs.cluster.ingest import merge_of
from kvs.cluster.merging import entombed
from kvs.limits import EXPIRY_GRACE_MS, EXPIRY_STEP_MS
from kvs.storage.codec import encode_record
from kvs.storage.compression import RAW
from kvs.storage.current import read_current
from kvs.storage.keyspace import EXPIRIES, REVISIONS, data_key
from kvs.storage.record import Record, new_uuid
from kvs.storage.state import read_progress
from tests.comparing import compare
from tests.nodes import LoneNode
from tests.records import record

NOW = 1_700_000_000_000
TTL_MS = 1_000
OVER = NOW + TTL_MS + EXPIRY_GRACE_MS + EXPIRY_STEP_MS
KEY = data_key(b"session")


@pytest.fixture
def nodes() -> tuple[LoneNode, LoneNode]:
    """Both hold a value that was written over another one and ends; no tombstone may go yet."""
    a, b = LoneNode(in_cluster=True, node_id="a", joined=1), LoneNode(in_cluster=True, node_id="b", joined=2)
    a.node.floor_ms = b.node.floor_ms = 0
    a.do(NOW, Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=b"1"))
    compare(b, a, NOW)
    a.do(NOW, Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=b"2", ttl_ms=TTL_MS))
    compare(b, a, NOW)
    return a, b


def sweep(node: LoneNode) -> None:
    node.do(OVER, Sweep(rows=tuple(node.rows(EXPIRIES))))


def stored(node: LoneNode) -> Record:
    found = read_current(node.store, KEY).stored
    assert found is not None
    return found.record


def merge(incoming: Record) -> Merge:
    return merge_of(KEY, encode_record(incoming), "a")


def take(node: LoneNode, incoming: Record, now_ms: int = OVER) -> Group:
    group = node.plan(now_ms, [merge(incoming)])
    assert not any(isinstance(effect, Report) for effect in group.effects)
    node.store.commit(group.batch)
    node.node.committed(group)
    node.check_rows()
    assert (node.node.tally.incoming_won, node.node.tally.held_won) == (0, 0)
    return group


def ended(group: Group) -> list[Ended]:
    return [end for effect in group.effects for end in getattr(effect, "ended", [])]


def test_a_node_that_sweeps_later_takes_the_tombstone_as_its_own(nodes: tuple[LoneNode, LoneNode]) -> None:
    a, b = nodes
    sweep(a)
    writes = b.node.tally.peer_writes
    value = stored(b)
    group = take(b, stored(a))
    assert stored(b) == stored(a) == entombed(value)
    assert b.tree.root == a.tree.root
    assert b.rows(REVISIONS) == a.rows(REVISIONS) == {}, "the value is not kept anywhere"
    assert b.node.tally.peer_writes == writes, "nobody wrote anything"
    assert ended(group) == [Ended(KEY, value, read_progress(b.store).seq, expired=True)]
    sweep(b)
    assert b.tree.root == a.tree.root
    b.check_rows()


def test_an_end_that_was_noted_is_not_told_again(nodes: tuple[LoneNode, LoneNode]) -> None:
    a, b = nodes
    sweep(a)
    b.do(NOW + TTL_MS, Lapse(rows=tuple(b.rows(EXPIRIES))))
    before = read_progress(b.store).seq
    assert ended(take(b, stored(a))) == []
    assert read_progress(b.store).seq == before


def test_so_does_one_whose_clock_is_behind(nodes: tuple[LoneNode, LoneNode]) -> None:
    """It must become equal, and who watches there hears of it."""
    a, b = nodes
    sweep(a)
    assert len(ended(take(b, stored(a), NOW + 1))) == 1
    assert stored(b) == stored(a)


def test_the_value_that_a_peer_holds_yet_is_no_loser(nodes: tuple[LoneNode, LoneNode]) -> None:
    a, b = nodes
    sweep(a)
    before = dict(a.store.scan(b"a", b"z"))
    take(a, stored(b))
    assert dict(a.store.scan(b"a", b"z")) == before


def test_of_one_in_the_history_it_is_known(nodes: tuple[LoneNode, LoneNode]) -> None:
    _, b = nodes
    value = stored(b)
    unaware = record(timestamp=OVER, uuid=b"\1" * 16)
    b.do(OVER, merge(unaware))
    told = b.node.tally.incoming_won
    group = b.plan(OVER, [merge(entombed(value)), merge(value)])
    assert (told, group.tally.held_won, group.tally.incoming_won) == (1, 0, 0)


def test_a_tombstone_in_place_of_a_value_without_an_end_is_a_conflict(nodes: tuple[LoneNode, LoneNode]) -> None:
    """Only a cloned node can make one."""
    _, b = nodes
    held = record(timestamp=OVER)
    b.do(OVER, merge(held), merge(msgspec.structs.replace(held, deleted=True, payload=b"")))
    assert b.node.tally.incoming_won == 2, "one against the value that was here"
