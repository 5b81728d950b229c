"""What a peer may bring, and what becomes of it. The rules are those of kvs/cluster/ingest.py."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import zstandard

from kvs.cluster import exchange
from kvs.cluster.exchange import (
    OLDER,
    REFUSED,
    TAKEN,
    FetchAnswer,
    FetchRequest,
    RangeAnswer,
    RangeRequest,
    ReplicateAnswer,
    ReplicateRequest,
)
from kvs.limits import DECOMPRESSED_MAX_BYTES, FETCH_KEYS_MAX, TIMESTAMP_MAX
from kvs.storage.codec import encode_record
from kvs.storage.compression import ZSTD
from kvs.storage.keyspace import data_key, system_key
from tests.api.peers import Peer, fill, root_hash, sent
from tests.api.running import Clock
from tests.records import record

NOW_MS = Clock().now_ms


def replicate(peer: Peer, *records: dict[str, object]) -> list[str]:
    """What became of each record."""
    answer = peer.ask("/replicate", {"records": records})
    assert set(answer) == {"outcomes"}
    return list(answer["outcomes"])


def test_a_record_arrives_as_it_is(peer: Peer) -> None:
    value = {"b": [1.0, 1e3, "é"], "a": None}
    records = [
        sent("json", NOW_MS - 5, value, counter=3, origin_joined=7),
        sent("blob", NOW_MS - 4, b64encode(b"\x00\xff").decode(), content_type="image/png", encoding="base64"),
        sent("ends", NOW_MS - 3, expires_at=NOW_MS + 1000),
        sent("gone", NOW_MS - 2, deleted=True),
    ]
    assert replicate(peer, *records) == ["taken"] * 4
    assert replicate(peer, *records) == ["known"] * 4
    reply = peer.get("/kv/json")
    assert reply.json == {"uuid": records[0]["uuid"], "timestamp": NOW_MS - 5, "data": value}
    blob = peer.get("/kv/blob")
    assert (blob.body, blob.headers["content-type"]) == (b"\x00\xff", "image/png")
    assert peer.get("/kv/ends").json["expires_at"] == NOW_MS + 1000
    assert peer.get("/kv/gone").status == 404
    assert peer.ask("/merkle_tree/root", method="GET")["count"] == 4


def test_the_newer_version_wins_whichever_comes_first(make_peer: Callable[..., Peer]) -> None:
    old, new = sent("k", NOW_MS - 2, "old"), sent("k", NOW_MS - 1, "new")
    one, other = make_peer(), make_peer()
    assert replicate(one, old, new) == ["taken", "taken"]
    assert replicate(other, new) + replicate(other, old) == ["taken", "older"]
    assert one.get("/kv/k").json == other.get("/kv/k").json
    assert one.get("/kv/k").json["data"] == "new"
    assert root_hash(one) == root_hash(other)


def test_a_tombstone_beats_what_is_older_and_stays(peer: Peer) -> None:
    fill(peer, "k")
    assert replicate(peer, sent("k", NOW_MS + 1, deleted=True)) == ["taken"]
    assert peer.get("/kv/k").status == 404
    assert replicate(peer, sent("k", NOW_MS)) == ["older"]
    assert peer.get("/kv/k").status == 404


def test_the_older_member_wins_a_tie(peer: Peer) -> None:
    younger, older = sent("k", NOW_MS, "younger", origin_joined=9), sent("k", NOW_MS, "older", origin_joined=5)
    unknown = sent("k", NOW_MS, "unknown", origin_joined=0)
    assert replicate(peer, younger, older, unknown) == ["taken", "taken", "older"]
    assert peer.get("/kv/k").json["data"] == "older"


BAD: dict[str, dict[str, Any]] = {
    "a reserved key": {"path": "_range"},
    "a key that names metadata": {"path": "a/metadata"},
    "an empty segment": {"path": "a//b"},
    "dots": {"path": "a/../b"},
    "a control character": {"path": "a\u0000b"},
    "a slash at the end": {"path": "a/"},
    "a key too long": {"path": "a" * 1025},
    "no key": {"path": ""},
    "a name of KVS that is empty": {"path": "/"},
    "a name of KVS that is too long": {"path": "/" + "a" * 1100},
    "no number": {"timestamp": "1"},
    "half a millisecond": {"timestamp": 1.5},
    "a negative timestamp": {"timestamp": -1},
    "a timestamp beyond all": {"timestamp": TIMESTAMP_MAX + 1},
    "a timestamp of 64 bits": {"timestamp": 2**63},
    "a timestamp beyond 64 bits": {"timestamp": 2**64},
    "a negative counter": {"counter": -1},
    "a counter beyond 32 bits": {"counter": 2**32},
    "a base above it": {"base": [NOW_MS, 1]},
    "half a base": {"base": [1]},
    "a negative base": {"base": [-1, 0]},
    "a joined timestamp beyond 64 bits": {"origin_joined": 2**64},
    "an end beyond 64 bits": {"expires_at": 2**64},
    "no uuid": {"uuid": ""},
    "a short uuid": {"uuid": "00"},
    "a long uuid": {"uuid": "00" * 17},
    "a uuid that is none": {"uuid": "g" * 32},
    "an end later than any": {"expires_at": TIMESTAMP_MAX + 1},
    "a long origin": {"origin": "n" * 256},
    "no origin": {"origin": ""},
    "an origin that is no node": {"origin": "a b"},
    "a long owner": {"owner": "o" * 256},
    "an owner that is no user": {"owner": "ann"},
    "a tombstone with a type": {"deleted": True, "content_type": "text/plain"},
    "a tombstone that ends": {"deleted": True, "expires_at": NOW_MS},
    "a type that is none": {"content_type": "text"},
    "a type with a line end": {"content_type": "text/html\r\nX-Evil: 1"},
    "a type that is not ASCII": {"content_type": "text/é"},
    "a long type": {"content_type": "a/" + "b" * 300},
    "base64 that is none": {"content_type": "a/b", "encoding": "base64", "data": "%"},
    "base64 of no text": {"content_type": "a/b", "encoding": "base64", "data": [1]},
    "JSON that is none": {"encoding": "base64", "data": b64encode(b"{'a': NaN}").decode()},
    "JSON that is not UTF-8": {"encoding": "base64", "data": b64encode(b'"\xff"').decode()},
    "nothing as JSON": {"encoding": "base64", "data": ""},
}


@pytest.mark.parametrize("fields", BAD.values(), ids=list(BAD))
def test_a_record_that_nobody_could_have_written_is_refused(shared_peer: Peer, fields: dict[str, Any]) -> None:
    good = sent("", NOW_MS)
    good["path"] = f"beside/{good['uuid']}"
    assert replicate(shared_peer, good) == ["taken"]
    before = root_hash(shared_peer)
    assert replicate(shared_peer, {**sent("k", NOW_MS), **fields}, good) == ["refused", "known"]
    assert root_hash(shared_peer) == before


def test_a_value_that_is_missing_is_refused(shared_peer: Peer) -> None:
    record = sent("k", NOW_MS)
    del record["data"]
    assert replicate(shared_peer, record) == ["refused"]


def test_of_a_list_of_records_the_good_ones_are_taken(peer: Peer) -> None:
    records = [sent("a", NOW_MS), 7, {}, sent("b/", NOW_MS), sent("c", NOW_MS), sent("c", NOW_MS - 1)]
    answer = peer.ask("/replicate", {"records": records})
    assert answer == {"outcomes": ["taken", "refused", "refused", "refused", "taken", "older"]}
    assert [peer.get(f"/kv/{key}").status for key in "ac"] == [200, 200]


@pytest.mark.parametrize("document", [[], {}, {"records": 7}, {"records": {}}, {"records": None}, 7])
def test_what_is_no_list_of_records_is_refused_as_a_whole(shared_peer: Peer, document: object) -> None:
    reply = shared_peer.refused("/replicate", document)
    assert (reply.status, reply.code) == (400, "bad_message")


def test_records_are_bounded_in_number(shared_peer: Peer) -> None:
    records = [sent("k", NOW_MS)] * (FETCH_KEYS_MAX + 1)
    assert shared_peer.refused("/replicate", {"records": records}).code == "bad_message"
    binary = ReplicateRequest([(data_key(b"a"), encode_record(record()))] * (FETCH_KEYS_MAX + 1))
    assert shared_peer.post_binary("/replicate", exchange.encode(binary)).code == "bad_message"


def test_a_bad_record_does_not_keep_the_others_out(peer: Peer) -> None:
    """Nor in the binary form, in which daemons send many at once."""
    good = encode_record(record())
    flipped = bytes((good[0] ^ 0x80, *good[1:]))
    bomb = encode_record(record(content_type="a/b", payload=b"")) + b"\x28\xb5\x2f\xfd" + b"\xff" * 20
    frame = zstandard.compress
    packed = _packed(frame(b"a" * 1000))
    larger, nothing = _packed(frame(b"a")), _packed(frame(b"") + b"x" * 1000)
    tombstone = encode_record(msgspec.structs.replace(record(deleted=True), codec=ZSTD, payload=frame(b"")))
    huge = encode_record(record(content_type="a/b", payload=bytes(DECOMPRESSED_MAX_BYTES + 1)))
    records = [
        (data_key(b"a"), good, TAKEN),
        (data_key(b"short"), good[:20], REFUSED),
        (data_key(b"flipped"), flipped, REFUSED),
        (data_key(b"_reserved"), good, REFUSED),
        (b"zz", good, REFUSED),
        (b"d", good, REFUSED),
        (b"", good, REFUSED),
        (system_key(b""), good, REFUSED),
        (data_key(b"\xff"), good, REFUSED),
        (data_key(b"json"), encode_record(record(payload=b"{")), REFUSED),
        (data_key(b"future"), encode_record(record(timestamp=TIMESTAMP_MAX + 1)), REFUSED),
        (data_key(b"codec"), encode_record(msgspec.structs.replace(record(), codec=ZSTD)), REFUSED),
        (data_key(b"blob"), bomb, TAKEN),
        (data_key(b"larger"), larger, REFUSED),
        (data_key(b"nothing"), nothing, REFUSED),
        (data_key(b"packed"), packed, TAKEN),
        (data_key(b"tombstone"), tombstone, REFUSED),
        (data_key(b"huge"), huge, REFUSED),
        (data_key(b"a"), encode_record(record(timestamp=1)), OLDER),
        (data_key(b"b"), good, TAKEN),
    ]
    request = ReplicateRequest([(entry, raw) for entry, raw, _ in records])
    answer = peer.ask_binary("/replicate", request, ReplicateAnswer)
    assert list(answer.outcomes) == [outcome for _, _, outcome in records]


def _packed(payload: bytes) -> bytes:
    """A blob whose value is packed like this."""
    return encode_record(msgspec.structs.replace(record(content_type="a/b"), codec=ZSTD, payload=payload))


def test_a_record_from_the_future_is_taken_and_does_not_move_the_clock(peer: Peer) -> None:
    """A write here still gets a version above it, and every answer about it can be given."""
    for path, timestamp, counter in (
        ("drift", NOW_MS + 60_000, 2**32 - 1),
        ("ahead", NOW_MS + 60_001, 0),
        ("end", TIMESTAMP_MAX, 2**32 - 9),
    ):
        assert replicate(peer, sent(path, timestamp, counter=counter)) == ["taken"]
        assert peer.get(f"/kv/{path}").json["timestamp"] == timestamp
        assert peer.get(f"/api/data/{path}/history").status == 200
    assert replicate(peer, sent("last", TIMESTAMP_MAX, counter=2**32 - 1)) == ["taken"]
    assert peer.put("/kv/mine", b"1").json["timestamp"] == NOW_MS + 60_001
    for path, timestamp in (("end", TIMESTAMP_MAX), ("ahead", NOW_MS + 60_001)):
        above = peer.put(f"/kv/{path}", b"2").json
        assert above["timestamp"] >= timestamp
        assert peer.get(f"/kv/{path}").json["data"] == 2
    assert peer.get("/kv/_range").status == 200
    assert peer.delete("/kv/end").status == 204
    assert peer.ask("/members/pairs_by_time", {"end_timestamp": 2**50})


def test_what_is_written_above_any_version_is_taken_by_others(make_peer: Callable[..., Peer]) -> None:
    """And where there is no version above, nothing is written."""
    here, there = make_peer(), make_peer()
    entry = data_key(b"k")
    assert replicate(here, sent("k", TIMESTAMP_MAX, counter=2**32 - 3)) == ["taken"]
    for method, body, expected in (("PUT", b"2", 200), ("DELETE", None, 204)):
        assert here.send(method, "/kv/k", body).status == expected
        records = here.ask_binary("/kv_range", FetchRequest.of([(entry, (0, 0))]), FetchAnswer).records
        request = ReplicateRequest([(entry, raw) for _, raw in records])
        assert list(there.ask_binary("/replicate", request, ReplicateAnswer).outcomes) == [TAKEN]
    refused = here.put("/kv/k", b"3")
    assert (refused.status, refused.code) == (409, "last_version")
    assert here.put("/kv/other", b"1").status == 201


def test_replication_goes_on_where_clients_may_not_write(make_peer: Callable[..., Peer]) -> None:
    peer = make_peer(read_only=True)
    assert peer.put("/kv/k", b"1").status == 403
    assert replicate(peer, sent("k", NOW_MS)) == ["taken"]
    assert peer.get("/kv/k").json["data"] == 1


def test_values_larger_than_a_client_here_may_send_are_taken(make_peer: Callable[..., Peer]) -> None:
    peer = make_peer(max_json_size=10, max_blob_size=10)
    assert replicate(peer, sent("k", NOW_MS, "x" * 100_000)) == ["taken"]
    assert len(peer.get("/kv/k").json["data"]) == 100_000


def test_a_record_that_has_ended_is_not_taken(peer: Peer, clock: Clock) -> None:
    """It has no place in the tree any more."""
    clock.now_ms += 3600 * 1000
    before = root_hash(peer)
    assert replicate(peer, sent("ended", NOW_MS, expires_at=NOW_MS + 1)) == ["taken"]
    assert peer.get("/kv/ended").status == 404
    assert root_hash(peer) == before


def test_tools_are_shown_nothing_that_has_ended(peer: Peer, clock: Clock) -> None:
    """Though daemons give it to each other until it leaves the disk."""
    records = [sent("ends", NOW_MS - 3, expires_at=NOW_MS + 1000), sent("gone", NOW_MS - 2, deleted=True)]
    assert replicate(peer, *records) == ["taken"] * 2
    clock.now_ms += 1000
    whole = {"hash": "", "start_key": "", "end_key": ""}
    keys = peer.ask("/merkle_tree/diff", {"parent_node": whole, "local_hash": ""})["keys"]
    assert [each["path"] for each in keys] == ["gone"]
    assert peer.ask("/kv_range", {})["pairs"] == []
    assert peer.send("POST", "/members/pairs_by_time", b"{}").status == 204
    found = peer.ask_binary("/kv_range", RangeRequest(b"", b""), RangeAnswer)
    assert [entry for entry, _ in found.records] == [data_key(b"ends"), data_key(b"gone")]
