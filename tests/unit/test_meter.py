"""Histograms that count what a plain list would say."""

from hypothesis import given
from hypothesis import strategies as st

from kvs.meter import LAG_SECONDS, SECONDS, WRITES, Histogram


@given(st.sampled_from((SECONDS, LAG_SECONDS, WRITES)), st.lists(st.floats(0, 20_000), max_size=200))
def test_each_value_is_in_the_first_bucket_that_holds_it(bounds: tuple[float, ...], values: list[float]) -> None:
    histogram = Histogram(bounds)
    for value in [*values, *bounds]:
        histogram.add(value)
    given = [*values, *bounds]
    for number, bound in enumerate(bounds):
        assert sum(histogram.counts[: number + 1]) == sum(1 for value in given if value <= bound)
    assert sum(histogram.counts) == len(given)
    assert histogram.total == sum(given) or abs(histogram.total - sum(given)) < 1e-6 * histogram.total


def test_bounds_rise() -> None:
    for bounds in (SECONDS, LAG_SECONDS, WRITES):
        assert list(bounds) == sorted(set(bounds))
