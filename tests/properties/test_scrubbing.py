"""A tree that was damaged is right again after one pass, whatever the damage, and a right one is left alone."""

from contextlib import ExitStack
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.cluster import merkle, scrubbing
from kvs.cluster.events import Delete, Put, Scrub, Scrubbed, Transact
from kvs.cluster.merkle import Sum, read_tree, sum_of_items
from kvs.cluster.scrubbing import Scrubber
from kvs.limits import SCRUB_PAUSE_MS
from kvs.storage.keyspace import ITEMS, RUNS, data_key, system_key
from kvs.storage.record import new_uuid
from tests.comparing import compare
from tests.nodes import LoneNode

NOW_MS = 1_700_000_000_000

names = st.text("ab/é", min_size=1, max_size=4).map(lambda text: b"k" + text.replace("/", "-").encode())
entries = names.map(data_key) | names.map(lambda name: system_key(b"user/" + name))
prefixes = st.sampled_from([ITEMS, RUNS])
new_values = st.none() | st.binary(min_size=32, max_size=32) | st.binary(min_size=36, max_size=36) | st.just(b"")
damages = st.lists(st.tuples(prefixes, st.just(b"") | entries, new_values), max_size=6)
"""Rows that come to hold something else, or nothing."""


def small(mean: int, records: int, size_bytes: int) -> ExitStack:
    """Short runs, short steps."""
    patches = ExitStack()
    for module, name, value in (
        (merkle, "RUN_ITEMS_MEAN", mean),
        (scrubbing, "SCRUB_MAX_RECORDS", records),
        (scrubbing, "SCRUB_MAX_BYTES", size_bytes),
    ):
        patches.enter_context(patch.object(module, name, value))
    return patches


def filled(written: list[bytes]) -> LoneNode:
    node = LoneNode(in_cluster=True)
    for number, entry in enumerate(written):
        if entry.startswith(b"s"):
            node.do(NOW_MS, Transact(uuid=new_uuid(), decide=lambda *_, e=entry: {e: b"{}"}))
        else:
            node.do(NOW_MS, Put(entry=entry, uuid=new_uuid(), codec=0, payload=b"%d" % number, ttl_ms=number % 3))
            if number % 4 == 0:
                node.do(NOW_MS, Delete(entry=entry, uuid=new_uuid()))
    return node


def scrub(node: LoneNode) -> list[Scrubbed]:
    """One pass."""
    steps: list[Scrubbed] = []
    while not steps or steps[-1].end:
        (outcome,) = node.do(NOW_MS, Scrub(start=steps[-1].end if steps else b""))
        assert isinstance(outcome, Scrubbed)
        assert outcome.end == b"" or not steps or outcome.end > steps[-1].end
        steps.append(outcome)
    return steps


def total(steps: list[Scrubbed]) -> tuple[int, int, int]:
    """Records, drifted, corrupt."""
    return sum(s.records for s in steps), sum(s.drifted for s in steps), sum(s.corrupt for s in steps)


@settings(deadline=None)
@given(
    st.lists(entries, max_size=25),
    damages,
    st.booleans(),
    st.sampled_from([1, 2, 4, 1000]),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([0, 10**6]),
)
def test_after_one_pass_the_tree_is_right(
    written: list[bytes],
    damage: list[tuple[bytes, bytes, bytes | None]],
    restarts: bool,
    mean: int,
    records: int,
    size_bytes: int,
) -> None:
    with small(mean, records, size_bytes):
        node = filled(written)
        before = dict(node.store.scan(b"a", b"z"))
        assert total(scrub(node)) == (len(set(written)), 0, 0)
        assert dict(node.store.scan(b"a", b"z")) == before, "a pass that finds nothing writes nothing"
        node.store.commit({prefix + entry: value for prefix, entry, value in damage if _may_stand(prefix, value)})
        if restarts:
            node.restart()
        scrub(node)
        node.check_rows()
        assert total(scrub(node)) == (len(set(written)), 0, 0)
        node.restart()
        node.check_rows()


def _may_stand(prefix: bytes, value: bytes | None) -> bool:
    """A row of a run of another length keeps the tree from being read at all."""
    return prefix == ITEMS or value is None or len(value) == 36


def test_drift_is_said_with_the_keys_and_counted() -> None:
    node = filled([b"dk%d" % number for number in range(20)])
    node.store.commit({ITEMS + b"dk7": b"\1" * 32, ITEMS + b"dk8": None, ITEMS + b"dnothing": b"\2" * 32})
    (outcome,) = node.do(NOW_MS, Scrub(start=b""))
    assert outcome == Scrubbed(b"", 20, 3, 0)
    node.check_rows()


@pytest.mark.parametrize("where", ["memory", "disk", "root", "a stray row"])
def test_each_part_of_the_tree_is_looked_at(where: str) -> None:
    node = filled([b"dk%d" % number for number in range(20)])
    right = node.tree.root
    if where == "memory":
        node.tree._runs[b""] = Sum(3, 4)
    elif where == "disk":
        node.store.commit({RUNS: b"\0" * 36})
    elif where == "root":
        node.tree.root = Sum(1, 2)
    else:
        node.store.commit({RUNS + b"dk5": b"\0" * 36})
    assert total(scrub(node))[1] >= 1
    assert node.tree.root == read_tree(node.store).root == right
    assert total(scrub(node))[1] == 0


