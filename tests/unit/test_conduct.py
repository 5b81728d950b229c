"""Who keeps sending nonsense is cut off for a while, and nobody else is."""

import pytest

from kvs.cluster.conduct import Conduct
from kvs.errors import Forbidden
from kvs.limits import CUT_OFF_MS, MEMBERS_MAX, NONSENSE_MAX, NONSENSE_WINDOW_MS


def is_heard(conduct: Conduct, peer: str, host: str, now_ms: int) -> bool:
    try:
        conduct.check(peer, host, now_ms)
    except Forbidden as refusal:
        return refusal.code != "cut_off"
    return True


def test_who_keeps_sending_nonsense_is_cut_off_for_a_while() -> None:
    conduct = Conduct()
    cut_off = [conduct.strike("n2", "h", 1_000 + number) for number in range(NONSENSE_MAX)]
    assert cut_off == [False] * (NONSENSE_MAX - 1) + [True], "it is said once"
    since_ms = 1_000 + NONSENSE_MAX - 1
    for at_ms in (since_ms, since_ms + CUT_OFF_MS - 1):
        assert not is_heard(conduct, "n2", "h", at_ms)
        assert conduct.is_cut_off("n2", at_ms)
    assert not conduct.strike("n2", "h", since_ms + 1)
    assert is_heard(conduct, "n2", "h", since_ms + CUT_OFF_MS)
    assert not conduct.is_cut_off("n2", since_ms + CUT_OFF_MS)
    assert not conduct.strike("n2", "h", since_ms + CUT_OFF_MS), "it begins anew"


def test_another_node_or_another_host_is_heard() -> None:
    conduct = Conduct()
    for number in range(NONSENSE_MAX):
        conduct.strike("n2", "h", number)
    assert is_heard(conduct, "n3", "h", 100)
    assert is_heard(conduct, "n2", "other", 100)
    assert not conduct.is_cut_off("n3", 100)


def test_nonsense_now_and_then_cuts_nobody_off() -> None:
    conduct = Conduct()
    pause_ms = NONSENSE_WINDOW_MS // (NONSENSE_MAX - 1) + 1
    assert not any(conduct.strike("n2", "h", number * pause_ms) for number in range(10 * NONSENSE_MAX))
    assert is_heard(conduct, "n2", "h", 10 * NONSENSE_MAX * pause_ms)


@pytest.mark.parametrize("count", [1, 3])
def test_what_was_refused_is_counted(count: int) -> None:
    conduct = Conduct()
    conduct.refuse("n2", count)
    conduct.refuse("n2", 2)
    assert (conduct.refused("n2"), conduct.refused("n3")) == (count + 2, 0)


def test_memory_is_bounded_whatever_ids_somebody_gives_himself() -> None:
    conduct = Conduct()
    for number in range(3 * MEMBERS_MAX):
        conduct.strike(f"n{number}", "h", number)
        conduct.refuse(f"n{number}", 1)
    assert len(conduct._peers) <= MEMBERS_MAX
    assert len(conduct._refused) <= MEMBERS_MAX
    assert conduct.refused(f"n{3 * MEMBERS_MAX - 1}") == 1
