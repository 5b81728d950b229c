"""Records as peers ask for them: by key and by time, as JSON, and in the binary forms that daemons use."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from kvs.cluster import exchange
from kvs.cluster.exchange import (
    CHILDREN,
    EQUAL,
    ITEMS,
    KNOWN,
    REFUSED,
    TAKEN,
    DiffAnswer,
    DiffRequest,
    FetchAnswer,
    FetchRequest,
    RangeAnswer,
    RangeRequest,
    RecentAnswer,
    RecentRequest,
    ReplicateAnswer,
    ReplicateRequest,
    Span,
)
from kvs.limits import FETCH_KEYS_MAX, PRINT_BYTES
from kvs.storage.codec import encode_record
from kvs.storage.keyspace import data_key
from tests.api.peers import Peer, fill, root_hash
from tests.api.running import Clock
from tests.records import record

# --- records of a range ---


def test_records_of_a_range(peer: Peer) -> None:
    fill(peer, "a", "b", "c", "d")
    assert peer.delete("/kv/b").status == 204
    assert peer.send("PUT", "/kv/c", b"\x00\xff", {"Content-Type": "image/png"}).status == 200
    every = peer.get("/kv/_range").json["pairs"]
    assert [pair["path"] for pair in every] == ["a", "c", "d"]
    for asked, found in (
        ({}, every),
        ({"start_key": "", "end_key": "", "limit": 1000}, every),
        ({"start_key": "a", "end_key": "d"}, every[:2]),
        ({"start_key": "aa"}, every[1:]),
        ({"limit": 2}, every[:2]),
        ({"limit": 10**9}, every),
        ({"start_key": "d", "end_key": "a"}, []),
        ({"start_key": "x"}, []),
    ):
        assert peer.ask("/kv_range", asked)["pairs"] == found
    assert [peer.ask("/kv_range", {"limit": n}).get("next_key") for n in (1, 2, 3)] == ["c", "d", None]


@pytest.mark.parametrize(
    "document", [{"limit": "1"}, {"limit": None}, {"limit": 0}, {"limit": -1}, {"start_key": 1}, []]
)
def test_a_range_that_makes_no_sense_is_refused(shared_peer: Peer, document: object) -> None:
    assert shared_peer.refused("/kv_range", document).code == "bad_message"


def test_a_page_of_large_values_ends_early_and_says_where(peer: Peer) -> None:
    """64 values of 1 MiB each are not one answer."""
    value = b'"%b"' % (b"x" * 1_000_000)
    for n in range(12):
        assert peer.put(f"/kv/big{n:02}", value).status == 201
    found: list[str] = []
    start = ""
    for _ in range(12):
        answer = peer.ask("/kv_range", {"start_key": start})
        assert sum(len(pair["stored_value"]["data"]) for pair in answer["pairs"]) < 9_000_000
        found += [pair["path"] for pair in answer["pairs"]]
        start = answer.get("next_key", "")
        if not start:
            break
    assert found == [f"big{n:02}" for n in range(12)]


# --- records by time ---


def test_newest_first_from_start_inclusive_to_end_exclusive(peer: Peer, clock: Clock) -> None:
    pairs: list[dict[str, Any]] = []
    for n in range(20):
        clock.now_ms += 10
        pairs.insert(0, {"path": f"{'ab'[n % 2]}/{n}", **peer.put(f"/kv/{'ab'[n % 2]}/{n}", b"1").json})
    times = [pair["timestamp"] for pair in pairs]
    for asked, found in (
        ({}, pairs[:15]),
        ({"limit": 20}, pairs),
        ({"limit": 1000}, pairs),
        ({"limit": 1}, pairs[:1]),
        ({"start_timestamp": times[4]}, pairs[:5]),
        ({"start_timestamp": times[4] + 1}, pairs[:4]),
        ({"end_timestamp": times[4]}, pairs[5:]),
        ({"end_timestamp": times[4] + 1}, pairs[4:19]),
        ({"start_timestamp": times[9], "end_timestamp": times[4]}, pairs[5:10]),
        ({"prefix": "a/"}, pairs[1::2]),
        ({"prefix": "a/1", "limit": 2}, [pair for pair in pairs if pair["path"].startswith("a/1")][:2]),
    ):
        assert peer.ask("/members/pairs_by_time", asked) == found, asked
    for nothing in (
        {"start_timestamp": clock.now_ms + 1},
        {"end_timestamp": times[-1]},
        {"start_timestamp": times[4], "end_timestamp": times[4]},
        {"start_timestamp": times[4], "end_timestamp": times[9]},
        {"prefix": "c"},
        {"prefix": "/"},
    ):
        reply = peer.send("POST", "/members/pairs_by_time", str(nothing).replace("'", '"').encode())
        assert (reply.status, reply.body) == (204, b"")


def test_what_is_deleted_or_over_is_not_among_the_newest(peer: Peer, clock: Clock) -> None:
    fill(peer, "stays", "goes")
    assert peer.put("/kv/ends?ttl=1s", b"1").status == 201
    clock.now_ms += 1000
    assert peer.delete("/kv/goes").status == 204
    assert [pair["path"] for pair in peer.ask("/members/pairs_by_time", {})] == ["stays"]


def test_old_matches_are_found_behind_many_newer_others(peer: Peer, clock: Clock) -> None:
    fill(peer, "old/1")
    clock.now_ms += 1
    for start in range(0, 9_000, 1_000):
        fill(peer, *(f"new/{n}" for n in range(start, start + 1_000)))
    assert [pair["path"] for pair in peer.ask("/members/pairs_by_time", {"prefix": "old/"})] == ["old/1"]


@pytest.mark.parametrize(
    "document",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": 1001},
        {"start_timestamp": -1},
        {"end_timestamp": -1},
        {"start_timestamp": 2**64},
        {"end_timestamp": 2**64 - 1},
        {"end_timestamp": 1.5},
        {"prefix": 1},
        [],
    ],
    ids=str,
)
def test_times_that_make_no_sense_are_refused(shared_peer: Peer, document: object) -> None:
    assert shared_peer.refused("/members/pairs_by_time", document).code == "bad_message"


def test_the_binary_forms_say_the_same(make_peer: Callable[..., Peer]) -> None:
    """A tool that copies one node to another by the binary forms alone."""
    here, there = make_peer(), make_peer()
    fill(here, *(f"k{n:03}" for n in range(300)))
    mark = bytes.fromhex(root_hash(here))[:PRINT_BYTES]
    (equal,) = here.ask_binary("/merkle_tree/diff", DiffRequest.of([Span(b"", b"", mark)], 32), DiffAnswer).differences(
        1
    )
    assert equal.kind == EQUAL
    (cut,) = here.ask_binary(
        "/merkle_tree/diff", DiffRequest.of([Span(b"", b"", bytes(6))], 32), DiffAnswer
    ).differences(1)
    assert cut.kind == CHILDREN
    edges = [b"", *cut.cuts, b""]
    spans = [Span(a, b, bytes(PRINT_BYTES)) for a, b in pairwise(edges)]
    lists = here.ask_binary("/merkle_tree/diff", DiffRequest.of(spans, 32), DiffAnswer).differences(len(spans))
    assert {part.kind for part in lists} <= {ITEMS, EQUAL}
    keys = [key for part in lists for key in part.cuts]
    assert keys == [data_key(b"k%03d" % n) for n in range(300)]
    fetched = here.ask_binary("/kv_range", FetchRequest.of([(key, (0, 0)) for key in keys]), FetchAnswer)
    assert fetched.done == len(keys)
    ranged = here.ask_binary("/kv_range", RangeRequest(b"", b""), RangeAnswer)
    assert ranged.rest == b""
    assert [raw for _, raw in ranged.records] == [raw for _, raw in fetched.records]
    recent = here.ask_binary("/members/pairs_by_time", RecentRequest(b"", 0), RecentAnswer)
    assert recent.before == b""
    assert sorted(recent.records) == ranged.records
    for outcome in (TAKEN, KNOWN):
        answer = there.ask_binary("/replicate", ReplicateRequest(ranged.records), ReplicateAnswer)
        assert set(answer.outcomes) == {outcome}
        assert len(answer.outcomes) == 300
    assert root_hash(there) == root_hash(here)
    assert there.get("/kv/_range?limit=1000").body == here.get("/kv/_range?limit=1000").body


def test_a_bad_record_does_not_keep_the_others_out(peer: Peer) -> None:
    good = encode_record(record())
    records = [(data_key(b"a"), good), (data_key(b"b"), good[:20]), (b"zz", good), (data_key(b"c"), good)]
    answer = peer.ask_binary("/replicate", ReplicateRequest(records), ReplicateAnswer)
    assert list(answer.outcomes) == [TAKEN, REFUSED, REFUSED, TAKEN]
    too_many = ReplicateRequest([(data_key(b"a"), good)] * (FETCH_KEYS_MAX + 1))
    assert peer.post_binary("/replicate", exchange.encode(too_many)).code == "bad_message"
