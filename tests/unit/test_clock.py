import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.cluster.clock import COUNTER_MAX, Clock
from kvs.errors import Conflict
from kvs.limits import TIMESTAMP_MAX


def test_it_follows_the_wall_clock_where_that_is_ahead() -> None:
    clock = Clock(100, 5, 60_000)
    assert clock.tick(101) == (101, 0)
    assert clock.tick(101) == (101, 1)
    assert clock.tick(50) == (101, 2)
    assert clock.tick(102) == (102, 0)


def test_it_goes_above_the_record_it_replaces() -> None:
    clock = Clock(0, 0, 60_000)
    assert clock.tick(100, above=(200, 7)) == (200, 8)
    assert clock.tick(150) == (200, 9)


def test_a_full_counter_moves_the_millisecond() -> None:
    clock = Clock(100, COUNTER_MAX, 60_000)
    assert clock.tick(100) == (101, 0)


def test_no_version_is_given_out_that_peers_would_not_take() -> None:
    clock = Clock(100, 0, 60_000)
    assert clock.tick(200, above=(TIMESTAMP_MAX, COUNTER_MAX - 1)) == (TIMESTAMP_MAX, COUNTER_MAX)
    assert clock.tick(200, above=(TIMESTAMP_MAX - 1, COUNTER_MAX)) == (TIMESTAMP_MAX, 0)
    with pytest.raises(Conflict) as refusal:
        clock.tick(200, above=(TIMESTAMP_MAX, COUNTER_MAX))
    assert refusal.value.code == "last_version"
    assert clock.tick(200) == (200, 0)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 3))))
def test_versions_only_rise_whatever_the_wall_clock_does(ticks: list[tuple[int, int, int]]) -> None:
    clock = Clock(10, 0, 60_000)
    last = clock.last
    for now_ms, timestamp, counter in ticks:
        version = clock.tick(now_ms, (timestamp, counter))
        assert version > last
        assert version > (timestamp, counter)
        assert version[0] >= now_ms
        last = version


def test_a_version_from_the_future_is_written_over_but_not_taken_for_the_time() -> None:
    clock = Clock(0, 0, ahead_max_ms=100)
    assert clock.tick(1000, (1101, 7)) == (1101, 8)
    assert clock.tick(1000) == (1000, 0)
    assert clock.tick(1000, (1100, 7)) == (1100, 8)
    assert clock.tick(1000) == (1100, 9)
