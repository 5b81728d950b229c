"""A batch is on the disk a moment before the tree in memory knows of it, and peers ask at that moment too."""

from kvs.cluster.diff import differences
from kvs.cluster.events import Delete, Put, Submission
from kvs.cluster.exchange import Span
from kvs.storage.compression import RAW
from kvs.storage.keyspace import data_key
from tests.nodes import LoneNode

NOW_MS = 1_700_000_000_000
KEYS = [data_key(b"k%02d" % number) for number in range(20)]


def put(entry: bytes, uuid: bytes) -> Put:
    return Put(entry=entry, uuid=uuid * 16, codec=RAW, payload=b"1")


def test_every_range_is_answered() -> None:
    node = LoneNode(in_cluster=True)
    node.do(NOW_MS, *[put(entry, b"a") for entry in KEYS[:10]])
    for commands in (
        [put(entry, b"b") for entry in KEYS[10:]],
        [Delete(entry=entry, uuid=b"c" * 16) for entry in KEYS],
    ):
        group = node.node.plan_group([Submission(1, tuple(commands), 0)], node.store, NOW_MS + 1)
        node.store.commit(group.batch)
        spans = [Span(start, stop, b"?") for start in (b"", *KEYS) for stop in (b"", *KEYS) if not stop or start < stop]
        assert len(list(differences(node.tree, node.store, spans, list_below=4))) == len(spans)
        node.node.committed(group)
        node.check_rows()
