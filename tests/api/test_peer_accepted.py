"""Whatever a peer may bring and is taken can be read, listed, written over and sent on: nothing that is taken breaks
anything, and every other node takes it too."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvs.cluster.exchange import (
    REFUSED,
    FetchAnswer,
    FetchRequest,
    RecentAnswer,
    RecentRequest,
    ReplicateAnswer,
    ReplicateRequest,
)
from kvs.limits import TIMESTAMP_MAX
from kvs.storage.codec import encode_record
from kvs.storage.compression import RAW, ZSTD
from kvs.storage.keyspace import data_key, system_key
from kvs.storage.record import JSON, Record
from tests.api.accounts import Place, place
from tests.api.client import Client
from tests.api.peers import CLUSTER, Peer
from tests.api.running import Clock, RunningNode

NOW_MS = Clock().now_ms
UUID = "0f1e2d3c-4b5a-4978-a6b5-c4d3e2f10213"
HASH = "ab" * 64
NAMES = [f"user/{UUID}", f"group/{UUID}", f"nickname/{HASH}", f"groupname/{HASH}", f"token/{HASH}", "metadata/a"]
ODD_NAMES = [
    "user/x",
    "group/",
    f"token/{HASH[:32]}",
    "metadata/a//b",
    "metadata/_a",
    "later/of a/kind",
    "kind",
    "\x7f/a",
]
GOOD_DOCUMENTS: list[dict[str, Any]] = [
    {"uuid": UUID, "nickname_hash": HASH, "groupname_hash": HASH, "created_at": 1, "updated_at": 2},
    {"token_id": HASH[:32], "user_uuid": UUID, "scopes": ["read"], "created_at": 1, "expires_at": 2**41},
    {"owner_uuid": UUID, "permissions": 0},
]
FIELDS = ["uuid", "members", "groups", "scopes", "permissions", "created_at", "expires_at", "revoked_at"]
NUMBERS = [0, 1, -1, 2**31, 2**53, TIMESTAMP_MAX, 2**63, 2**64 - 1, 2**70, 1.5]

odd_values = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.text(max_size=8), st.sampled_from([[], [UUID], {}])
)
documents = st.builds(
    lambda good, odd: json.dumps({**good, **odd}).encode(),
    st.sampled_from(GOOD_DOCUMENTS),
    st.dictionaries(st.sampled_from(FIELDS), odd_values, max_size=1),
) | st.just(json.dumps(UUID).encode())
values = st.one_of(
    documents,
    documents,
    documents,
    documents,
    st.sampled_from(
        [b"1", b"null", b'"\xc3\xa9"', b"[" * 900 + b"]" * 900, b"1e999", b"", b"\xff", b'"%b"' % bytes(5_000)]
    ),
    st.binary(max_size=20),
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)
entries = st.one_of(
    texts.map(lambda text: data_key(b"k" + text.replace("//", "/").rstrip("/").encode())),
    st.sampled_from(NAMES).map(lambda name: system_key(name.encode())),
    st.sampled_from(["k" * 1024, "k" * 1025, "_k", "a/metadata", "k/./b"]).map(lambda text: data_key(text.encode())),
    st.sampled_from(ODD_NAMES).map(lambda name: system_key(name.encode())),
    st.binary(min_size=1, max_size=6),
)
ODD_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "timestamp": st.sampled_from([0, 1, NOW_MS - 5_000, NOW_MS + 60_001, 2**47, TIMESTAMP_MAX, TIMESTAMP_MAX + 1]),
    "counter": st.sampled_from([1, 2**32 - 2, 2**32 - 1]),
    "origin": st.sampled_from(["n" * 255, "", "a b", "\u00e9"]),
    "origin_joined": st.sampled_from([0, 2**64 - 1]),
    "base": st.sampled_from([(0, 1), (NOW_MS, 0), (2**64 - 1, 2**32 - 1)]),
    "owner": st.sampled_from([UUID, "ann", "\n"]),
    "expires_at": st.sampled_from([1, NOW_MS - 130_000, NOW_MS - 1, NOW_MS + 1, TIMESTAMP_MAX, 2**64 - 1]),
    "deleted": st.just(True),
    "content_type": st.sampled_from(
        ["a/b", "text/plain; charset=utf-8", "a/b" + ";" * 252, "text", "a/b\r\nX: 1", "\u00e9/b"]
    ),
}


@st.composite
def records(draw: st.DrawFn) -> Record:
    """One that a node could have written, but for what is odd about it."""
    value = draw(values)
    odd = {name: draw(ODD_FIELDS[name]) for name in draw(st.sets(st.sampled_from(sorted(ODD_FIELDS)), max_size=2))}
    codec = draw(st.sampled_from([RAW, RAW, RAW, ZSTD]))
    payload = zstandard.compress(value) if codec == ZSTD else value
    good: dict[str, Any] = {
        "timestamp": NOW_MS,
        "counter": 0,
        "origin": "far",
        "origin_joined": 1,
        "content_type": JSON,
    }
    if odd.get("deleted") and draw(st.integers(0, 9)):
        codec, payload = RAW, b""
    return Record(uuid=draw(st.binary(min_size=16, max_size=16)), codec=codec, payload=payload, **{**good, **odd})


class Nodes(NamedTuple):
    """`peer` hands records to `at`, `other` to a second node that nobody else asks."""

    at: Place
    peer: Peer
    other: Peer


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("accepted")
    with place(folder / "here", **CLUSTER) as at:
        there = RunningNode(folder / "there", clock=at.clock, **{**CLUSTER, "node_id": "node2", "auth_enabled": True})
        peer, other = Peer(at.node.address), Peer(there.address)
        yield Nodes(at, peer, other)
        peer.close()
        other.close()
        there.stop()


def check(client: Client, method: str, target: str, body: bytes | None = None) -> int:
    reply = client.send(method, target, body)
    assert reply.status < 500, (method, target, reply)
    if method == "GET" and reply.headers["content-type"] == "application/json":
        msgspec.json.decode(reply.body)
    return reply.status


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(entries, records()), min_size=1, max_size=4))
def test_what_is_taken_breaks_nothing(nodes: Nodes, brought: list[tuple[bytes, Record]]) -> None:
    number = nodes.at.clock.now_ms
    for peer in (nodes.peer, nodes.other):
        peer.credentials["X-Node-ID"] = f"daemon{number}"  # each batch from another, or it would be cut off
    nodes.at.clock.now_ms += 1
    request = ReplicateRequest([(entry, encode_record(record)) for entry, record in brought])
    answer = nodes.peer.ask_binary("/replicate", request, ReplicateAnswer)
    taken = [entry for (entry, _), outcome in zip(brought, answer.outcomes, strict=True) if outcome != REFUSED]
    root = nodes.at.root.ask
    for entry in taken:
        if entry.startswith(b"d"):
            check_key(root, quote(entry[1:], safe=""))
    for target in ("/kv/_range?limit=1000", "/kv/_list?depth=9&limit=1000", "/kv/a/metadata?effective=true"):
        assert check(root, "GET", target) == 200
    for kind in ("users", "groups", "tokens"):
        assert check(root, "GET", f"/api/{kind}?limit=1000") == 200
        check(root, "GET", f"/api/{kind}/{UUID}")
    check_peer(nodes.peer)
    send_on(nodes, taken)


def check_key(root: Client, key: str) -> None:
    """Everything that may be asked about a key, then about what is written over it."""
    for _ in range(2):
        for method, target in (
            ("GET", f"/kv/{key}"),
            ("HEAD", f"/kv/{key}"),
            ("GET", f"/kv/_range?prefix={key}"),
            ("GET", f"/kv/_list?prefix={key}"),
            ("GET", f"/kv/{key}/metadata?effective=true"),
            ("GET", f"/api/data/{key}/history"),
            ("GET", f"/api/data/{key}/history/1"),
            ("POST", f"/api/data/{key}/history/2/restore"),
            ("POST", f"/api/data/{key}/history/1/restore"),
        ):
            check(root, method, target)
        check(root, "PUT", f"/kv/{key}/metadata", b'{"permissions":3889}')
        check(root, "PUT", f"/kv/{key}?ttl=1h", b"1")
    check(root, "DELETE", f"/kv/{key}")


def check_peer(peer: Peer) -> None:
    whole = {"hash": "", "start_key": "", "end_key": ""}
    peer.ask("/merkle_tree/diff", {"parent_node": whole, "local_hash": ""})
    assert peer.send("POST", "/kv_range", b"{}").status == 200
    newest = {"limit": 1000, "end_timestamp": TIMESTAMP_MAX + 1}
    assert peer.send("POST", "/members/pairs_by_time", json.dumps(newest).encode()).status in (200, 204)
    peer.ask_binary("/members/pairs_by_time", RecentRequest(b"", 0), RecentAnswer)
    assert peer.send("GET", "/members/").status == 200


def send_on(nodes: Nodes, taken: list[bytes]) -> None:
    """What the node holds now, by its own writes too, is taken by another one."""
    wanted = list(dict.fromkeys(taken))
    answer = nodes.peer.ask_binary("/kv_range", FetchRequest.of([(entry, (0, 0)) for entry in wanted]), FetchAnswer)
    request = ReplicateRequest([(wanted[place], raw) for place, raw in answer.records])
    outcomes = nodes.other.ask_binary("/replicate", request, ReplicateAnswer).outcomes
    assert REFUSED not in outcomes
