"""The figures that `kvs bench` makes of latencies."""

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from kvs.daemon.benching import Load, bars, figures, histogram, percentile

latencies = st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=200)


@given(latencies, st.floats(0.1, 100))
def test_a_percentile_is_the_smallest_that_so_many_are_not_above(found: list[float], percent: float) -> None:
    ordered = sorted(found)
    shown = percentile(ordered, percent)
    assert sum(one <= shown for one in ordered) >= ceil(len(ordered) * percent / 100) - 1e-6
    assert sum(one < shown for one in ordered) < len(ordered) * percent / 100


@given(latencies)
def test_each_request_is_in_one_bucket_of_the_histogram(found: list[float]) -> None:
    buckets = histogram(found)
    bounds = [bound for bound, _ in buckets]
    assert bounds == [bounds[0] * 2**number for number in range(len(bounds))]
    for number, (bound, count) in enumerate(buckets):
        lower_ms = bounds[number - 1] if number else 0.0
        assert count == sum(lower_ms <= one * 1000 < bound for one in found)
    assert len(list(bars(buckets))) == len(buckets)


def test_figures() -> None:
    shown = figures([0.001] * 99 + [0.5], 2.0)
    assert shown == {
        "requests": 100,
        "per_second": 50.0,
        "mean_ms": 5.99,
        "p50_ms": 1.0,
        "p90_ms": 1.0,
        "p99_ms": 1.0,
        "p99.9_ms": 500.0,
        "max_ms": 500.0,
    }
    assert figures([], 1.0) == {"requests": 0, "per_second": 0.0}
    assert histogram([]) == []
    assert list(bars([(1.0, 2), (2.0, 1), (4.0, 0)])) == [
        f"      < 1 ms         2  {'█' * 40}",
        f"      < 2 ms         1  {'█' * 20}",
        "      < 4 ms         0",
    ]


def test_values_have_the_size_that_is_asked_for() -> None:
    for size in (12, 100, 5000):
        assert len(Load(1, 1, 1, size, 0, "").value()) == size