def test_a_corrupt_record_is_no_item_so_that_peers_send_theirs() -> None:
    node, peer = filled([]), LoneNode(in_cluster=True)
    for each in (node, peer):
        each.do(NOW_MS, Put(entry=b"da", uuid=b"\1" * 16, codec=0, payload=b"1"))
        each.do(NOW_MS, Put(entry=b"db", uuid=b"\2" * 16, codec=0, payload=b"2"))
    raw = node.store.get(b"da")
    assert raw is not None
    node.store.commit({b"da": raw[:-1] + b"x"})
    for _ in range(2):
        assert total(scrub(node)) == (2, 0, 1), "it is met each time"
        assert node.tree.root.size == 1
    assert node.store.get(ITEMS + b"da") is None
    assert node.tree.root != peer.tree.root


@pytest.mark.parametrize("number", [0, 3, 9])
@pytest.mark.parametrize("mean", [4, 1000])
def test_a_corrupt_record_that_is_met_by_a_reader_is_fetched_again(mean: int, number: int) -> None:
    """One step from its key on: where the run is longer than a step it has nevertheless all of its items, and no more.
    So the next comparison finds the difference."""
    with small(mean, 3, 10**6):
        written = [b"dk%d" % n for n in range(20)]
        node, peer = filled([]), filled([])
        for entry in written:
            peer.do(NOW_MS, Put(entry=entry, uuid=new_uuid(), codec=0, payload=b"1"))
        compare(node, peer, NOW_MS + 5_000)
        broken = written[number]
        raw = node.store.get(broken)
        assert raw is not None
        node.store.commit({broken: raw[:-1] + b"x"})
        for _ in range(2):
            node.do(NOW_MS, Scrub(start=broken))
            assert node.store.get(ITEMS + broken) is None
            assert node.tree.root == read_tree(node.store).root == sum_of_items(node.rows(ITEMS).values())
        compare(node, peer, NOW_MS + 9_000)
        assert node.store.get(broken) is not None
        assert node.tree.root == peer.tree.root
        assert total(scrub(node)) == (20, 0, 0)


def test_a_run_that_was_left_with_the_item_of_a_corrupt_record_is_mended_by_the_next_reader() -> None:
    with small(1000, 3, 10**6):
        node = filled([b"dk%d" % n for n in range(10, 30)])
        raw = node.store.get(b"dk11")
        assert raw is not None
        node.store.commit({b"dk11": raw[:-1] + b"x", ITEMS + b"dk11": None})
        node.do(NOW_MS, Scrub(start=b"dk11"))
        assert node.tree.root.size == 19


def test_writing_over_a_corrupt_record_counts_it_once() -> None:
    with small(1000, 3, 10**6):
        node = filled([b"dk%d" % n for n in range(10, 30)])
        raw = node.store.get(b"dk11")
        assert raw is not None
        node.store.commit({b"dk11": raw[:-1] + b"x"})
        node.do(NOW_MS, Scrub(start=b"dk11"), Put(entry=b"dk11", uuid=new_uuid(), codec=0, payload=b"1"))
        assert total(scrub(node)) == (20, 0, 0)
        assert node.tree.root.size == 20


def test_writes_of_the_same_group_are_no_drift() -> None:
    """Neither before nor behind the step."""
    with small(2, 1000, 10**6):
        node = filled([b"dk%d" % number for number in range(9)])
        put = [Put(entry=b"dnew%d" % n, uuid=new_uuid(), codec=0, payload=b"1") for n in range(9)]
        outcomes = node.do(NOW_MS, *put[:5], Scrub(start=b""), *put[5:], Scrub(start=b"dnew"))
        assert [outcome.drifted for outcome in outcomes if isinstance(outcome, Scrubbed)] == [0, 0]
        node.check_rows()
        assert total(scrub(node)) == (18, 0, 0)


def test_a_scrubber_goes_round_and_rests() -> None:
    scrubber = Scrubber()
    assert scrubber.next(NOW_MS) == Scrub(start=b"")
    scrubber.done(Scrubbed(b"dk", 5, 1, 0), NOW_MS)
    assert scrubber.next(NOW_MS) == Scrub(start=b"dk")
    scrubber.done(Scrubbed(b"", 3, 0, 1), NOW_MS + 10)
    assert scrubber.view == (8, 1, 1, 1, NOW_MS + 10)
    assert scrubber.next(NOW_MS + SCRUB_PAUSE_MS) is None
    assert scrubber.next(NOW_MS + 11 + SCRUB_PAUSE_MS) == Scrub(start=b"")
    scrubber.failed(NOW_MS)
    assert scrubber.next(NOW_MS) is None
    assert scrubber.next(NOW_MS - 10 * SCRUB_PAUSE_MS) is not None, "a clock that is set back holds nothing up"
