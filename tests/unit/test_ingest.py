"""How much of what peers may have goes into one message."""

from kvs.cluster.events import Put
from kvs.cluster.ingest import Limits, fetched, in_messages, recent, records_between
from kvs.limits import SEND_MAX_BYTES
from kvs.storage.codec import encode_record, value_bytes
from kvs.storage.compression import Compressor
from kvs.storage.keyspace import DATA, after
from kvs.storage.record import new_uuid
from tests.nodes import LoneNode
from tests.records import record

NOW_MS = 1_700_000_000_000
LIMITS = Limits(NOW_MS, 0)
COUNT = 6
_HALF = bytes(SEND_MAX_BYTES // 2 + 1)


def node_with_packed_values() -> LoneNode:
    """Each a hundred bytes on the disk, and half of a message when it is unpacked."""
    node = LoneNode(in_cluster=True)
    codec, payload = Compressor(enabled=True, level=3).pack(_HALF)
    for number in range(COUNT):
        put = Put(entry=b"d%d" % number, uuid=new_uuid(), codec=codec, payload=payload, content_type="text/plain")
        node.do(NOW_MS, put)
    return node


def test_a_message_is_as_large_as_what_its_values_unpack_to() -> None:
    node = node_with_packed_values()
    found, rest = records_between(node.store, DATA, after(DATA), LIMITS)
    assert ([entry for entry, _ in found], rest) == ([b"d0", b"d1"], b"d2")
    newest, place = recent(node.store, b"", 0, LIMITS)
    assert [entry for entry, _ in newest] == [b"d5", b"d4"]
    assert [entry for entry, _ in recent(node.store, place, 0, LIMITS)[0]] == [b"d3", b"d2"]
    looked, wanted = fetched(node.store, [(b"d%d" % number, (0, 0)) for number in range(COUNT)], LIMITS)
    assert (looked, len(wanted)) == (2, 2)
    assert [len(portion) for portion in in_messages([*found, *newest, *found[:1]])] == [2, 2, 1]


def test_how_large_the_value_of_an_encoded_record_is() -> None:
    codec, payload = Compressor(enabled=True, level=3).pack(_HALF)
    packed = encode_record(record(owner="o" * 36, content_type="text/plain", codec=codec, payload=payload))
    assert value_bytes(packed) == len(_HALF)
    raw = encode_record(record(payload=b"1" * 1_000))
    assert 1_000 <= value_bytes(raw) <= len(raw)
    assert [value_bytes(raw[:length]) for length in (0, 1, 40)] == [0, 1, 40]
