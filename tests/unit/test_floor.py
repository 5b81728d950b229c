"""The floor below which tombstones go: it rests on proofs of all nodes, and never falls."""

from hypothesis import given
from hypothesis import strategies as st

from kvs.cluster.floor import Floor, Stored, decode, encode
from kvs.cluster.superseded import Absences

NOW_MS = 1_000_000


def floor(**equal: int) -> Floor:
    made = Floor(Stored(0, equal), margin_ms=0)
    made.members(equal)
    return made


def test_a_node_that_never_had_another_has_no_floor() -> None:
    alone = Floor(Stored(), margin_ms=10)
    assert not alone.raise_(NOW_MS)
    assert (alone.floor_ms, alone.is_shared) == (0, False)


def test_a_node_whose_others_were_removed_is_its_own_proof() -> None:
    left = Floor(Stored(0, {"b": 500}), margin_ms=10)
    left.raise_(NOW_MS)
    assert (left.floor_ms, left.is_shared) == (NOW_MS - 10, True)


def test_it_waits_for_the_proofs_of_all() -> None:
    at = floor(b=500, c=600)
    at.raise_(NOW_MS)
    assert at.floor_ms == 0
    at.heard("b", 700, 0, NOW_MS)
    at.raise_(NOW_MS)
    assert at.floor_ms == 0
    at.heard("c", 400, 0, NOW_MS)
    at.raise_(NOW_MS)
    assert at.floor_ms == 400
    at.heard("c", 900, 0, NOW_MS)
    at.raise_(NOW_MS)
    assert at.floor_ms == 500


def test_a_dead_node_holds_it_back_until_it_is_removed() -> None:
    at = floor(b=800, dead=100)
    at.heard("b", 800, 0, NOW_MS)
    at.heard("dead", 100, 0, NOW_MS)
    at.raise_(NOW_MS)
    assert at.floor_ms == 100
    at.members(["b"])
    at.raise_(NOW_MS)
    assert at.floor_ms == 800


def test_a_new_node_does_not_make_it_fall() -> None:
    at = floor(b=800)
    at.heard("b", 800, 0, NOW_MS)
    at.raise_(NOW_MS)
    at.members(["b", "new"])
    at.raise_(NOW_MS)
    assert at.floor_ms == 800
    assert at.proven_ms(NOW_MS) == 0


def test_a_higher_floor_is_taken_over() -> None:
    at = floor(b=1)
    at.heard("b", 0, 300, NOW_MS)
    assert at.floor_ms == 300


def test_the_margin_comes_off_every_proof() -> None:
    at = Floor(Stored(), margin_ms=100)
    at.members(["b"])
    at.equal("b", 1000)
    assert at.proven_ms(NOW_MS) == 900


def test_who_was_away_for_long_is_outdated() -> None:
    at = floor(b=500, c=900)
    assert not at.is_outdated(900, NOW_MS)
    assert at.is_outdated(901, NOW_MS)
    assert not floor().is_outdated(901, NOW_MS), "a node that never met anybody brings nothing that was deleted"


def test_who_was_away_for_less_than_the_retention_is_not_outdated() -> None:
    """Whatever floor it hears of: two nodes that lost their disks and found each other have one."""
    at = Floor(Stored(0, {"b": 500, "c": 900}), 0, retention_ms=1_000)
    assert not at.is_outdated(1_500, 1_900)
    assert at.is_outdated(1_500, 1_901)
    assert not at.is_outdated(900, 5_000)


def test_who_was_away_while_tombstones_went_is_apart() -> None:
    at = Floor(Stored(0, {"b": 500, "c": 900}), 0, retention_ms=1_000)
    assert at.apart(NOW_MS) == {}, "nothing has gone yet"
    at.members(["c"])
    at.heard("c", 900, 0, NOW_MS)
    at.raise_(NOW_MS)
    assert at.apart(NOW_MS) == {}, "nor now: the floor is not on the disk"
    at.saved(at.stored(), NOW_MS)
    assert at.apart(NOW_MS) == {"b": 500}
    assert at.apart(1_400) == {}, "tombstones as old as that are younger than the retention"
    at.equal("b", 901)
    assert at.apart(NOW_MS) == {}


