"""What is counted with every write. (That records and tombstones are counted right whatever comes, over failed commits
and restarts too, is checked wherever `LoneNode.check_rows` is.)"""

from random import Random

import pytest

from kvs.cluster.events import Change, Delete, Discard, Merge, Put, Sweep
from kvs.cluster.ingest import merge_of
from kvs.cluster.push import Push
from kvs.limits import EXPIRY_GRACE_MS, EXPIRY_STEP_MS, OUTBOX_MAX_RECORDS
from kvs.storage.codec import encode_record
from kvs.storage.compression import RAW
from kvs.storage.keyspace import EXPIRIES, data_key, system_key
from kvs.storage.record import Record, new_uuid
from kvs.storage.state import PROGRESS_ROW, read_progress
from tests.nodes import LoneNode
from tests.records import record

NOW = 1_700_000_000_000
KEY = data_key(b"k")


@pytest.fixture
def node() -> LoneNode:
    return LoneNode(in_cluster=True)


def put(key: bytes = KEY, ttl_ms: int = 0) -> Put:
    return Put(entry=key, uuid=new_uuid(), codec=RAW, payload=b"1", ttl_ms=ttl_ms)


def merge(incoming: Record, key: bytes = KEY) -> Merge:
    return merge_of(key, encode_record(incoming), "far")


def writes(node: LoneNode) -> tuple[int, int]:
    return node.node.tally.client_writes, node.node.tally.peer_writes


def conflicts(node: LoneNode) -> tuple[int, int, int, int]:
    tally = node.node.tally
    return tally.held_won, tally.incoming_won, tally.discarded_kept, tally.discarded_lost


def test_writes_are_counted_by_where_they_come_from(node: LoneNode) -> None:
    node.do(NOW, put(), put(), Delete(entry=KEY, uuid=new_uuid()), Delete(entry=KEY, uuid=new_uuid()))
    assert writes(node) == (3, 0)
    far = record(timestamp=NOW + 5)
    node.do(NOW + 10, merge(far), merge(far), merge(record(timestamp=NOW - 5)), merge(far, data_key(b"other")))
    assert writes(node) == (3, 2)
    node.check_rows()


def test_what_did_not_reach_the_disk_does_not_count(node: LoneNode) -> None:
    node.fail(NOW, put(), merge(record(timestamp=NOW + 5)), landed=False)
    assert writes(node) == (0, 0)
    assert (node.node.tally.records, node.node.tally.tombstones) == (0, 0)
    node.fail(NOW, put(), Delete(entry=KEY, uuid=new_uuid()), landed=True)
    assert (node.node.tally.records, node.node.tally.tombstones) == (1, 1)
    node.check_rows()


@pytest.mark.parametrize(("versions_max", "kept", "lost"), [(3, 1, 0), (1, 0, 1)])
def test_conflicts_are_counted_by_who_won(versions_max: int, kept: int, lost: int) -> None:
    node = LoneNode(in_cluster=True, versions_max=versions_max)
    node.do(NOW, put())
    node.do(NOW, merge(record(timestamp=NOW - 5)))
    assert conflicts(node) == (1, 0, kept, lost)
    node.do(NOW, merge(record(timestamp=NOW + 5)))
    assert conflicts(node) == (1, 1, 2 * kept, 2 * lost)
    known = record(timestamp=NOW + 9, base=(NOW + 5, 0))
    node.do(NOW, merge(known), merge(known))
    assert conflicts(node) == (1, 1, 2 * kept, 2 * lost)


def test_documents_have_no_history_that_could_keep_a_version(node: LoneNode) -> None:
    user = system_key(b"user/u")
    node.do(NOW, merge(record(timestamp=NOW), user), merge(record(timestamp=NOW + 1), user))
    assert conflicts(node) == (0, 1, 0, 1)


def test_an_expired_record_that_stays_as_a_tombstone(node: LoneNode) -> None:
    node.do(NOW, put(), put(ttl_ms=5), put(data_key(b"new"), ttl_ms=5))
    node.do(NOW + 10 + EXPIRY_GRACE_MS + EXPIRY_STEP_MS, Sweep(rows=tuple(node.rows(EXPIRIES))))
    assert (node.node.tally.records, node.node.tally.tombstones) == (1, 1)
    node.check_rows()


def test_what_is_set_aside_is_gone(node: LoneNode) -> None:
    node.do(NOW, put(), put(data_key(b"other")), Delete(entry=KEY, uuid=new_uuid()))
    node.do(NOW, Discard(entries=(KEY, data_key(b"none")), before_ms=NOW + 1_000))
    assert (node.node.tally.records, node.node.tally.tombstones) == (1, 0)
    node.check_rows()


def test_a_corrupt_record_that_is_replaced_is_still_one(node: LoneNode) -> None:
    node.do(NOW, put())
    raw = node.store.get(KEY)
    assert raw is not None
    node.store.commit({KEY: raw[:-1] + bytes((raw[-1] ^ 1,))})
    node.do(NOW, put())
    assert node.node.tally.records == 1
    node.check_counts()


@pytest.mark.parametrize("damaged", [False, True])
def test_data_from_before_records_were_counted_are_counted_once(node: LoneNode, damaged: bool) -> None:
    node.do(NOW, *(put(data_key(b"%d" % number)) for number in range(5)), put(system_key(b"user/u")))
    node.do(NOW, Delete(entry=data_key(b"3"), uuid=new_uuid()))
    progress = node.store.get(PROGRESS_ROW)
    assert progress is not None
    node.store.commit({PROGRESS_ROW: progress[:20]})
    if damaged:
        node.store.commit({data_key(b"4"): b"no record"})
    now = read_progress(node.store)
    assert now == (*now[:3], 6, 1)
    node.restart()
    node.do(NOW, put(data_key(b"5")))
    assert read_progress(node.store)[3:] == (7, 1)
    assert len(node.store.get(PROGRESS_ROW) or b"") == 36


# --- pushes ---


def test_what_leaves_an_outbox_without_an_acknowledgement_is_dropped() -> None:
    push = Push("a", 0, Random(1))

    def write(count: int) -> None:
        push.committed([Change(data_key(b"%d" % number), record(), number) for number in range(count)])

    push.add("b")
    write(3)
    push.heard("b")
    write(2)
    assert (push.waiting("b"), push.dropped) == (5, 0)
    push.failed("b")
    assert (push.waiting("b"), push.dropped) == (0, 5)
    write(4)
    push.remove("b")
    assert push.dropped == 9
    push.add("c")
    write(OUTBOX_MAX_RECORDS + 1)
    assert (push.waiting("c"), push.dropped) == (0, 9 + OUTBOX_MAX_RECORDS + 1)
