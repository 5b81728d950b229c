"""Whatever a peer sends, the answer says that it is wrong, soon, and the node goes on."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvs.cluster import exchange
from kvs.cluster.exchange import DiffRequest, FetchRequest, RangeRequest, RecentRequest, ReplicateRequest, Span
from kvs.cluster.packing import pack_keys
from kvs.limits import DIFF_RANGES_MAX, FETCH_KEYS_MAX, PEER_BODY_MAX_BYTES
from kvs.storage.codec import encode_record
from tests.api.peers import BINARY, CLUSTER, PEER1, PEER_CALLS, WITH_BODY, Peer, fill, sent
from tests.api.running import RunningNode
from tests.records import record

PATHS = [path for _, path in WITH_BODY]
METHOD = {path: method for method, path in WITH_BODY}
MSGPACK = msgspec.msgpack.encode
RECORD = encode_record(record())
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """A peer of a node that holds 300 keys; what is sent to it must not change them."""
    node = RunningNode(tmp_path_factory.mktemp("hostile") / "data", **CLUSTER)
    made = Peer(node.address)
    fill(made, *(f"k{n:03}" for n in range(300)))
    before = made.get("/kv/_range?prefix=k&limit=1000").body
    yield made
    assert made.get("/kv/_range?prefix=k&limit=1000").body == before
    assert made.get("/kv/_range").status == 200
    assert {member["status"] for member in made.get("/members/").json if member["id"] == "node1"} == {"alive"}
    made.close()
    node.stop()


_numbers = count(1)


def send(peer: Peer, path: str, body: bytes, *, binary: bool = False) -> int:
    """The status; any answer is held against the common rules, of which one is that it is not 500. Each from another
    daemon, or that one would be cut off."""
    if binary:
        peer.credentials["X-Node-ID"] = f"daemon{next(_numbers)}"
        return peer.post_binary(path, body).status
    peer.credentials["X-Node-ID"] = "peer1"
    return peer.send(METHOD[path], path, body).status


NOT_JSON = [
    b"",
    b"{",
    b"nul",
    b"NaN",
    b"\xff",
    b'"\xff"',
    b'"\\ud800"',
    b"1e999",
    b"[" * 30_000,
    b'{"a":' * 5_000,
    b"[" * 500 + b"]" * 500,
    b"null",
    b"true",
    b"7",
    b'"text"',
    b"\x00" * 100,
    b"\xef\xbb\xbf{}",
    b"{} {}",
]


@pytest.mark.parametrize("path", PATHS)
def test_bodies_that_are_no_message(peer: Peer, path: str) -> None:
    for body in NOT_JSON:
        assert send(peer, path, body) == 400, body[:20]
        if path in BINARY and body:
            assert send(peer, path, body, binary=True) == 400, body[:20]


@pytest.mark.parametrize("path", PATHS)
def test_texts_that_are_not_unicode(peer: Peer, path: str) -> None:
    """In the place of each text of a good message."""
    document = {
        "/merkle_tree/diff": {"ranges": [{"hash": "00", "start_key": "MARK", "end_key": ""}]},
        "/kv_range": {"start_key": "MARK"},
        "/members/pairs_by_time": {"prefix": "MARK"},
        "/replicate": {"records": [sent("MARK", 1)]},
        "/members/gossip": [{**PEER1, "id": "MARK"}],
        "/audit/heads": {"heads": [{"node_id": "MARK"}]},
    }.get(path, {**PEER1, "id": "MARK"})
    body = json.dumps(document).encode()
    for text in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\\ud800", b"\\udfff"):
        assert send(peer, path, body.replace(b"MARK", text)) == 400, text


KEY = b"dk000"
BINARY_BAD: dict[str, tuple[str, bytes]] = {
    "too few fields": ("/merkle_tree/diff", MSGPACK([b"", b""])),
    "wrong types": ("/merkle_tree/diff", MSGPACK(["", "", ""])),
    "a text that is not UTF-8": ("/kv_range", b"\x93\xa4\xff\xff\xff\xff\xc0\xc0"),
    "another tag": ("/kv_range", MSGPACK(["values", b"", b""])),
    "a mark cut off": ("/merkle_tree/diff", MSGPACK([pack_keys([b"", b"d"]), b"12345", 32])),
    "ranges without marks": ("/merkle_tree/diff", MSGPACK([pack_keys([b"", b"d"]), b"", 32])),
    "a range backwards": ("/merkle_tree/diff", exchange.encode(DiffRequest.of([Span(b"e", b"d", bytes(6))], 32))),
    "half a range": ("/merkle_tree/diff", MSGPACK([pack_keys([b"d"]), bytes(6), 32])),
    "keys that do not unpack": ("/merkle_tree/diff", MSGPACK([b"\xff\xff\xff\xff", bytes(6), 32])),
    "keys that share what is not there": ("/merkle_tree/diff", MSGPACK([b"\x05\x01a", bytes(6), 32])),
    "a key without its end": ("/merkle_tree/diff", MSGPACK([b"\x00\x05a", bytes(6), 32])),
    "a key too long": ("/kv_range", MSGPACK(["keys", pack_keys([b"d" + b"k" * 1100]), [(0, 0)]])),
    "too many ranges": (
        "/merkle_tree/diff",
        MSGPACK([pack_keys([b"", b"d"] * (DIFF_RANGES_MAX + 1)), bytes(6) * (DIFF_RANGES_MAX + 1), 32]),
    ),
    "keys without versions": ("/kv_range", MSGPACK(["keys", pack_keys([KEY]), []])),
    "half a version": ("/kv_range", MSGPACK(["keys", pack_keys([KEY]), [[1]]])),
    "too many keys": ("/kv_range", exchange.encode(FetchRequest.of([(KEY, (0, 0))] * (FETCH_KEYS_MAX + 1)))),
    "a record without its key": ("/replicate", MSGPACK([[[RECORD]]])),
    "a record as text": ("/replicate", MSGPACK([[["dk", "x"]]])),
    "no time": ("/members/pairs_by_time", MSGPACK([b"", "now"])),
    "nested behind the end": ("/merkle_tree/diff", b"\x94\xc4\x00\xc4\x00\x20" + b"\x91" * 100_000),
    "nested in a field": ("/kv_range", b"\x93\xa4keys" + b"\x91" * 100_000),
    "a million empty lists": ("/replicate", MSGPACK([[[]] * 1_000_000])),
    "a list said to be endless": ("/replicate", b"\x91\xdd\xff\xff\xff\xff"),
    "bytes said to be endless": ("/members/pairs_by_time", b"\x92\xc6\xff\xff\xff\xff"),
}


@pytest.mark.parametrize(("path", "body"), BINARY_BAD.values(), ids=list(BINARY_BAD))
def test_binary_messages_that_make_no_sense(peer: Peer, path: str, body: bytes) -> None:
    assert send(peer, path, body, binary=True) == 400
    assert send(peer, path, zstandard.compress(body), binary=True) == 400


def _bomb(size_bytes: int, *, told: bool) -> bytes:
    """So many zeros, packed."""
    packer = zstandard.ZstdCompressor(level=3, write_content_size=told).compressobj(size=size_bytes if told else -1)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(size_bytes >> 20)), packer.flush()])


GOOD = zstandard.compress(exchange.encode(ReplicateRequest([])))
BOMBS = {
    "larger than any message": _bomb(PEER_BODY_MAX_BYTES + (1 << 20), told=True),
    "of unknown size": _bomb(PEER_BODY_MAX_BYTES + (1 << 20), told=False),
    "said to be endless": b"\x28\xb5\x2f\xfd\xc0" + b"\x00" + b"\xff" * 8 + b"\x01\x00\x00",
    "cut off": _bomb(1 << 20, told=True)[:-1],
    "the head alone": b"\x28\xb5\x2f\xfd",
    "another behind it": GOOD + GOOD,
    "text behind it": GOOD + b"x",
    "with an unknown dictionary": b"\x28\xb5\x2f\xfd\x03\x00\xff\xff\xff\xff" + b"\x01\x00\x00",
    "packed twice": zstandard.compress(GOOD),
}


@pytest.mark.parametrize("body", BOMBS.values(), ids=list(BOMBS))
def test_packed_bodies_are_unpacked_within_bounds(peer: Peer, body: bytes) -> None:
    for path in BINARY:
        assert send(peer, path, body, binary=True) == 400
    assert send(peer, "/replicate", GOOD, binary=True) == 200


def test_records_that_unpack_to_too_much(peer: Peer) -> None:
    """A value that a record claims to be larger than any is refused, and the others are not."""
    bomb = msgspec.structs.replace(record(content_type="a/b", payload=_bomb(65 << 20, told=True)), codec=1)
    peer.credentials["X-Node-ID"] = "bomber"
    request = ReplicateRequest([(b"dbomb", encode_record(bomb))] * 20)
    answer = peer.ask_binary("/replicate", request, exchange.ReplicateAnswer)
    assert set(answer.outcomes) == {exchange.REFUSED}


NAMES = [
    "id",
    "address",
    "joined_timestamp",
    "incarnation",
    "instance_id",
    "sender",
    "to",
    "target",
    "timeout_ms",
    "rated",
    "rumours",
    "digest",
    "parent_node",
    "local_hash",
    "ranges",
    "hash",
    "start_key",
    "end_key",
    "limit",
    "prefix",
    "start_timestamp",
    "end_timestamp",
    "records",
    "path",
    "uuid",
    "timestamp",
    "counter",
    "origin",
    "base",
    "data",
]
numbers = st.integers(-(2**63), 2**64 - 1)
messages = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)
GOOD_MESSAGES = [
    ("/merkle_tree/diff", DiffRequest.of([Span(b"", b"dk1", bytes(6)), Span(b"dk1", b"", bytes(6))], 32)),
    ("/kv_range", FetchRequest.of([(b"dk%03d" % n, (1, 0)) for n in range(5)])),
    ("/kv_range", RangeRequest(b"dk", b"dl")),
    ("/members/pairs_by_time", RecentRequest(b"", 0)),
    ("/replicate", ReplicateRequest([(b"dzz/zz", RECORD), (b"szz/zz", RECORD)])),
]
edits = st.lists(
    st.tuples(st.sampled_from(["change", "insert", "cut", "repeat"]), st.floats(0, 1), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)


def edited(body: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    for kind, place, byte in changes:
        at = min(int(place * len(body)), max(0, len(body) - 1))
        head, tail = body[:at], body[at + 1 :]
        middle = {"change": bytes([byte]), "insert": bytes([byte]) + body[at : at + 1], "cut": b""}.get(kind, body)
        body = head + middle + tail
    return body


@quick
@given(st.sampled_from(PATHS), st.binary(max_size=200), st.booleans())
def test_random_bytes(peer: Peer, path: str, body: bytes, binary: bool) -> None:
    assert send(peer, path, body, binary=binary and path in BINARY) < 500


@quick
@given(st.sampled_from(PATHS), documents)
def test_random_documents(peer: Peer, path: str, document: object) -> None:
    assert send(peer, path, json.dumps(document).encode()) < 500


@quick
@given(st.sampled_from(BINARY), messages)
def test_random_messages(peer: Peer, path: str, message: object) -> None:
    assert send(peer, path, MSGPACK(message), binary=True) < 500


@quick
@given(st.sampled_from(WITH_BODY), documents, st.sampled_from(NAMES))
def test_good_documents_with_one_field_that_is_not(
    peer: Peer, route: tuple[str, str], value: object, name: str
) -> None:
    document: Any = PEER_CALLS[route].document
    if isinstance(document, dict):
        document = {**document, name: value}
    assert send(peer, route[1], json.dumps(document).encode()) < 500


@quick
@given(st.sampled_from(GOOD_MESSAGES), edits, st.booleans())
def test_good_messages_with_some_bytes_that_are_not(
    peer: Peer, good: tuple[str, msgspec.Struct], changes: list[tuple[str, float, int]], packed: bool
) -> None:
    path, message = good
    body = exchange.encode(message)
    body = edited(zstandard.compress(body), changes) if packed else edited(body, changes)
    assert send(peer, path, body, binary=True) < 500