def test_another_data_directory_has_another_past() -> None:
    """What the new one brings was never here; when this node was last equal to anybody is not forgotten."""
    at = Floor(Stored(900, {"b": 500, "c": 900}), 0, retention_ms=1_000)
    at.members(["b", "c"], {"b": "first", "c": "only"})
    assert at.apart(NOW_MS) == {"b": 500}, "which one it was equal to was not known yet: the first that it hears of"
    at.heard("b", 700, 0, NOW_MS)
    again = Floor(decode(encode(at.stored())), 0, retention_ms=1_000)
    for one in (at, again):
        one.members(["b", "c"], {"b": "second", "c": "only"})
        assert (one.apart(NOW_MS), one.last_equal_ms("b"), one.told_by("b")) == ({"b": 0}, None, None)
        assert (one.last_equal_ms("c"), one.proven_ms(NOW_MS)) == (900, 0)
        one.members(["c"], {"c": "another"})
        assert one.is_outdated(901, NOW_MS)
        assert not one.is_outdated(900, NOW_MS)
        assert one.had_peers


def test_a_node_that_sets_records_aside_takes_no_absence_for_a_deletion() -> None:
    at = Floor(Stored(900, {"b": 500, "c": 800}), 0, retention_ms=1_000)
    at.members(["b", "c"])
    assert at.apart(NOW_MS) == {"b": 500, "c": 800}
    at.doubt()
    again = Floor(decode(encode(at.stored())), 0, retention_ms=1_000)
    again.members(["b", "c"])
    for one in (at, again):
        assert one.apart(NOW_MS) == {"b": 0, "c": 0}
        assert (one.proven_ms(NOW_MS), one.collected_below_ms, one.has_past) == (0, 0, True)
        assert one.is_outdated(901, NOW_MS), "its absence ends with a comparison"
        one.equal("c", NOW_MS)
        assert not one.is_outdated(901, NOW_MS)


def test_a_comparison_that_could_not_take_all_ends_the_absence_and_proves_nothing() -> None:
    at = Floor(Stored(900, {"b": 500}), 0, retention_ms=1_000)
    at.members(["b"])
    assert at.is_outdated(901, NOW_MS)
    at.compared(NOW_MS)
    assert not at.is_outdated(901, NOW_MS)
    assert at.proven_ms(NOW_MS) == 500


def test_of_two_that_were_away_from_each_other_one_waits_for_the_other() -> None:
    a, b = Floor(Stored(1000, {"b": 500}), 0), Floor(Stored(2000, {"a": 500}), 0)
    assert a.is_outdated(b.floor_ms, NOW_MS)
    assert not b.is_outdated(a.floor_ms, NOW_MS)


