"""No more than the limit, a wait that is true, in bounded memory, by whatever clock."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.errors import TooManyRequests
from kvs.limits import RATE_GROUPS_MAX, RATE_SHARED_WINDOWS
from kvs.server import ratelimit
from kvs.server.ratelimit import RequestLimit, SlidingWindow, network_of

WINDOW_MS = 60_000
NOW = 1_700_000_000_000
HOUR_MS = 3_600_000


def window(limit: int = 3, tracked_max: int = 100) -> SlidingWindow:
    return SlidingWindow(limit, WINDOW_MS, tracked_max)


def hits(at: SlidingWindow, *times_ms: int, client: str = "a") -> list[bool]:
    return [at.hit(client, NOW + time_ms) == 0 for time_ms in times_ms]


def test_the_first_window_counts_exactly() -> None:
    counted = window(3)
    assert hits(counted, 0, 1, 59_999, 59_999) == [True, True, True, False]


def test_what_was_refused_does_not_count() -> None:
    counted = window(1)
    assert hits(counted, 0, *range(1, 60_000, 997)) == [True] + [False] * len(range(1, 60_000, 997))
    assert hits(counted, 2 * WINDOW_MS) == [True]


def test_the_window_slides_and_does_not_jump() -> None:
    """Each hit makes room one window behind it, and none does before."""
    counted, last = window(4), WINDOW_MS - 1
    assert hits(counted, 0, last, last, last, last) == [True] * 4 + [False]
    assert hits(counted, WINDOW_MS, WINDOW_MS, WINDOW_MS + last - 1) == [True, False, False]
    assert hits(counted, *[WINDOW_MS + last] * 4) == [True, True, True, False]


def test_a_burst_right_behind_another_does_not_get_through() -> None:
    """One at the beginning, and then the rest in the end of the window: the next has room for that one only."""
    counted = window(60)
    burst = [58_000] * 100
    assert sum(hits(counted, 0, *burst)) == 60
    later = [116_000] * 100
    assert sum(hits(counted, *later)) <= 2
    assert sum(hits(counted, *[118_001] * 100)) >= 57


def test_nothing_counts_beyond_the_window() -> None:
    counted = window(2)
    assert hits(counted, 0, 0, WINDOW_MS - 1) == [True, True, False]
    assert counted.hit("a", NOW + 1000) == 59
    assert hits(counted, WINDOW_MS, WINDOW_MS) == [True, True]


def test_after_two_quiet_windows_all_is_forgotten() -> None:
    counted = window(2)
    hits(counted, 0, 0)
    assert hits(counted, 3 * WINDOW_MS, 3 * WINDOW_MS, 3 * WINDOW_MS) == [True, True, False]


def test_clients_do_not_count_for_each_other() -> None:
    counted = window(1)
    assert [counted.hit(client, NOW) == 0 for client in ("a", "b", "a", "", "b")] == [True, True, False, True, False]


@given(
    st.integers(1, 5),
    st.lists(st.integers(0, WINDOW_MS // 2), min_size=1, max_size=60),
)
def test_the_wait_is_true(limit: int, pauses_ms: list[int]) -> None:
    """Whoever waits as long as he is told gets in, and would not a second before."""
    counted, now_ms = window(limit), NOW
    for pause_ms in pauses_ms:
        now_ms += pause_ms
        wait_s = counted.hit("a", now_ms)
        assert 0 <= wait_s <= WINDOW_MS // 1000
        if wait_s > 1:
            assert counted.hit("a", now_ms + (wait_s - 1) * 1000)
        if wait_s:
            now_ms += wait_s * 1000
            assert counted.hit("a", now_ms) == 0


@given(
    st.one_of(st.integers(1, 6), st.integers(RATE_GROUPS_MAX - 1, 4 * RATE_GROUPS_MAX)),
    st.lists(st.tuples(st.integers(0, WINDOW_MS // 3), st.integers(1, 3 * RATE_GROUPS_MAX)), max_size=40),
)
def test_no_window_lets_more_through_than_the_limit(limit: int, bursts: list[tuple[int, int]]) -> None:
    """And hardly less: as many as one group are counted too long."""
    counted, now_ms = window(limit), NOW
    lately: deque[int] = deque()
    for pause_ms, size in bursts:
        now_ms += pause_ms
        while lately and lately[0] <= now_ms - WINDOW_MS:
            lately.popleft()
        allowed = sum(counted.hit("a", now_ms) == 0 for _ in range(size))
        assert len(lately) + allowed <= limit
        assert allowed == size or len(lately) + allowed > limit - limit / RATE_GROUPS_MAX
        lately.extend([now_ms] * allowed)


@given(st.integers(2, 20))
def test_hits_of_one_pace_are_let_through_at_the_rate_of_the_limit(limit: int) -> None:
    counted = window(limit)
    step_ms = WINDOW_MS // (4 * limit)
    allowed = sum(hits(counted, *range(0, 10 * WINDOW_MS, step_ms)))
    assert 10 * (limit - 1) <= allowed <= 11 * limit


@pytest.mark.parametrize("limit", [RATE_GROUPS_MAX, 1_000, 6_001])
def test_a_client_with_the_pace_of_the_limit_is_hardly_refused(limit: int) -> None:
    counted = window(limit)
    allowed = sum(counted.hit("a", NOW + number * WINDOW_MS / limit) == 0 for number in range(3 * limit))
    assert allowed >= 3 * limit * (1 - 1 / RATE_GROUPS_MAX)


def test_who_was_quiet_for_a_window_has_the_whole_limit() -> None:
    counted = window(1_000)
    assert sum(hits(counted, 0, 0, 0)) == 3
    assert sum(hits(counted, *[WINDOW_MS] * 1_001)) == 1_000


# --- memory ---


def test_a_flood_of_clients_makes_nobody_forgotten() -> None:
    counted = window(2, tracked_max=3)
    assert hits(counted, 0, 0, client="a") == [True, True]
    for number in range(50_000):
        counted.hit(str(number), NOW + 1)
    assert hits(counted, 2, client="a") == [False]


def test_a_flood_of_clients_fills_no_memory() -> None:
    counted = window(1, tracked_max=50)
    for number in range(20_000):
        counted.hit(str(number), NOW + number)
    assert len(counted._windows) == 50
    assert len(counted._shared) <= RATE_SHARED_WINDOWS


@pytest.mark.parametrize("limit", [1, 31, 32, 33, 1_000, 60_000])
def test_a_busy_client_fills_no_memory(limit: int) -> None:
    counted = window(limit)
    hits(counted, *range(3 * limit))
    assert len(counted._windows["a"].ends) <= RATE_GROUPS_MAX


def test_those_for_whom_nothing_counts_make_room() -> None:
    counted = window(1, tracked_max=3)
    hits(counted, 0, client="a")
    hits(counted, WINDOW_MS // 2, client="b")
    hits(counted, WINDOW_MS // 2, client="c")
    assert hits(counted, WINDOW_MS + 1, client="d") == [True]
    assert set(counted._windows) == {"b", "c", "d"}
    assert hits(counted, WINDOW_MS + 1, client="b") == [False]


def test_those_who_find_no_room_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "RATE_SHARED_WINDOWS", 1)
    counted = window(3, tracked_max=1)
    hits(counted, 0, client="first")
    assert [counted.hit(client, NOW + 1) == 0 for client in "abcd"] == [True, True, True, False]
    assert hits(counted, 1, 1, 1, client="first") == [True, True, False]


def test_who_gets_a_window_of_his_own_takes_along_what_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "RATE_SHARED_WINDOWS", 1)
    counted = window(2, tracked_max=1)
    hits(counted, 0, client="first")
    late = WINDOW_MS - 1
    assert hits(counted, late, late, late, client="a") == [True, True, False]
    assert hits(counted, WINDOW_MS, client="a") == [False]
    assert set(counted._windows) == {"a"}
    assert hits(counted, late + 2 * WINDOW_MS, client="a") == [True]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, WINDOW_MS // 2)), max_size=120),
    st.integers(1, 4),
)
def test_without_room_for_all_nobody_gets_more_than_with_room(asked: list[tuple[str, int]], tracked_max: int) -> None:
    """However clients take turns: nobody makes himself forgotten."""
    limit = 3
    counted, now_ms = window(limit, tracked_max), NOW
    lately: dict[str, deque[int]] = {}
    for client, pause_ms in asked:
        now_ms += pause_ms
        times = lately.setdefault(client, deque())
        while times and times[0] <= now_ms - WINDOW_MS:
            times.popleft()
        if counted.hit(client, now_ms) == 0:
            times.append(now_ms)
        assert len(times) <= limit
        assert len(counted._windows) <= tracked_max


# --- settings that change ---


def test_another_limit_counts_on() -> None:
    counted = window(2)
    assert hits(counted, 0, 0, 0) == [True, True, False]
    counted.configure(4, WINDOW_MS)
    assert hits(counted, 1, 1, 1) == [True, True, False]
    counted.configure(1, WINDOW_MS)
    assert 0 < counted.hit("a", NOW + 2) <= WINDOW_MS // 1000
    assert hits(counted, 2 * WINDOW_MS + 2, 2 * WINDOW_MS + 2) == [True, False]


@pytest.mark.parametrize(("limit", "other"), [(5, 500), (500, 5), (100, 333), (333, 100), (1_000_000_000, 1)])
def test_another_limit_with_groups_of_another_size_counts_on(limit: int, other: int) -> None:
    counted = window(limit)
    first = sum(hits(counted, *range(200)))
    counted.configure(other, WINDOW_MS)
    assert sum(hits(counted, *[200] * 600)) == max(0, other - first)
    assert len(counted._windows["a"].ends) <= RATE_GROUPS_MAX
    wait_s = counted.hit("a", NOW + 200)
    assert 0 < wait_s <= WINDOW_MS // 1000
    assert hits(counted, 200 + wait_s * 1000) == [True]


def test_another_window_begins_anew() -> None:
    counted = window(1)
    assert hits(counted, 0, 0) == [True, False]
    counted.configure(1, 1_000)
    assert hits(counted, 1, 1, 1_001) == [True, False, True]


# --- users and addresses ---


def test_users_do_not_count_for_their_address_nor_it_for_them() -> None:
    limit = RequestLimit(enabled=True, limit=2, window_ms=WINDOW_MS)

    def is_refused(user: str, client: str) -> bool:
        try:
            limit.count(user, client, NOW)
        except TooManyRequests:
            return True
        return False

    assert [is_refused("", "192.0.2.1") for _ in range(3)] == [False, False, True]
    assert [is_refused("u1", "192.0.2.1") for _ in range(3)] == [False, False, True]
    assert is_refused("u1", "192.0.2.2")
    assert not is_refused("u2", "192.0.2.1")
    assert not is_refused("", "u1")
    limit.configure(enabled=False, limit=2, window_ms=WINDOW_MS)
    assert not is_refused("u1", "192.0.2.1")
    limit.configure(enabled=True, limit=2, window_ms=WINDOW_MS)
    assert is_refused("u1", "192.0.2.1")


def test_the_refusal_says_what_is_allowed() -> None:
    limit = RequestLimit(enabled=True, limit=1, window_ms=1_500)
    limit.count("", "192.0.2.1", NOW)
    with pytest.raises(TooManyRequests) as refused:
        limit.count("", "192.0.2.1", NOW + 100)
    assert refused.value.headers == {
        "Retry-After": "2",
        "X-Rate-Limit-Limit": "1",
        "X-Rate-Limit-Remaining": "0",
        "X-Rate-Limit-Window": "2",
    }


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:0DB8:0001:0002::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("no: address", "no: address", True),
        ("", "::", False),
    ],
)
def test_networks(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) == same


# --- a clock that is set ---


@pytest.mark.parametrize("back_ms", [1, 30_000, WINDOW_MS, HOUR_MS, 400 * 24 * HOUR_MS])
@pytest.mark.parametrize("earlier", [[0, 0, 0], [0, 50_000, 55_000, 90_000, 110_000]])
def test_a_clock_set_back_locks_nobody_out(back_ms: int, earlier: list[int]) -> None:
    counted = window(3)
    hits(counted, *earlier)
    now_ms = NOW + earlier[-1] - back_ms
    wait_s = counted.hit("a", now_ms)
    assert 0 < wait_s <= WINDOW_MS // 1000
    assert counted.hit("a", now_ms + wait_s * 1000) == 0
    later = now_ms + 5 * WINDOW_MS
    assert [counted.hit("a", later) == 0 for _ in range(4)] == [True, True, True, False]


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
        assert 0 <= counted.hit(client, NOW + at_ms) <= WINDOW_MS // 1000
