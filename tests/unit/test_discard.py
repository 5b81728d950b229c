"""What was set aside leaves the disk without a trace, but nothing that came since."""

from kvs.cluster.events import Discard, Merge, Put
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
