"""What a node is filled with comes in an order in which nothing is there before what protects it, and comes once."""

from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.cluster import ingest
from kvs.cluster.events import Merge
from kvs.cluster.ingest import Limits, recent
from kvs.storage.codec import decode_record, encode_record
from kvs.storage.keyspace import SYSTEM, data_key, system_key
from kvs.storage.record import Record, value_digest
from tests.nodes import LoneNode

NOW_MS = 1_700_000_000_000

entries = st.binary(min_size=1, max_size=3).map(lambda name: data_key(b"k" + name.hex().encode()))
documents = st.integers(0, 40).map(lambda number: system_key(b"metadata/%d" % number))
written = st.dictionaries(entries | documents, st.integers(1, 9), max_size=40)


@settings(deadline=None)
@given(written, st.integers(0, 9), st.sampled_from([1, 3, 1_000]))
def test_own_records_come_first_and_then_the_newest(found: dict[bytes, int], since_ms: int, most: int) -> None:
    node = LoneNode(node_id="a", in_cluster=True)
    for entry, timestamp in found.items():
        record = Record(uuid=bytes(16), timestamp=timestamp, counter=0, origin="b", origin_joined=1, payload=b"{}")
        raw, digest = encode_record(record), value_digest(b"{}")
        node.do(NOW_MS, Merge(entry=entry, record=record, raw=raw, digest=digest, source="b"))
    came: list[tuple[bytes, int]] = []
    places = [b""]
    with patch.object(ingest, "FETCH_KEYS_MAX", most):
        while len(places) == 1 or places[-1]:
            records, before = recent(node.store, places[-1], since_ms, Limits(NOW_MS, 0))
            came += [(entry, decode_record(raw).timestamp) for entry, raw in records]
            places.append(before)
    assert len({entry for entry, _ in came}) == len(came)
    own = [entry for entry, _ in came if entry.startswith(SYSTEM)]
    assert set(own) == {entry for entry in found if entry.startswith(SYSTEM)}, "whatever their age"
    assert [entry for entry, _ in came[: len(own)]] == own
    times = [timestamp for _, timestamp in came[len(own) :]]
    assert times == sorted(times, reverse=True)
    users = {entry for entry, timestamp in found.items() if timestamp >= since_ms and not entry.startswith(SYSTEM)}
    assert {entry for entry, _ in came[len(own) :]} == users
    assert places[1:] == sorted(places[1:], reverse=True)
