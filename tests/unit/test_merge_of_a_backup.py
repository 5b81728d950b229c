"""What a living node takes from a backup: what is newer; and what is missing here, unless it may have been deleted."""

import pytest

from kvs.cluster.events import Delete, Merge, Merged, Put, Sweep
from kvs.storage.codec import encode_record
from kvs.storage.keyspace import TOMBSTONES, data_key
from kvs.storage.record import Record, new_uuid, value_digest
from tests.nodes import LoneNode
from tests.records import record

NOW_MS = 1_700_000_000_000
RETENTION_MS = 1_000
LIMIT_MS = NOW_MS - RETENTION_MS
"""Tombstones from before this may have been forgotten."""
KEY = data_key(b"k")


def merge(incoming: Record, as_of_ms: int | None) -> Merge:
    return Merge(
        entry=KEY,
        record=incoming,
        raw=encode_record(incoming),
        digest=value_digest(incoming.data),
        source="",
        as_of_ms=as_of_ms,
    )


def verdict(node: LoneNode, incoming: Record, as_of_ms: int | None) -> str:
    (outcome,) = node.do(NOW_MS, merge(incoming, as_of_ms))
    assert isinstance(outcome, Merged)
    return outcome.verdict.kind


@pytest.mark.parametrize(
    ("timestamp", "as_of_ms", "expected"),
    [
        # Written before the limit, in a backup that does not reach it: deleted since, or lost; nobody can tell.
        (LIMIT_MS - 1, LIMIT_MS - 1, "forgotten"),
        (LIMIT_MS - 1, 0, "forgotten"),
        # Had it been deleted after the backup, its tombstone would be here.
        (LIMIT_MS - 1, LIMIT_MS, "wins"),
        # Had it been deleted at all.
        (LIMIT_MS, 0, "wins"),
        (NOW_MS, 0, "wins"),
        # Asked for in any case.
        (LIMIT_MS - 1, None, "wins"),
    ],
)
def test_what_is_missing_here(timestamp: int, as_of_ms: int | None, expected: str) -> None:
    node = LoneNode(tombstone_retention_ms=RETENTION_MS)
    assert verdict(node, record(timestamp=timestamp), as_of_ms) == expected
    assert (node.live(KEY, NOW_MS) is not None) == (expected == "wins")
    node.check_rows()


def test_a_deleted_key_does_not_return_before_its_tombstone_is_forgotten_nor_after() -> None:
    node = LoneNode(tombstone_retention_ms=RETENTION_MS)
    began_ms = NOW_MS - 10_000
    node.do(began_ms, Put(entry=KEY, uuid=new_uuid(), codec=0, payload=b"1"))
    backed_up = node.live(KEY, began_ms)
    assert backed_up is not None
    node.do(began_ms + 5, Delete(entry=KEY, uuid=new_uuid()))
    assert verdict(node, backed_up, began_ms + 1) == "loses"
    node.do(NOW_MS, Sweep(rows=tuple(node.rows(TOMBSTONES))))
    assert node.store.get(KEY) is None
    assert verdict(node, backed_up, began_ms + 1) == "forgotten"
    assert node.store.get(KEY) is None


def test_what_is_here_is_kept_or_replaced_by_the_order_of_versions() -> None:
    node = LoneNode(tombstone_retention_ms=RETENTION_MS)
    node.do(NOW_MS, Put(entry=KEY, uuid=new_uuid(), codec=0, payload=b"here"))
    assert verdict(node, record(timestamp=NOW_MS - 10_000), 0) == "loses"
    here = node.live(KEY, NOW_MS)
    assert here is not None
    assert here.payload == b"here"
    assert verdict(node, here, 0) == "known"
    assert verdict(node, record(timestamp=NOW_MS + 1, payload=b"newer"), 0) == "wins"
    assert verdict(node, record(timestamp=NOW_MS + 2, deleted=True), 0) == "wins"
    assert node.live(KEY, NOW_MS) is None
    node.check_rows()


def test_what_is_damaged_here_is_mended() -> None:
    node = LoneNode(tombstone_retention_ms=RETENTION_MS)
    node.do(NOW_MS - 10_000, Put(entry=KEY, uuid=new_uuid(), codec=0, payload=b"1"))
    backed_up = node.live(KEY, NOW_MS)
    raw = node.store.get(KEY)
    assert backed_up is not None
    assert raw is not None
    node.store.commit({KEY: raw[:-1] + b"2"})
    assert verdict(node, backed_up, 0) == "wins"
    assert node.live(KEY, NOW_MS) == backed_up
