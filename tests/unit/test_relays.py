"""How writes are handed on in large clusters: to all, over few hops, with few copies, whoever is silent."""

from collections import Counter
from collections.abc import Collection, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.cluster.relays import Relays

Versions = tuple[int, int]
versions = st.tuples(st.integers(0, 1 << 47), st.integers(0, 1 << 16))


def cluster(nodes: int, fanout: int) -> Mapping[str, Relays]:
    names = [f"n{number}" for number in range(nodes)]
    return {name: Relays(name, names, fanout) for name in names}


def spread(
    relays: Mapping[str, Relays], origin: str, entry: bytes, version: Versions, silent: Collection[str] = ()
) -> tuple[int, Counter[str]]:
    """The hops to the last node, and how often each was sent the write; each sends it on once."""
    copies: Counter[str] = Counter()
    reached, edge, hops = {origin}, [origin], 0
    while edge:
        sent = [peer for node in edge for peer in relays[node].of(entry, version, is_first=node == origin)]
        copies.update(sent)
        edge = sorted(set(sent) - reached - set(silent))
        reached |= set(edge)
        hops += bool(edge)
    assert reached == set(relays) - set(silent)
    return hops, copies


@settings(deadline=None)
@given(st.integers(2, 400), st.integers(2, 6), st.binary(max_size=20), versions, st.data())
def test_all_are_reached_over_few_hops_with_no_more_copies_than_the_fanout(
    nodes: int, fanout: int, entry: bytes, version: Versions, data: st.DataObject
) -> None:
    relays = cluster(nodes, fanout)
    hops, copies = spread(relays, data.draw(st.sampled_from(sorted(relays))), entry, version)
    assert fanout ** (hops - 1) < nodes
    assert max(copies.values()) <= fanout + 1, "the two more of the first are others than those it has anyway"


@settings(deadline=None)
@given(st.integers(11, 200), st.binary(max_size=20), versions, st.data())
def test_of_three_copies_any_one_node_may_be_silent(
    nodes: int, entry: bytes, version: Versions, data: st.DataObject
) -> None:
    relays = cluster(nodes, 3)
    origin, silent = data.draw(st.lists(st.sampled_from(sorted(relays)), min_size=2, max_size=2, unique=True))
    spread(relays, origin, entry, version, {silent})


def test_every_write_goes_another_way() -> None:
    """No node is the first to get all that another one writes."""
    relays, writes = cluster(50, 3), 5_000
    first = Counter(
        peer for number in range(writes) for peer in relays["n7"].of(b"%d" % number, (number, 0), is_first=False)
    )
    mean = 3 * writes / 50
    assert len(first) == 49
    assert all(0.7 * mean < sent < 1.3 * mean for sent in first.values())


def test_a_fanout_above_the_number_of_nodes_is_all_of_them() -> None:
    assert sorted(Relays("b", ["a", "c"], 9).of(b"k", (1, 0), is_first=False)) == ["a", "c"]
