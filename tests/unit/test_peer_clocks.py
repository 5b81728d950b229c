"""What peers' clocks say about this node's own."""

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
    assert not at.is_right(now)
    at.lost("n1")
    assert at.is_right(now)
    at.lost("n2")
    assert at.median_ms(now) is None


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
