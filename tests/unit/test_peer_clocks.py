"""What peers' clocks say about this node's own."""

import pytest

from kvs.cluster.peer_clocks import PeerClocks
from kvs.cluster.time_of import Now

UNIX_MS = 1_700_000_000_000
DRIFT_MAX_MS = 60_000


def clocks(*ahead_ms: int) -> PeerClocks:
    """Peers that were heard when the steady clock showed 1000."""
    made = PeerClocks(DRIFT_MAX_MS)
    for number, ms in enumerate(ahead_ms):
        made.heard(f"n{number}", UNIX_MS + ms, Now(1000, UNIX_MS))
    return made


def test_a_clock_is_right_up_to_the_greatest_drift() -> None:
    now = Now(1000, UNIX_MS)
    assert PeerClocks(DRIFT_MAX_MS).is_right(now), "nobody says otherwise"
    assert clocks(DRIFT_MAX_MS).is_right(now)
    assert clocks(-DRIFT_MAX_MS).is_right(now)
    assert not clocks(DRIFT_MAX_MS + 1).is_right(now)
    assert not clocks(-DRIFT_MAX_MS - 1).is_right(now)


def test_most_peers_decide() -> None:
    at, now = clocks(5, 1_000_000, 7), Now(1000, UNIX_MS)
    assert (at.median_ms(now), at.offset_ms("n1", now), at.offset_ms("n9", now)) == (7, 1_000_000, None)
    assert at.is_right(now)
    at.lost("n0")
    assert at.is_right(now)
    at.lost("n2")
    assert not at.is_right(now)
    at.lost("n1")
    assert at.median_ms(now) is None


def peers_of(node: int, ahead_ms: tuple[int, ...]) -> PeerClocks:
    """What one of these nodes hears of the others."""
    mine_ms = ahead_ms[node]
    return clocks(*(other_ms - mine_ms for at, other_ms in enumerate(ahead_ms) if at != node))


@pytest.mark.parametrize(
    ("ahead_ms", "refusing"),
    [
        ((0, 300_000), {0, 1}),
        ((0, 3, 300_000), {2}),
        ((0, 3, -300_000), {2}),
        ((0, 3, 5, 300_000), {3}),
        ((0, 3, 5, 300_000, 300_001), {3, 4}),
        ((0, 3, 5, 300_000, -300_000), {3, 4}),
        ((0, 3, 300_000, 300_001), {0, 1, 2, 3}),
        ((0, 100_000, 200_000), {0, 1, 2}),
    ],
)
def test_a_minority_of_wrong_clocks_stops_only_itself(ahead_ms: tuple[int, ...], refusing: set[int]) -> None:
    now = Now(1000, UNIX_MS)
    assert {node for node in range(len(ahead_ms)) if not peers_of(node, ahead_ms).is_right(now)} == refusing


def test_of_two_middle_clocks_the_nearer_to_this_one_counts_whichever_that_is_by_now() -> None:
    at = clocks(0, 300_000)
    assert at.median_ms(Now(1000, UNIX_MS)) == 0
    assert at.median_ms(Now(1001, UNIX_MS + 300_002)) == -1


def test_it_is_told_once_that_the_clock_becomes_wrong_and_once_that_it_is_right_again() -> None:
    at = clocks(5)
    assert at.turned(Now(1000, UNIX_MS)) is None
    begun = at.turned(Now(1001, UNIX_MS - 300_000))
    assert begun is not None
    assert (begun.level, begun.fields) == ("warning", {"offset_ms": 300_006, "max_clock_drift_ms": DRIFT_MAX_MS})
    assert at.turned(Now(1002, UNIX_MS - 300_000)) is None
    ended = at.turned(Now(1003, UNIX_MS + 3))
    assert ended is not None
    assert (ended.level, ended.fields) == ("info", {"offset_ms": 5})
    assert at.turned(Now(1004, UNIX_MS + 4)) is None


def test_time_that_passes_on_both_clocks_changes_nothing() -> None:
    assert clocks(5, 5).median_ms(Now(3_601_000, UNIX_MS + 3_600_000)) == 5


def test_a_jump_shows_before_anybody_is_heard_again() -> None:
    for jump_ms in (DRIFT_MAX_MS + 1, -DRIFT_MAX_MS - 1):
        at = clocks(0, 0)
        assert not at.is_right(Now(1001, UNIX_MS + 1 + jump_ms))
        assert at.is_right(Now(1002, UNIX_MS + 2)), "and when it is mended"


def test_a_peer_that_does_not_tell_its_clock_says_nothing() -> None:
    at = clocks(0)
    at.heard("n0", 0, Now(2000, UNIX_MS + 1000))
    at.heard("n1", 0, Now(2000, UNIX_MS + 1000))
    assert at.median_ms(Now(2000, UNIX_MS + 1000)) == 0
