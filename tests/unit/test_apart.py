"""What was deleted and forgotten does not come back from a peer that was cut off for longer than that takes, and a
deletion that only such a peer knows of is not forgotten at once."""

import msgspec
import pytest

from kvs.cluster.events import Delete, Merge, Put, Report, Sweep
from kvs.storage.codec import encode_record
from kvs.storage.compression import RAW
from kvs.storage.current import read_current
from kvs.storage.keyspace import TOMBSTONES, data_key
from kvs.storage.record import Record, new_uuid, value_digest
from tests.nodes import LoneNode

BEGAN_MS = 1_700_000_000_000
NOW_MS = BEGAN_MS + 900_000
KEY = data_key(b"k")


def forgetful() -> tuple[LoneNode, Record]:
    """A node that has deleted a value and forgotten that, and the value."""
    node = LoneNode(in_cluster=True)
    node.do(BEGAN_MS, Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=b"1"))
    value = stored(node)
    node.do(BEGAN_MS + 100, Delete(entry=KEY, uuid=new_uuid()))
    node.do(NOW_MS, Sweep(rows=tuple(node.rows(TOMBSTONES))))
    assert read_current(node.store, KEY).raw is None
    return node, value


def stored(node: LoneNode) -> Record:
    found = read_current(node.store, KEY).stored
    assert found is not None
    return found.record


def merge(value: Record, source: str = "peer") -> Merge:
    return Merge(entry=KEY, record=value, raw=encode_record(value), digest=value_digest(value.data), source=source)


def test_what_a_peer_brings_back_is_deleted_again() -> None:
    node, value = forgetful()
    node.node.apart = {"peer": value.timestamp + 1}
    node.do(NOW_MS, merge(value))
    again = stored(node)
    assert (again.deleted, again.base) == (True, (value.timestamp, value.counter))
    assert again.timestamp == NOW_MS - 60_000, "above what may be forgotten, below what is written now"
    node.check_rows()
    other = LoneNode(node_id="peer", in_cluster=True)
    other.node.floor_ms = BEGAN_MS
    other.do(BEGAN_MS, merge(value, source="x"))
    other.do(NOW_MS, merge(again, source="node1"))
    assert stored(other) == again


def test_it_is_said_what_is_deleted_again() -> None:
    """Fields named like the log's own would be lost."""
    node, value = forgetful()
    node.node.apart = {"peer": value.timestamp + 1}
    (report,) = (effect for effect in node.plan(NOW_MS, [merge(value)]).effects if isinstance(effect, Report))
    assert report.event == "What was deleted long ago is deleted again"
    assert report.fields == {"key": "k", "version": f"{value.timestamp}.{value.counter}", "peer": "peer"}


def test_it_is_deleted_again_also_where_clocks_may_differ_by_more_than_the_retention() -> None:
    node, value = forgetful()
    node.node.apart = {"peer": value.timestamp + 1}
    node.do(value.timestamp + 50, merge(value))
    assert (stored(node).deleted, stored(node).timestamp) == (True, value.timestamp + 1)
    node.check_rows()


def test_what_the_peer_wrote_since_is_taken() -> None:
    node, value = forgetful()
    node.node.apart = {"peer": value.timestamp}
    node.do(NOW_MS, merge(value))
    assert stored(node) == value


@pytest.mark.parametrize(("proven_ms", "is_taken"), [(0, True), (-1, True), (1, False), (None, False)])
def test_what_another_node_wrote_since_and_the_peer_got_later_is_taken(proven_ms: int | None, is_taken: bool) -> None:
    """The writer was cut off from this node when it wrote; the peer was not."""
    node, value = forgetful()
    assert value.origin != "peer"
    proofs = {} if proven_ms is None else {value.origin: value.timestamp + proven_ms}
    node.node.apart = {"peer": NOW_MS, **proofs}
    node.do(NOW_MS, merge(value))
    assert (stored(node) == value) == is_taken


def test_from_all_others_it_is_taken() -> None:
    """Such as a node that had a life of its own before it joined."""
    node, value = forgetful()
    node.node.apart = {"peer": NOW_MS}
    node.do(NOW_MS, merge(value, source="other"))
    assert stored(node) == value


def test_what_is_here_is_compared_as_always() -> None:
    node, value = forgetful()
    node.node.apart = {"peer": NOW_MS}
    node.do(NOW_MS, Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=b"2"))
    newer = msgspec.structs.replace(value, uuid=new_uuid(), timestamp=NOW_MS + 1)
    node.do(NOW_MS, merge(value), merge(newer))
    assert stored(node) == newer


def test_a_tombstone_below_the_floor_deletes_with_a_new_one() -> None:
    """Its node had met nobody when it was made; as it is, every node might drop it before all have seen it."""
    node = LoneNode(in_cluster=True)
    node.do(BEGAN_MS, Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=b"1"))
    held = stored(node)
    late = msgspec.structs.replace(held, uuid=new_uuid(), timestamp=BEGAN_MS + 5, deleted=True, payload=b"")
    node.node.floor_ms = BEGAN_MS + 6
    node.do(NOW_MS, merge(late))
    assert (stored(node).deleted, stored(node).timestamp) == (True, NOW_MS - 60_000)
    assert stored(node).base == (late.timestamp, late.counter)
    node.check_rows()


def test_a_tombstone_above_the_floor_is_taken_as_it_is() -> None:
    node = LoneNode(in_cluster=True)
    node.do(BEGAN_MS, Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=b"1"))
    late = msgspec.structs.replace(stored(node), uuid=new_uuid(), timestamp=BEGAN_MS + 5, deleted=True, payload=b"")
    node.node.floor_ms = BEGAN_MS + 5
    node.do(NOW_MS, merge(late))
    assert stored(node) == late


def test_the_tombstone_of_a_value_that_is_over_is_taken_as_it_is() -> None:
    node = LoneNode(in_cluster=True)
    node.do(BEGAN_MS, Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=b"1", ttl_ms=1))
    over = msgspec.structs.replace(stored(node), expires_at=0, deleted=True, payload=b"")
    node.node.floor_ms = BEGAN_MS + 6
    node.do(NOW_MS, merge(over))
    assert stored(node) == over