@given(st.lists(st.tuples(st.sampled_from("bcd"), st.integers(0, 100), st.integers(0, 100)), max_size=30))
def test_it_never_falls_nor_passes_a_proof_unless_another_node_did(words: list[tuple[str, int, int]]) -> None:
    at = floor(b=0, c=0, d=0)
    before = 0
    told = 0
    for peer, proven_ms, floor_ms in words:
        at.equal(peer, proven_ms)
        at.heard(peer, proven_ms, floor_ms // 2, NOW_MS)
        told = max(told, floor_ms // 2)
        at.raise_(NOW_MS)
        assert at.floor_ms >= before
        assert at.floor_ms <= max(told, before, at.proven_ms(NOW_MS))
        before = at.floor_ms


def test_others_are_told_what_is_stored() -> None:
    at = floor(b=500_000)
    assert at.raise_(NOW_MS)
    assert at.announced_ms == 0
    stored = at.stored()
    at.equal("b", 900_000)
    at.saved(stored, NOW_MS)
    assert at.announced_ms == 500_000
    assert at.raise_(NOW_MS)
    at.saved(at.stored(), NOW_MS)
    assert at.announced_ms == 900_000
    assert not at.raise_(NOW_MS)


def test_it_survives_a_restart() -> None:
    at = floor(b=500)
    at.heard("b", 0, 300, NOW_MS)
    again = Floor(decode(encode(at.stored())), margin_ms=0)
    assert again.floor_ms == 300
    assert not again.is_outdated(500, NOW_MS)
    assert decode(None) == Stored()


def test_tombstones_go_below_what_is_on_the_disk() -> None:
    at = floor(b=800)
    assert Floor(Stored(), 0).collected_below_ms is None
    at.heard("b", 800, 0, NOW_MS)
    at.raise_(NOW_MS)
    assert (at.floor_ms, at.collected_below_ms) == (800, 0)
    at.saved(at.stored(), NOW_MS)
    assert at.collected_below_ms == 800


def test_a_node_with_seeds_keeps_its_tombstones_until_it_has_met_somebody() -> None:
    at = Floor(Stored(), 0, has_seeds=True)
    assert not at.raise_(NOW_MS)
    assert (at.floor_ms, at.collected_below_ms) == (0, 0)


def test_a_floor_of_others_says_nothing_of_what_this_node_brought_along() -> None:
    """Its tombstones stay until it was equal to all that count: also to one that was away when it met the others, and
    has the older versions still."""
    at = Floor(Stored(), 0, has_seeds=True)
    at.members(["b", "away"])
    at.heard("b", 0, 900, NOW_MS)
    at.saved(at.stored(), NOW_MS)
    assert (at.floor_ms, at.collected_below_ms) == (900, 0)
    at.equal("b", 1_000)
    assert at.collected_below_ms == 0
    at.equal("away", 700)
    assert at.collected_below_ms == 700
    at.equal("away", 1_000)
    assert at.collected_below_ms == 900


def test_a_new_node_drops_what_the_others_drop_beside_one_that_is_away() -> None:
    """What is older than its data directory came from them. Otherwise it would keep that, and they would be unequal,
    until the one that is away comes back or is forgotten."""
    at = Floor(Stored(), 10, has_seeds=True, born_ms=1_000)
    at.members(["b", "away"])
    at.heard("b", 0, 900, NOW_MS)
    at.equal("b", 1_200)
    at.raise_(NOW_MS)
    at.saved(at.stored(), NOW_MS)
    assert (at.floor_ms, at.collected_below_ms) == (900, 900)
    at.heard("b", 0, 1_100, NOW_MS)
    at.saved(at.stored(), NOW_MS)
    assert at.collected_below_ms == 990, "of this time it may hold one of its own"
    assert Floor(Stored(as_of=5), 10, has_seeds=True, born_ms=1_000)._own_from_ms == 0


def test_a_node_that_was_filled_long_ago_is_outdated() -> None:
    """It holds what others held then, or a part of that, and was equal to nobody."""
    new = Floor(Stored(), 10, retention_ms=1_000, has_seeds=True, born_ms=90)
    assert new.filled(100)
    stored = new.stored()
    new.saved(stored, 200)
    assert not new.filled(200), "that is on the disk"
    at = Floor(decode(encode(stored)), 10, retention_ms=1_000, has_seeds=True, born_ms=90)
    assert at.has_past
    assert not at.filled(4_000), "what it got first is the oldest"
    assert at.is_outdated(500, 5_000)
    assert not at.is_outdated(90, 5_000), "all know of what it got"
    assert not at.is_outdated(500, 1_000), "nobody has forgotten anything"
    assert not Floor(Stored(), 10, retention_ms=1_000, has_seeds=True, born_ms=90).is_outdated(500, 5_000)


def test_the_latest_proof_does_not_stay_behind_on_the_disk_while_one_is_away_that_never_was_met() -> None:
    """Nothing else has the floor saved then: a node that is off for an hour would take itself for long gone."""
    hour_ms = 3_600_000
    at = Floor(Stored(), 0)
    at.members(["b", "away"])
    at.equal("b", hour_ms)
    assert at.raise_(10 * hour_ms)
    at.saved(at.stored(), hour_ms)
    at.equal("b", 2 * hour_ms - 1)
    assert not at.raise_(10 * hour_ms)
    at.equal("b", 2 * hour_ms)
    assert at.raise_(10 * hour_ms)


def test_a_member_that_is_up_counts_beside_those_that_were_there() -> None:
    at = floor(b=800)
    at.member("c", "first")
    at.heard("b", 900, 0, NOW_MS)
    at.raise_(NOW_MS)
    assert at.floor_ms == 0
    at.equal("c", 700)
    at.heard("c", 900, 0, NOW_MS)
    at.raise_(NOW_MS)
    assert at.floor_ms == 700
    at.member("c", "")
    assert at.last_equal_ms("c") == 700, "which one it is was not said"
    at.member("c", "second")
    assert at.last_equal_ms("c") is None, "another data directory"


def test_nothing_from_the_future_is_believed() -> None:
    at = floor(b=800)
    at.heard("b", NOW_MS + 1, NOW_MS + 1, NOW_MS)
    at.raise_(NOW_MS)
    assert at.floor_ms == 0
    assert not at.is_outdated(NOW_MS + 1, NOW_MS)


def test_a_clock_that_was_ahead_proves_nothing_when_it_is_mended() -> None:
    ahead_ms = 10 * NOW_MS
    at = floor()
    at.members(["b"])
    at.equal("b", ahead_ms)
    at.heard("b", ahead_ms, 0, ahead_ms)
    assert at.raise_(ahead_ms)
    at.saved(at.stored(), ahead_ms)
    assert (at.floor_ms, at.announced_ms) == (ahead_ms, ahead_ms)
    at.raise_(NOW_MS)
    assert (at.floor_ms, at.announced_ms, at.proven_ms(NOW_MS), at.collected_below_ms) == (0, 0, 0, 0)
    at.equal("b", NOW_MS)
    at.heard("b", NOW_MS, 0, NOW_MS)
    assert at.raise_(NOW_MS)
    assert at.floor_ms == NOW_MS


# --- a node that was restored from a backup ---


def restored(as_of: int = 500, *, floor: int = 0, had_peers: bool = True, has_seeds: bool = False) -> Floor:
    return Floor(Stored(floor, as_of=as_of, had_peers=had_peers), margin_ms=0, has_seeds=has_seeds)


def test_a_restored_node_is_outdated_by_a_floor_that_its_backup_does_not_reach() -> None:
    assert restored().is_outdated(501, NOW_MS)
    assert not restored().is_outdated(500, NOW_MS)
    assert not restored(floor=600).is_outdated(501, NOW_MS)
    assert not restored(as_of=0).is_outdated(501, NOW_MS), "a new node brings nothing that was deleted"
    at = restored()
    at.members(["b"])
    at.equal("b", 900)
    assert not at.is_outdated(501, NOW_MS)
    assert at.is_outdated(901, NOW_MS)


def test_a_restored_node_that_is_alone_moves_no_floor() -> None:
    """Else it would tell the others, when they come, that it is they who were away."""
    at = restored(floor=300)
    assert not at.raise_(NOW_MS)
    assert (at.floor_ms, at.announced_ms) == (300, 0)


def test_tombstones_of_a_restored_node_wait_for_the_others_of_before() -> None:
    assert restored(floor=300).collected_below_ms == 300
    assert restored(had_peers=False).collected_below_ms is None, "there were none"
    assert restored(had_peers=False, has_seeds=True).collected_below_ms == 0


def test_who_is_unproven() -> None:
    assert restored().is_unproven
    assert restored(had_peers=False, has_seeds=True).is_unproven
    assert not restored(had_peers=False).is_unproven, "there is nobody to prove it"
    assert not restored(as_of=0).is_unproven
    at = restored()
    at.equal("b", 900)
    assert not at.is_unproven


def test_what_a_backup_says() -> None:
    assert Floor(Stored(), margin_ms=10).as_of_ms(NOW_MS) == NOW_MS - 10
    assert floor(b=500, c=600).as_of_ms(NOW_MS) == 600
    assert restored().as_of_ms(NOW_MS) == 500
    assert not Floor(Stored(), margin_ms=0).had_peers
    assert floor(b=500).had_peers
    assert restored().had_peers


def test_it_outlives_a_restart() -> None:
    at = restored(floor=300)
    at.members(["b"])
    at.equal("b", 900)
    assert decode(encode(at.stored())) == Stored(300, {"b": 900}, 500, had_peers=True, last=900)


def test_who_is_away_may_have_what_came_after_the_last_proof() -> None:
    """Until it is back; after that, what it has not been proven to have replaced."""
    at = Floor(Stored(0, {"b": 500, "c": 900}), 10)
    at.begin(1_000)
    assert at.absences() == Absences(((500, 1_010), (900, 1_010)), None), "both were there, as far as is known"
    assert not at.is_back("b")
    assert at.absences() == Absences(((900, 1_010),), 500)
    at.is_lost("b", 2_000)
    at.is_lost("b", 3_000)
    at.is_lost("new", 2_000)
    assert at.absences() == Absences(((900, 1_010), (500, 2_010)))


def test_since_when_who_is_away_outlives_restarts_until_it_is_back() -> None:
    at = Floor(Stored(0, {"b": 500, "c": 900}), 0)
    at.begin(1_000)
    at.is_back("c")
    stored = at.stored()
    assert stored.away == {"b": 1_000}
    again = Floor(decode(encode(stored)), 0)
    again.begin(5_000)
    assert again.absences().spans == ((500, 1_000), (900, 5_000))
    assert not again.is_back("c"), "that it was away is not on the disk"
    assert again.is_back("b")
    again.saved(again.stored(), NOW_MS)
    assert not again.is_back("b")
    once_more = Floor(decode(encode(again.stored())), 0)
    once_more.begin(6_000)
    assert once_more.absences().spans == ((500, 6_000), (900, 6_000))


def test_an_absence_that_began_in_the_future_began_now() -> None:
    at = Floor(Stored(0, {"b": 500}), 0)
    at.members(["b"])
    at.begin(2 * NOW_MS)
    at.raise_(NOW_MS)
    assert at.absences().spans == ((500, NOW_MS),)


def test_of_who_was_never_equal_nothing_is_known() -> None:
    at = Floor(Stored(), 0)
    at.begin(1_000)
    at.is_lost("b", 2_000)
    assert (at.absences(), at.stored().away) == (Absences(), {})
    at = Floor(Stored(0, {"b": 5_000}), 0)
    at.is_lost("b", 2_000)
    assert at.absences() == Absences(), "the proof is later: this clock was set back since"
