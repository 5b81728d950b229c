"""When a comparison is due, and that nobody is woken for one that cannot begin."""

from random import Random

import pytest

from kvs.cluster.comparisons import Comparisons, Pace


def comparisons() -> Comparisons:
    return Comparisons(Pace(sync_interval_ms=1_000, catchup_interval_ms=500, throttle_delay_ms=0), Random(1), 0)


def test_a_node_without_peers_sleeps() -> None:
    at = comparisons()
    assert at.next(5_000) is None
    assert at.wake_at_ms() is None


def test_a_new_peer_is_due_at_once() -> None:
    at = comparisons()
    at.up("b", 100)
    assert at.wake_at_ms() == 100
    assert at.next(100) == "b"


def test_a_node_that_compares_for_longer_than_the_interval_sleeps() -> None:
    at = comparisons()
    at.up("b", 0)
    assert at.next(0) == "b"
    assert at.next(5_000) is None
    assert at.wake_at_ms() is None
    at.done(6_000, behind=False)
    assert at.wake_at_ms() == 1_000
    assert at.next(6_000) == "b"


def test_after_a_comparison_the_interval_counts() -> None:
    at = comparisons()
    at.up("b", 0)
    at.next(0)
    at.done(10, behind=False)
    assert at.wake_at_ms() == 1_000
    assert at.next(999) is None
    assert at.next(1_000) == "b"


def test_a_peer_that_never_answers_keeps_no_other_from_its_turn() -> None:
    at = comparisons()
    for peer in ("b", "dead"):
        at.up(peer, 0)
    asked = []
    for now_ms in range(0, 20_000, 100):
        asked_now = at.next(now_ms)
        asked.append(asked_now)
        if asked_now == "dead":
            at.failed(now_ms)
        elif asked_now is not None:
            at.done(now_ms, behind=False)
    assert asked.count("b") > 5


def test_after_a_failure_nothing_else_brings_the_next_one_forward() -> None:
    """Neither roots that differ, nor something that could not be sent, nor its turn: it would fail again."""
    at = comparisons()
    at.up("b", 0)
    pauses, began_ms = [], 0
    assert at.next(0) == "b"
    at.failed(0)
    for now_ms in range(1, 3_000):
        at.roots("b", "mine", "theirs", now_ms)
        at.behind("b", now_ms)
        if at.next(now_ms) == "b":
            pauses.append(now_ms - began_ms)
            began_ms = now_ms
            at.failed(now_ms)
    assert pauses == [1_000, 500, 500, 500], "the pause doubles up to catchup_interval"


@pytest.mark.parametrize("mend", ["equal", "back"])
def test_a_peer_that_is_equal_or_comes_back_is_compared_with_as_any_other(mend: str) -> None:
    at = comparisons()
    at.up("b", 0)
    assert at.next(0) == "b"
    at.failed(0)
    if mend == "equal":
        at.roots("b", "same", "same", 10)
        at.behind("b", 10)
        assert at.next(510) == "b"
    else:
        at.up("b", 10)
        assert at.next(10) == "b"


def test_those_that_rest_have_no_turn_and_wake_nobody() -> None:
    at = Comparisons(Pace(sync_interval_ms=100, catchup_interval_ms=60_000, throttle_delay_ms=0), Random(1), 0)
    at.up("b", 0)
    assert at.next(0) == "b"
    at.failed(0)
    assert at.next(150) is None
    assert at.wake_at_ms() == 250


def test_what_is_heard_during_a_comparison_that_fails_shortens_no_pause() -> None:
    at = comparisons()
    at.up("b", 0)
    assert at.next(0) == "b"
    for now_ms in (1_000, 2_000):
        at.roots("b", "x", "y", now_ms)
    at.failed(60_000)
    assert at.next(60_000) is None
    assert (at.wake_at_ms() or 0) > 60_000
