"""The Merkle tree against a plain sum over a plain dictionary."""

from contextlib import AbstractContextManager
from itertools import pairwise
from random import Random
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.cluster import merkle
from kvs.cluster.merkle import EMPTY, Sum, Tree, items, read_tree
from kvs.storage.batch import Overlay
from kvs.storage.keyspace import ITEMS, RUNS, after
from kvs.storage.memory import MemoryStore

keys = st.binary(min_size=1, max_size=2).map(lambda key: b"d" + key)
item_values = st.binary(min_size=32, max_size=32)
writes = st.lists(st.tuples(keys, st.none() | item_values), max_size=12)
groups = st.lists(st.tuples(writes, st.booleans()), max_size=30)
bounds = st.just(b"") | keys


class Kept:
    """A tree beside its store, and what should be in it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.tree = Tree({})
        self.expected: dict[bytes, bytes] = {}

    def write(self, group: list[tuple[bytes, bytes | None]], *, commits: bool) -> None:
        view, edit, expected = Overlay(self.store), self.tree.edit(), dict(self.expected)
        for entry, item in group:
            if item is None:
                view.write(edit.remove(view, entry))
                expected.pop(entry, None)
            else:
                edit.put(view.batch, view, entry, item)
                expected[entry] = item
        view.write(edit.rows())
        if commits:
            self.store.commit(view.batch)
            self.tree.apply(edit)
            self.expected = expected

    def sum_of(self, start: bytes, stop: bytes) -> Sum:
        found = [item for entry, item in self.expected.items() if start <= entry and (not stop or entry < stop)]
        return Sum(len(found), sum(int.from_bytes(item, "big") for item in found) % 2**256)


def small_runs(mean: int, longest: int) -> AbstractContextManager[object]:
    return patch.multiple(merkle, RUN_ITEMS_MEAN=mean, RUN_ITEMS_MAX=longest, RUNS_FOR_A_COARSE_SPLIT=3)


@settings(deadline=None)
@given(groups, st.sampled_from([(1, 2), (2, 3), (4, 8), (1000, 3), (1000, 1000)]), bounds, bounds, st.integers(2, 16))
def test_the_tree_is_the_sum_of_what_is_there(
    written: list[tuple[list[tuple[bytes, bytes | None]], bool]],
    sizes: tuple[int, int],
    start: bytes,
    stop: bytes,
    parts: int,
) -> None:
    if stop and stop < start:
        start, stop = stop, start
    kept = Kept()
    with small_runs(*sizes):
        for group, commits in written:
            kept.write(group, commits=commits)
        assert dict(items(kept.store, b"", b"")) == kept.expected
        for tree in (kept.tree, read_tree(kept.store)):
            assert tree.root == kept.sum_of(b"", b"")
            assert tree.sum_of(kept.store, start, stop) == kept.sum_of(start, stop)
            cuts, sums = tree.cut(kept.store, start, stop, parts)
            assert cuts == sorted(set(cuts))
            assert len(sums) <= parts
            assert all(start < cut and (not stop or cut < stop) for cut in cuts)
            edges = [start, *cuts, stop]
            assert sums == tree.sums(kept.store, edges) == [kept.sum_of(*edge) for edge in pairwise(edges)]
            assert all(part != EMPTY for part in sums[1:])


@settings(deadline=None)
@given(st.dictionaries(keys, item_values, max_size=40), st.randoms(use_true_random=False))
def test_runs_do_not_depend_on_the_order_of_writes(found: dict[bytes, bytes], random: Random) -> None:
    """Unless a run grew too long."""
    rows = []
    for order in (sorted(found), random.sample(sorted(found), len(found))):
        kept = Kept()
        with small_runs(4, 1000):
            for entry in order:
                kept.write([(entry, found[entry])], commits=True)
        rows.append([dict(kept.store.scan(prefix, after(prefix))) for prefix in (ITEMS, RUNS)])
    assert rows[0] == rows[1]


def test_no_run_grows_without_end() -> None:
    """Keys that somebody chose so that none of them begins a run."""
    kept = Kept()
    with small_runs(10**9, 50):
        for number in range(1000):
            kept.write([(b"d%04d" % number, number.to_bytes(32, "big"))], commits=True)
    assert max(kept.tree.run(row[1:]).size for row, _ in kept.store.scan(RUNS, after(RUNS))) <= 50
    assert kept.tree.root == kept.sum_of(b"", b"")
