"""A record that fails its checksum cannot say when its time is over; its index row can."""

import pytest

from kvs.cluster.events import Delete, Put, Scrub, Sweep, Swept
from kvs.cluster.merkle import Sum
from kvs.cluster.superseded import Absences
from kvs.limits import EXPIRY_GRACE_MS, EXPIRY_STEP_MS
from kvs.storage.compression import RAW
from kvs.storage.keyspace import CHANGES, DATA, EXPIRIES, ITEMS, REVISIONS, SUPERSEDED, TIMES, TOMBSTONES, data_key
from kvs.storage.record import new_uuid
from kvs.storage.state import read_log_start, read_progress
from tests.nodes import LoneNode

NOW = 1_700_000_000_000
TTL_MS = 10_000
OVER = NOW + TTL_MS + EXPIRY_GRACE_MS + EXPIRY_STEP_MS
KEY = data_key(b"k")


def damage(node: LoneNode) -> None:
    raw = node.store.get(KEY)
    assert raw is not None
    node.store.commit({KEY: raw[:-1] + bytes((raw[-1] ^ 1,))})


def node_with(*, deleted: bool, in_cluster: bool, is_scrubbed: bool = False) -> LoneNode:
    """One corrupt record, with a revision."""
    node = LoneNode(in_cluster=in_cluster)
    node.do(NOW, put(), put(TTL_MS))
    if deleted:
        node.do(NOW, Delete(entry=KEY, uuid=new_uuid()))
    damage(node)
    if is_scrubbed:
        node.do(NOW, Scrub(start=KEY))
    return node


def put(ttl_ms: int = 0) -> Put:
    return Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=b"1", ttl_ms=ttl_ms)


def sweep(node: LoneNode, now_ms: int) -> int:
    (swept,) = node.do(now_ms, Sweep(rows=(*node.rows(EXPIRIES), *node.rows(TOMBSTONES))))
    assert isinstance(swept, Swept)
    return swept.entries


@pytest.mark.parametrize(("in_cluster", "is_scrubbed"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("deleted", [False, True])
def test_it_leaves_with_all_that_belongs_to_it(deleted: bool, in_cluster: bool, is_scrubbed: bool) -> None:
    node = node_with(deleted=deleted, in_cluster=in_cluster, is_scrubbed=is_scrubbed)
    last = read_progress(node.store).seq
    assert sweep(node, OVER) == 1
    for prefix in (DATA, EXPIRIES, TOMBSTONES, REVISIONS, ITEMS):
        assert node.rows(prefix) == {}
    node.check_counts()
    assert not in_cluster or node.tree.root == Sum(0, 0)
    assert read_log_start(node.store) > last, "who knows the log up to here may have missed that it is gone"
    assert sweep(node, OVER) == 0
    node.do(OVER, put())
    assert len(node.rows(DATA)) == 1
    assert {len(node.rows(prefix)) for prefix in (TIMES, CHANGES)} <= {1, 2}, "rows of the lost one lead nowhere"


@pytest.mark.parametrize("deleted", [False, True])
def test_not_before_its_time(deleted: bool) -> None:
    """And its index row stays as long, or it would never leave."""
    node = node_with(deleted=deleted, in_cluster=True)
    node.node.floor_ms = 0
    assert sweep(node, NOW + TTL_MS) == 0
    assert len(node.rows(DATA)) == 1
    node.node.floor_ms = None
    assert sweep(node, OVER) == 1
    assert node.rows(DATA) == {}


def test_a_tombstone_that_a_peer_may_need_is_noted() -> None:
    node = node_with(deleted=True, in_cluster=True)
    node.node.superseded.absences = Absences(spans=((NOW - 1, NOW + 1),))
    assert sweep(node, OVER) == 1
    assert list(node.rows(SUPERSEDED)) == [SUPERSEDED + KEY]


def test_a_row_of_another_kind_of_entry_is_left_to_those_who_may_read_it() -> None:
    """A stale row leads to a record that can be read, or to none."""
    node = LoneNode()
    node.do(NOW, put(TTL_MS))
    stale = tuple(node.rows(EXPIRIES))
    node.do(NOW, put())
    node.store.commit(dict.fromkeys(stale, b""))
    assert sweep(node, OVER) == 0
    assert (len(node.rows(DATA)), node.rows(EXPIRIES)) == (1, {})
