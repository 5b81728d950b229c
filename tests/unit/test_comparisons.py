"""When a comparison is due, and that nobody is woken for one that cannot begin."""

from random import Random

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
