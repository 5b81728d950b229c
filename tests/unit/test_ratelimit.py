"""No more than the limit, a wait that is true, in bounded memory, by whatever clock."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.server.ratelimit import SlidingWindow, Verdict

WINDOW_MS = 60_000
NOW = 1_700_000_000_000
HOUR_MS = 3_600_000


def window(limit: int = 3, tracked_max: int = 100) -> SlidingWindow:
    return SlidingWindow(limit, WINDOW_MS, tracked_max)


def hits(at: SlidingWindow, *times_ms: int, client: str = "a") -> list[bool]:
    return [at.hit(client, NOW + time_ms).allowed for time_ms in times_ms]


def test_the_first_window_counts_exactly() -> None:
    counted = window(3)
    verdicts = [counted.hit("a", NOW + at) for at in (0, 1, 59_999, 59_999)]
    assert verdicts[:3] == [Verdict(True, 2, 0), Verdict(True, 1, 0), Verdict(True, 0, 0)]
    assert (verdicts[3].allowed, verdicts[3].remaining) == (False, 0)


def test_what_was_refused_does_not_count() -> None:
    counted = window(1)
    assert hits(counted, 0, *range(1, 60_000, 997)) == [True] + [False] * len(range(1, 60_000, 997))
    assert counted.hit("a", NOW + 2 * WINDOW_MS).allowed


def test_the_window_slides_and_does_not_jump() -> None:
    """Right after a full window only as much fits as has slid out."""
    counted, last = window(4), WINDOW_MS - 1
    assert hits(counted, 0, last, last, last, last) == [True] * 4 + [False]
    assert hits(counted, WINDOW_MS) == [False]
    assert hits(counted, WINDOW_MS + WINDOW_MS // 4, WINDOW_MS + WINDOW_MS // 4) == [True, False]
    assert hits(counted, WINDOW_MS + WINDOW_MS // 2, WINDOW_MS + WINDOW_MS // 2) == [True, False]


def test_nothing_counts_beyond_the_window() -> None:
    counted = window(2)
    assert hits(counted, 0, 0, WINDOW_MS - 1) == [True, True, False]
    assert counted.hit("a", NOW + 1000).retry_after_s == 59
    assert hits(counted, WINDOW_MS, WINDOW_MS) == [True, True]


def test_after_two_quiet_windows_all_is_forgotten() -> None:
    counted = window(2)
    hits(counted, 0, 0)
    assert hits(counted, 3 * WINDOW_MS, 3 * WINDOW_MS, 3 * WINDOW_MS) == [True, True, False]


def test_clients_do_not_count_for_each_other() -> None:
    counted = window(1)
    assert [counted.hit(client, NOW).allowed for client in ("a", "b", "a", "", "b")] == [True, True, False, True, False]


@given(
    st.integers(1, 5),
    st.lists(st.integers(0, WINDOW_MS // 2), min_size=1, max_size=60),
)
def test_the_wait_is_true(limit: int, pauses_ms: list[int]) -> None:
    """Whoever waits as long as he is told gets in, and would not a second before."""
    counted, now_ms = window(limit), NOW
    for pause_ms in pauses_ms:
        now_ms += pause_ms
        verdict = counted.hit("a", now_ms)
        assert 0 <= verdict.remaining < limit
        assert (verdict.retry_after_s == 0) == verdict.allowed
        if verdict.allowed:
            continue
        assert verdict.retry_after_s <= WINDOW_MS // 1000
        if verdict.retry_after_s > 1:
            assert not counted.hit("a", now_ms + (verdict.retry_after_s - 1) * 1000).allowed
        now_ms += verdict.retry_after_s * 1000
        assert counted.hit("a", now_ms).allowed


@given(st.integers(1, 6), st.lists(st.integers(0, WINDOW_MS // 3), max_size=80))
def test_no_window_lets_much_more_through_than_the_limit(limit: int, pauses_ms: list[int]) -> None:
    """The two counters are an estimate: of uneven hits it lets at most the double through, never more."""
    counted, now_ms = window(limit), NOW
    lately: deque[int] = deque()
    for pause_ms in pauses_ms:
        now_ms += pause_ms
        while lately and lately[0] <= now_ms - WINDOW_MS:
            lately.popleft()
        if counted.hit("a", now_ms).allowed:
            lately.append(now_ms)
        assert len(lately) < 2 * limit


@given(st.integers(2, 20))
def test_hits_of_one_pace_are_let_through_at_the_rate_of_the_limit(limit: int) -> None:
    counted = window(limit)
    step_ms = WINDOW_MS // (4 * limit)
    allowed = sum(hits(counted, *range(0, 10 * WINDOW_MS, step_ms)))
    assert 10 * (limit - 1) <= allowed <= 11 * limit


# --- memory ---


def test_those_who_came_first_are_forgotten_first() -> None:
    counted = window(1, tracked_max=3)
    for client in "abc":
        assert counted.hit(client, NOW).allowed
    assert counted.hit("d", NOW).allowed
    assert [counted.hit(client, NOW).allowed for client in "bcd"] == [False] * 3
    assert counted.hit("a", NOW).allowed


def test_a_flood_of_clients_fills_no_memory() -> None:
    counted = window(1, tracked_max=50)
    for number in range(5_000):
        counted.hit(str(number), NOW + number)
        assert len(counted._windows) <= 50


# --- a clock that is set ---


@pytest.mark.parametrize("back_ms", [1, 30_000, WINDOW_MS, HOUR_MS, 400 * 24 * HOUR_MS])
@pytest.mark.parametrize("earlier", [[0, 0, 0], [0, 50_000, 55_000, 90_000, 110_000]])
def test_a_clock_set_back_locks_nobody_out(back_ms: int, earlier: list[int]) -> None:
    counted = window(3)
    hits(counted, *earlier)
    now_ms = NOW + earlier[-1] - back_ms
    verdict = counted.hit("a", now_ms)
    assert 0 < verdict.retry_after_s <= WINDOW_MS // 1000
    assert counted.hit("a", now_ms + verdict.retry_after_s * 1000).allowed
    assert counted.hit("a", now_ms + 5 * WINDOW_MS) == Verdict(True, 2, 0)


def test_a_clock_set_back_forgives_nothing() -> None:
    counted = window(3)
    hits(counted, 0, 0, 0)
    assert hits(counted, -HOUR_MS, -2 * HOUR_MS, -3 * HOUR_MS) == [False] * 3


def test_a_clock_set_forward() -> None:
    counted = window(2)
    hits(counted, 0, 0)
    assert hits(counted, 10 * HOUR_MS, 10 * HOUR_MS, 10 * HOUR_MS) == [True, True, False]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-HOUR_MS, HOUR_MS)), max_size=60))
def test_no_clock_breaks_it(times: list[tuple[str, int]]) -> None:
    counted = window(2, tracked_max=2)
    for client, at_ms in times:
        verdict = counted.hit(client, NOW + at_ms)
        assert 0 <= verdict.remaining < 2
        assert 0 <= verdict.retry_after_s <= WINDOW_MS // 1000
