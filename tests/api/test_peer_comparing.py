"""How a peer finds out what differs: the root and the differences of ranges, as JSON."""

from collections.abc import Callable

import pytest

from kvs.limits import DIFF_RANGES_MAX
from tests.api.peers import Peer, check_tiles, fill, root_hash, sent, walk

WHOLE = {"hash": "", "start_key": "", "end_key": ""}


def test_the_root_is_the_same_under_both_names_and_changes_with_every_record(peer: Peer) -> None:
    seen = set()
    for count in range(4):
        answer = peer.ask("/merkle_tree/root", method="GET")
        assert answer == peer.ask("/sync/merkle/root", method="GET")
        assert (answer["count"], answer["ranges_max"]) == (count, DIFF_RANGES_MAX)
        assert set(answer["root"]) == {"hash", "start_key", "end_key"}
        assert (answer["root"]["start_key"], answer["root"]["end_key"]) == ("", "")
        assert len(bytes.fromhex(answer["root"]["hash"])) == 32
        assert answer["root"]["hash"] == answer["root"]["hash"].lower()
        seen.add(answer["root"]["hash"])
        fill(peer, f"k{count}")
    assert len(seen) == 4


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["a"],
        [f"a/{n}" for n in range(31)],
        [f"k{n:04}" for n in range(3000)],
        [f"schlüssel/{chr(0xE0 + n % 30)}{chr(0x4E00 + n)}{chr(0x1F600 + n % 7)}" for n in range(700)],
        ["ä" * 500 + chr(0xC0 + n % 60) * (n // 60 + 1) for n in range(600)],
    ],
    ids=["none", "one", "few", "many", "unicode", "long"],
)
def test_a_tool_finds_every_key_by_the_plain_form(peer: Peer, keys: list[str]) -> None:
    for start in range(0, len(keys), 1000):
        fill(peer, *keys[start : start + 1000])
    found, questions = walk(peer)
    assert sorted(found) == sorted(keys)
    assert questions <= len(keys) // 2 + 2


def test_equal_ranges_are_not_cut(peer: Peer) -> None:
    fill(peer, *(f"k{n:03}" for n in range(100)))
    root = peer.ask("/merkle_tree/root", method="GET")["root"]
    equal = peer.ask("/merkle_tree/diff", {"parent_node": root, "local_hash": root["hash"]})
    assert equal["children"] == []
    children = peer.ask("/merkle_tree/diff", {"parent_node": root, "local_hash": "00"})["children"]
    again = peer.ask("/merkle_tree/diff", {"ranges": children})["ranges"]
    assert [each["children"] for each in again] == [[]] * len(children)


def test_only_the_parts_that_differ_are_looked_at(make_peer: Callable[..., Peer]) -> None:
    """Two nodes that share all but one key: as a tool that holds the one side finds it."""
    here, there = make_peer(), make_peer()
    records = [sent(f"k{n:04}", 5) for n in range(1000)]
    for peer in (here, there):
        peer.ask("/replicate", {"records": records})
    there.ask("/replicate", {"records": [sent("k0500/x", 5)]})
    assert root_hash(here) != root_hash(there)
    ranges = [{**WHOLE, "hash": root_hash(here)}]
    keys: list[str] = []
    rounds = 0
    while ranges:
        rounds += 1
        answers = there.ask("/merkle_tree/diff", {"ranges": ranges})["ranges"]
        keys += [key["path"] for answer in answers for key in answer.get("keys", [])]
        children = [child for answer in answers for child in answer.get("children", [])]
        mine = here.ask("/merkle_tree/diff", {"ranges": [{**child, "hash": child["hash"]} for child in children]})
        differ = [child for child, mine in zip(children, mine["ranges"], strict=True) if "equal" not in mine]
        ranges = [{**child, "hash": "00"} for child in differ]
    assert "k0500/x" in keys
    assert len(keys) < 40
    assert rounds <= 4


def test_children_cover_keys_that_only_the_asker_has(peer: Peer) -> None:
    fill(peer, *(f"m{n:03}" for n in range(200)))
    for start, end in (("", ""), ("a", ""), ("", "z"), ("a", "z"), ("m050", "m150"), ("m0505", "m1505")):
        parent = {"hash": "", "start_key": start, "end_key": end}
        answer = peer.ask("/merkle_tree/diff", {"parent_node": parent, "local_hash": "ff"})
        check_tiles(parent, answer["children"])
    outside = {"hash": "", "start_key": "n", "end_key": "z"}
    assert peer.ask("/merkle_tree/diff", {"parent_node": outside, "local_hash": "ff"}) == {"keys": []}


def test_a_listed_key_has_its_version(peer: Peer) -> None:
    made = peer.put("/kv/a", b"1").json
    assert peer.ask("/merkle_tree/diff", {"parent_node": WHOLE, "local_hash": ""}) == {"keys": [{"path": "a", **made}]}
    assert peer.delete("/kv/a").status == 204
    (tombstone,) = peer.ask("/merkle_tree/diff", {"parent_node": WHOLE, "local_hash": ""})["keys"]
    assert tombstone["path"] == "a"
    assert tombstone["uuid"] != made["uuid"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"parent_node": WHOLE, "local_hash": "xyz"},
        {"parent_node": WHOLE, "local_hash": "0" * 66},
        {"parent_node": {"hash": "", "start_key": "b", "end_key": "a"}, "local_hash": ""},
        {"parent_node": {"hash": "", "start_key": "b", "end_key": "b"}, "local_hash": ""},
        {"parent_node": {"start_key": "", "end_key": ""}, "local_hash": ""},
        {"parent_node": {**WHOLE, "start_key": 7}, "local_hash": ""},
        {"parent_node": [], "local_hash": ""},
        {"ranges": {}},
        {"ranges": [{}]},
        {"ranges": [{**WHOLE, "hash": "g"}]},
        {"ranges": [WHOLE] * (DIFF_RANGES_MAX + 1)},
    ],
    ids=lambda document: str(document)[:60],
)
def test_a_comparison_that_makes_no_sense_is_refused(shared_peer: Peer, document: object) -> None:
    assert shared_peer.refused("/merkle_tree/diff", document).code == "bad_message"
