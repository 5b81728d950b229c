"""What leaves the disk, or fails halfway, leaves no trace in the tree, and nothing goes that came since."""

from kvs.cluster.clock import COUNTER_MAX
from kvs.cluster.events import Discard, Merge, Put, Transact
from kvs.errors import Conflict
from kvs.limits import TIMESTAMP_MAX
from kvs.storage.codec import encode_record
from kvs.storage.compression import RAW
from kvs.storage.keyspace import data_key
from kvs.storage.record import value_digest
from tests.nodes import LoneNode
from tests.records import record

NOW_MS = 1_700_000_000_000
OLD, NEW = data_key(b"old"), data_key(b"new")


def test_only_versions_from_before_the_moment_leave() -> None:
    node = LoneNode(in_cluster=True)
    for entry in (OLD, NEW):
        node.do(NOW_MS, Put(entry=entry, uuid=b"a" * 16, codec=RAW, payload=b"1"))
    later = record(timestamp=NOW_MS + 200, payload=b"2")
    node.do(
        NOW_MS + 200, Merge(entry=NEW, record=later, raw=encode_record(later), digest=value_digest(b"2"), source="peer")
    )
    node.do(NOW_MS + 300, Discard(entries=(OLD, NEW), before_ms=NOW_MS + 100))
    assert node.live(OLD, NOW_MS + 300) is None
    assert node.live(NEW, NOW_MS + 300) == later
    node.check_rows()


def test_what_fails_halfway_has_changed_nothing() -> None:
    """The second of two documents cannot be written: the tree must not hold the first either."""
    node = LoneNode(in_cluster=True)
    last = record(timestamp=TIMESTAMP_MAX, counter=COUNTER_MAX)
    merge = Merge(entry=b"sb", record=last, raw=encode_record(last), digest=value_digest(last.data), source="peer")
    node.do(NOW_MS, merge, Transact(uuid=b"\2" * 16, decide=lambda *_: {b"sa": b"1"}))
    (refused,) = node.do(NOW_MS, Transact(uuid=b"\3" * 16, decide=lambda *_: {b"sa": b"2", b"sb": b"2", b"sc": b"2"}))
    assert isinstance(refused, Conflict)
    node.do(NOW_MS, Transact(uuid=b"\4" * 16, decide=lambda *_: {b"sc": b"3"}))
    node.check_rows()


def test_an_entry_that_is_named_twice_leaves_the_tree_once() -> None:
    node = LoneNode(in_cluster=True)
    node.do(NOW_MS, Transact(uuid=b"\2" * 16, decide=lambda *_: {b"sa": b"1", b"sb": b"1"}))
    node.do(NOW_MS, Discard(entries=(b"sa", b"sa"), before_ms=NOW_MS + 1))
    node.check_rows()
