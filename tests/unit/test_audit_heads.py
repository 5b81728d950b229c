"""Heads: what they cover, when they are due, and which of them a peer keeps."""

from collections.abc import Sequence

import msgspec
import pytest

from kvs.cluster.audit_heads import NO_HEAD, Head, HeadKey, HeadsOffer, are_good, decode_head, decode_offer, encode
from kvs.cluster.audit_kept import consider
from kvs.cluster.audit_run import Frontier, Run
from kvs.errors import BadMessage
from kvs.limits import AUDIT_HEADS_PER_MESSAGE_MAX, AUDIT_KEPT_HEADS_MAX, AUDIT_KEPT_NODES_MAX
from kvs.storage.keyspace import AUDIT_HEADS
from tests.auditing import HOUR_MS, KEY, START_MS, check_rows, entries_in, heads_in, make_log
from tests.nodes import LOG

LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The vectors of Certificate Transparency: roots of the first so many leaves."""


def test_roots_are_those_of_certificate_transparency() -> None:
    frontier = Frontier()
    found = [frontier.root.hex()]
    for leaf in LEAVES:
        frontier.append(bytes.fromhex(leaf))
        found.append(frontier.root.hex())
    assert found == ROOTS


def run_over(times: Sequence[int], newest: Head | None = None) -> Run:
    run = Run(KEY, "node1", LOG, newest)
    for number, raw in enumerate(entries_in(make_log(times, signed=False)), 1):
        run.take(number, raw)
    return run


def test_a_head_is_due_when_the_hour_is_over() -> None:
    run = Run(KEY, "node1", LOG, None)
    assert not run.is_due(START_MS)
    assert not run.is_open
    run = run_over([START_MS, START_MS + 1])
    assert run.is_open
    assert not run.is_due(START_MS + 2)
    assert run.is_due(START_MS + HOUR_MS)
    head = run.head(START_MS + HOUR_MS)
    assert (head.number, head.first, head.last, head.previous) == (1, 1, 2, NO_HEAD)
    assert (head.oldest, head.newest) == ("2023-11-14T22:13:20.000Z", "2023-11-14T22:13:20.001Z")
    assert run.is_due(START_MS + HOUR_MS), "it counts once it is on the disk"
    run.written(head)
    assert not run.is_due(START_MS + HOUR_MS)
    assert run.position == 2


def test_every_hour_has_a_head_of_its_own_also_when_they_are_made_late() -> None:
    rows = make_log([START_MS, START_MS + 1, START_MS + HOUR_MS, START_MS + 3 * HOUR_MS])
    assert [(head.first, head.last) for head in heads_in(rows)] == [(1, 2), (3, 3), (4, 4)]
    heads = heads_in(rows)
    assert [head.previous for head in heads] == [NO_HEAD, heads[0].id, heads[1].id]


def test_a_clock_that_is_set_back_makes_no_heads() -> None:
    rows = make_log([START_MS, START_MS + HOUR_MS, START_MS, START_MS + HOUR_MS, START_MS - 5 * HOUR_MS])
    heads = heads_in(rows)
    assert [(head.first, head.last) for head in heads] == [(1, 1), (2, 5)]
    assert (heads[1].oldest, heads[1].newest) == ("2023-11-14T17:13:20.000Z", "2023-11-14T23:13:20.000Z")


def test_damaged_entries_get_a_head_too() -> None:
    run = Run(KEY, "node1", LOG, None)
    for number, raw in enumerate((b"", b"x" * 200, entries_in(make_log([START_MS]))[0]), 1):
        assert run.take(number, raw)
    head = run.head(START_MS)
    assert (head.oldest, head.newest, head.last) == ("", "", 3)
    assert decode_head(encode(head)) == head


def test_after_a_new_secret_the_newest_head_is_by_the_new_key() -> None:
    rows = make_log([START_MS])
    (old,) = heads_in(rows)
    key = HeadKey(b"new" + bytes(29))
    run = Run(key, "node1", LOG, old)
    assert run.is_due(START_MS)
    head = run.head(START_MS)
    assert (head.number, head.first, head.last, head.chain) == (2, 2, 1, old.chain)
    rows[AUDIT_HEADS + bytes(7) + b"\1" + bytes(7) + b"\2"] = encode(head)
    assert check_rows(rows, keys=[key.public]).findings == []
    run.written(head)
    assert not run.is_due(START_MS)


def test_a_head_is_signed_as_a_whole() -> None:
    (head,) = heads_in(make_log([START_MS]))
    assert head.is_signed
    others: dict[str, object] = {"node_id": "n2", "log": "x", "last": 2, "written": "", "signature": "0" * 128}
    for field, value in others.items():
        assert not msgspec.structs.replace(head, **{field: value}).is_signed, field
    assert not msgspec.structs.replace(head, key=HeadKey(b"x" * 32).public).is_signed
    assert are_good([head], "node1")
    assert not are_good([head], "n2")
    assert not are_good([head, msgspec.structs.replace(head, last=2)], "node1")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"node_id":"' + b"x" * 1000])
def test_what_is_no_head_is_refused(raw: bytes) -> None:
    with pytest.raises(BadMessage):
        decode_head(raw)


def test_an_offer_is_bounded() -> None:
    (head,) = heads_in(make_log([START_MS]))
    assert len(decode_offer(encode(HeadsOffer((head,) * AUDIT_HEADS_PER_MESSAGE_MAX))).heads) == 100
    with pytest.raises(BadMessage):
        decode_offer(encode(HeadsOffer((head,) * (AUDIT_HEADS_PER_MESSAGE_MAX + 1))))


# --- what a peer keeps ---

HEADS = heads_in(make_log([START_MS + hour * HOUR_MS for hour in range(8)]))
OTHER_KEY_HEADS = heads_in(make_log([START_MS + hour * HOUR_MS + 1 for hour in range(8)]))
"""Another history of the same log."""
OTHER_LOG = heads_in(make_log([START_MS], log="another"))


def test_the_first_that_is_offered_is_kept() -> None:
    kept = consider({}, "node1", HeadsOffer((HEADS[2],)), ["node1"])
    assert kept.heads == (HEADS[2],) == kept.answer.kept
    assert kept.answer.taken


def test_one_that_goes_on_takes_its_place() -> None:
    kept = consider({"node1": (HEADS[2],)}, "node1", HeadsOffer(tuple(HEADS[3:6])), ["node1"])
    assert kept.heads == (HEADS[5],)
    assert kept.answer.taken
    assert not kept.is_new_log


@pytest.mark.parametrize(
    "heads", [HEADS[:2], HEADS[1:2], HEADS[5:6], OTHER_KEY_HEADS[2:3], OTHER_KEY_HEADS[3:4], OTHER_LOG]
)
def test_none_that_does_not_go_on_takes_its_place(heads: list[Head]) -> None:
    held = {"node1": (HEADS[2],)}
    kept = consider(held, "node1", HeadsOffer(tuple(heads)), ["node1"])
    assert kept.heads is None
    assert not kept.answer.taken
    assert kept.answer.kept == (HEADS[2],)
    anew = consider(held, "node1", HeadsOffer(tuple(heads), anew=True), ["node1"])
    assert anew.heads == (HEADS[2], heads[-1])
    assert anew.is_new_log


def test_what_is_known_changes_nothing() -> None:
    for anew in (False, True):
        kept = consider({"node1": (HEADS[2],)}, "node1", HeadsOffer((HEADS[2],), anew), ["node1"])
        assert (kept.heads, kept.answer.taken, kept.is_new_log) == (None, True, False)


def test_asking_changes_nothing() -> None:
    assert consider({"node1": (HEADS[2],)}, "node1", HeadsOffer(), []).answer.kept == (HEADS[2],)
    assert consider({}, "node1", HeadsOffer(), []).heads is None


def test_whoever_makes_up_logs_does_not_get_rid_of_the_first_ones() -> None:
    held: dict[str, tuple[Head, ...]] = {}
    for number in range(20):
        (head,) = heads_in(make_log([START_MS], log=f"log{number}"))
        held["node1"] = consider(held, "node1", HeadsOffer((head,), anew=True), ["node1"]).heads or held["node1"]
    assert [head.log for head in held["node1"]] == ["log0", "log1", "log2", "log19"]
    assert len(held["node1"]) == AUDIT_KEPT_HEADS_MAX


def test_beside_another_log_the_present_one_goes_on() -> None:
    held = {"node1": (OTHER_LOG[0], HEADS[2])}
    kept = consider(held, "node1", HeadsOffer((HEADS[3],)), ["node1"])
    assert kept.heads == (OTHER_LOG[0], HEADS[3])


def test_so_many_nodes_are_kept_and_those_that_are_gone_make_room() -> None:
    held = {f"n{number}": (HEADS[0],) for number in range(AUDIT_KEPT_NODES_MAX)}
    everybody = [*held, "node1"]
    full = consider(held, "node1", HeadsOffer((HEADS[0],)), everybody)
    assert (full.heads, full.answer.taken) == (None, False)
    everybody.remove("n500")
    made = consider(held, "node1", HeadsOffer((HEADS[0],)), everybody)
    assert (made.heads, made.forgotten) == ((HEADS[0],), "n500")
