"""The order of versions is total, so merging is commutative, associative and idempotent."""

from functools import reduce
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from kvs.cluster.merging import Verdict, judge
from kvs.storage.record import Record
from tests.precedence import precedence
from tests.records import close_records, records, winner

anything = st.one_of(close_records, records)


@given(anything, anything)
def test_merge_is_commutative(a: Record, b: Record) -> None:
    assert winner(a, b) == winner(b, a)


@given(anything, anything, anything)
def test_merge_is_associative(a: Record, b: Record, c: Record) -> None:
    assert winner(winner(a, b), c) == winner(a, winner(b, c))


@given(anything, anything)
def test_merge_is_idempotent(a: Record, b: Record) -> None:
    assert judge(a, a) == judge(winner(a, b), winner(a, b)) == Verdict("known")


@given(anything, anything)
def test_only_equal_records_tie(a: Record, b: Record) -> None:
    assert (precedence(a) == precedence(b)) == (a == b)


@given(st.lists(close_records, min_size=1, max_size=4), st.lists(close_records, max_size=2))
def test_every_order_of_arrival_ends_alike(records: list[Record], again: list[Record]) -> None:
    ends = {precedence(reduce(winner, [*order, *(r for r in again if r in order)])) for order in permutations(records)}
    assert len(ends) == 1


@given(anything, anything)
def test_verdicts_agree_with_the_order(a: Record, b: Record) -> None:
    assert precedence(winner(a, b)) == max(precedence(a), precedence(b))
