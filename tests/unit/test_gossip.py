"""How news travel, how a node defends itself, and who has an id."""

import math
from collections import Counter
from random import Random

import pytest

from kvs.cluster.gossip import Pauses, Plans, Rumours, times_told
from kvs.cluster.membership_events import (
    CloneFound,
    Heard,
    Joined,
    Leaving,
    MemberDown,
    MemberGone,
    MembershipSettings,
    MemberUp,
    Save,
    Tick,
)
from kvs.cluster.messages import (
    Digest,
    Done,
    Join,
    Leave,
    MemberList,
    Ping,
    PingAck,
    Refused,
    Status,
)
from kvs.errors import BadRequest, Conflict, Unavailable
from kvs.limits import MEMBERS_MAX, RUMOURS_PER_MESSAGE_MAX
from tests.members import JOINED_MS, UNIX_MS, Driven, calls, join, member, of, ping_messages, pings, reports, rumour

ALIVE, SUSPECT, DEAD, LEFT, REMOVED = Status
MINUTE_MS = 60_000

# --- the queue ---


@pytest.mark.parametrize("members", [1, 2, 9, 10, 99, 100, 999, 1_000])
def test_a_rumour_is_told_four_times_the_logarithm(members: int) -> None:
    assert times_told(members) == 4 * math.ceil(math.log10(members + 1))


def queue(*ids: str) -> Rumours:
    rumours = Rumours()
    for node_id in ids:
        rumours.add(rumour(node_id))
    return rumours


def test_the_newest_comes_first_and_the_least_told_before_it() -> None:
    rumours = queue(*(f"n{number}" for number in range(30)))
    first = [told.id for told in rumours.take("x", 50)]
    assert first == [f"n{number}" for number in range(29, 9, -1)]
    second = [told.id for told in rumours.take("x", 50)]
    assert second == [f"n{number}" for number in range(9, -1, -1)] + [f"n{number}" for number in range(29, 19, -1)]
    rumours.add(rumour("new"))
    assert rumours.take("x", 50)[0].id == "new"


def test_each_is_told_so_often_and_no_more() -> None:
    rumours = queue("b", "c")
    told = Counter(said.id for _ in range(20) for said in rumours.take("x", 50))
    assert told == {"b": 8, "c": 8}
    assert len(rumours) == 0


def test_telling_whoever_is_likely_gone_does_not_count() -> None:
    rumours = queue("b")
    for _ in range(20):
        assert rumours.take("x", 5, is_heard=False)
    assert sum(bool(rumours.take("x", 5)) for _ in range(20)) == 4


def test_nobody_is_told_of_itself_or_of_what_it_said() -> None:
    rumours = queue("b", "c")
    rumours.is_known_by(rumour("c"), "x")
    rumours.is_known_by(rumour("b", 9), "x")  # not the same news
    assert [told.id for told in rumours.take("x", 9)] == ["b"]
    assert [told.id for told in rumours.take("b", 9)] == ["c"]


def test_what_everybody_knows_is_not_kept_for_whoever_comes_later() -> None:
    """A death of long ago, told to the other half after a partition, would bury the living."""
    rumours = Rumours()
    rumours.add(rumour("b", 10, DEAD))
    rumours.is_known_by(rumour("b", 10, DEAD), "c")
    assert rumours.take("d", members=2) == ()
    assert len(rumours) == 0


def test_newer_news_replace_older_ones() -> None:
    rumours = queue("b")
    rumours.is_known_by(rumour("b"), "x")
    rumours.add(rumour("b", 11))
    assert [told.incarnation for told in rumours.take("x", 9)] == [11]


def test_the_queue_is_bounded() -> None:
    rumours = queue(*(f"n{number}" for number in range(MEMBERS_MAX + 50)))
    assert len(rumours) == MEMBERS_MAX
    assert rumours.take("x", 9)[0].id == f"n{MEMBERS_MAX + 49}"


# --- the plans ---


def plans(*seeds: str, seed: int = 1) -> Plans:
    made = Plans(Pauses(60_000, 120_000), seeds, Random(seed))
    made.start(0, knows_others=False)
    return made


def test_pauses_are_random_within_their_bounds() -> None:
    made = plans("s:1")
    exchanges, retries = set(), set()
    for _ in range(200):
        made.plan_exchange(0)
        made.plan_retry(0)
        exchanges.add(made.exchange_ms)
        retries.add(made.retry_ms)
    assert 60_000 <= min(exchanges) < 70_000
    assert 110_000 < max(exchanges) <= 120_000
    assert 48_000 <= min(retries) < 52_000
    assert 68_000 < max(retries) <= 72_000


def test_joining_is_tried_ever_less_often_until_somebody_is_found() -> None:
    made = plans("s:1")
    pauses, now_ms = [], 0
    for _ in range(12):
        made.plan_join(now_ms)
        assert made.join_ms is not None
        pauses.append(made.join_ms - now_ms)
        now_ms = made.join_ms
    assert 500 <= pauses[0] <= 1_000
    assert all(30_000 <= pause <= 60_000 for pause in pauses[6:])
    made.joined()
    assert made.join_ms is None


def test_an_exchange_is_with_one_to_three_members() -> None:
    made = plans()
    peers = [f"n{number}" for number in range(9)]
    sizes = Counter(len(made.exchange_peers(peers)) for _ in range(300))
    assert set(sizes) == {1, 2, 3}
    assert made.exchange_peers([]) == []
    assert len(set(made.exchange_peers(["b"]))) == 1


def test_missing_seeds_are_tried_in_turn() -> None:
    made = plans(*(f"s{number}:1" for number in range(8)))
    tried = [made.retry_seeds({"s3:1"}) for _ in range(3)]
    assert all(len(seeds) == 3 for seeds in tried)
    assert {seed for seeds in tried for seed in seeds} == {f"s{number}:1" for number in range(8) if number != 3}
    assert plans().retry_seeds(set()) == []


# --- joining ---


def test_a_join_is_answered_with_the_list() -> None:
    driven = Driven()
    driven.meet(member("c"))
    answer, effects = driven.ask(join())
    assert isinstance(answer, MemberList)
    assert {m.id for m in answer.members} == {"a", "b", "c"}
    assert [up.member.id for up in of(MemberUp, effects)] == ["b"]


def test_a_join_may_lack_what_only_daemons_know_and_works_again_after_a_leave() -> None:
    driven = Driven()
    bare = Join(id="b", address="b.example:8080", joined_timestamp=JOINED_MS)
    for _ in range(2):
        assert isinstance(driven.ask(bare)[0], MemberList)
        assert driven.view() == {"b": "alive"}
        assert driven.ask(Leave(id="b"))[0] == Done()
        assert driven.view() == {"b": "left"}


def test_a_join_with_a_bad_address_is_refused() -> None:
    outcome, _ = Driven().ask(join(address="http://b:8080"))
    assert isinstance(outcome, BadRequest)
    assert outcome.code == "invalid_address"


def test_joining_asks_up_to_three_seeds_and_checks_whom_they_name() -> None:
    driven = Driven(seeds=["s1:1", "s2:1", "s3:1", "s4:1"])
    asked = calls(Join, driven.effects)
    assert len({call.address for call in asked}) == 3
    effects = driven.respond(asked[0], MemberList((member("b"), member("c"))))
    assert sorted(pings(effects)) == ["b", "c"]
    assert driven.view() == {}
    effects = driven.respond(calls(Ping, effects)[0], driven.ack("b"))
    assert of(Joined, effects) == [Joined()]
    assert driven.core.has_joined
    assert driven.view() == {"b": "alive"}
    assert [call.address for call in calls(MemberList, effects)] == ["b.example:8080"]


def test_a_seed_that_is_this_node_itself_is_not_asked_again() -> None:
    driven = Driven(seeds=["alias:1"])
    (call,) = calls(Join, driven.effects)
    outcome, _ = driven.ask(call.message, "a")
    assert isinstance(outcome, Conflict)
    assert (outcome.code, of(CloneFound, driven.effects)) == ("this_node", [])
    driven.respond(call, Refused("this_node"))
    assert not calls(Join, driven.run(10 * MINUTE_MS))


def test_a_seed_that_refuses_this_node_is_reported_once() -> None:
    driven = Driven(seeds=["s:1"])
    for code, known in (("invalid_address", 1), ("invalid_address", 1), ("unauthorized", 2)):
        driven.respond(calls(Join, driven.effects)[-1], Refused(code, "because"))
        assert reports(driven.effects).count("A seed refuses this node") == known
        while not driven.under_way:
            driven.run(500)


def test_seeds_that_are_silent_are_tried_for_ever() -> None:
    driven = Driven(seeds=["s:1"])
    driven.run(10 * MINUTE_MS)
    late = calls(Join, driven.run(10 * MINUTE_MS))
    assert 8 <= len(late) <= 21


def test_the_lost_and_missing_seeds_are_tried_about_once_a_minute() -> None:
    driven = Driven(seeds=["b.example:8080", "s:1"])
    driven.meet(member("b"), member("d"))
    driven.run(20_000, alive=["b"])
    assert driven.view()["d"] == "dead"
    driven.effects.clear()
    driven.run(10 * MINUTE_MS, alive=["b"])
    assert 8 <= pings(driven.effects).count("d") <= 13
    assert 8 <= [call.address for call in calls(Join, driven.effects)].count("s:1") <= 13
    assert "b.example:8080" not in {call.address for call in calls(Join, driven.effects)}
    rated = {ping.rated.status for ping in ping_messages(driven.effects) if ping.to == "d" and ping.rated is not None}
    assert rated == {DEAD}


# --- the exchange ---


def test_whole_lists_are_exchanged_once_in_a_while() -> None:
    driven = Driven()
    driven.meet(member("b"), member("c"))
    driven.effects.clear()
    driven.run(20 * MINUTE_MS, alive=["b", "c"])
    exchanges = calls(MemberList, driven.effects)
    assert 10 <= len(exchanges) <= 41
    assert {m.id for m in exchanges[0].message.members} == {"a", "b", "c"}  # type: ignore[union-attr]


def test_a_list_is_answered_with_the_own_one() -> None:
    driven = Driven()
    driven.meet(member("c"))
    answer, effects = driven.ask(MemberList((member("b"), member("d"))), "b")
    assert isinstance(answer, MemberList)
    assert {m.id for m in answer.members} == {"a", "b", "c"}
    assert "d" in pings(effects)


def test_with_a_peer_that_is_back_the_list_is_exchanged_at_once_but_not_with_each_of_many() -> None:
    driven = Driven()
    driven.meet(member("b"), member("c"), member("d"))
    driven.run(40_000, alive=["d"])
    assert driven.view() == {"b": "dead", "c": "dead", "d": "alive"}
    driven.effects.clear()
    driven.meet(member("b", 11), member("c", 11))
    assert [call.address for call in calls(MemberList, driven.effects)] == ["b.example:8080"]


# --- leaving ---


def test_leaving_tells_the_members_and_then_there_is_silence() -> None:
    driven = Driven()
    driven.meet(*(member(f"m{number}") for number in range(15)))
    effects = driven.handle(Leaving())
    assert len(calls(Leave, effects)) == 10
    assert driven.core.wake_at_ms is None
    assert driven.handle(Tick()) == []
    outcome, _ = driven.ask(Ping(sender=member("m1"), to="a"), "m1")
    assert isinstance(outcome, Unavailable)
    assert outcome.code == "leaving"
    assert driven.handle(Leaving()) == []


def test_who_left_is_listed_as_such_and_told_on() -> None:
    driven = Driven()
    driven.meet(member("b"), member("c"))
    outcome, effects = driven.ask(Leave(id="b", incarnation=12))
    assert outcome == Done()
    assert [type(e) for e in effects if isinstance(e, MemberDown | MemberGone)] == [MemberDown]
    assert driven.view()["b"] == "left"
    ack, _ = driven.ask(Ping(sender=member("c"), to="a"), "c")
    assert [(r.id, r.status, r.incarnation) for r in getattr(ack, "rumours", ())][:1] == [("b", LEFT, 12)]


def test_leaving_is_no_way_to_bury_the_living() -> None:
    driven = Driven()
    before = driven.incarnation
    assert driven.ask(Leave(id="a"))[0] == Done()
    assert driven.incarnation == before + 1
    assert driven.ask(Leave(id="nobody"))[0] == Done()


# --- what other cores hear ---


def test_digest_and_clock_of_peers_are_passed_on_and_the_own_digest_is_told() -> None:
    driven = Driven()
    driven.core.digest = Digest(root="ab" * 16, count=7, gc_floor=5)
    theirs = Digest(root="cd" * 16, count=8, gc_floor=6)
    answer, effects = driven.ask(Ping(sender=member("b", seen=UNIX_MS + 999), to="a", digest=theirs), "b")
    assert of(Heard, effects) == [Heard("b", UNIX_MS + 999, theirs)]
    assert getattr(answer, "digest", None) == driven.core.digest
    assert ping_messages(driven.run(2_000, alive=["b"]))[0].digest == driven.core.digest


def test_a_message_never_carries_more_rumours_than_may_be_decoded() -> None:
    driven = Driven()
    for number in range(60):
        driven.ask(MemberList((member(f"m{number}"),)), f"m{number}")
    answer, _ = driven.ask(Ping(sender=member("z"), to="a"), "z")
    assert isinstance(answer, PingAck)
    assert len(answer.rumours) == RUMOURS_PER_MESSAGE_MAX


def test_many_who_become_known_are_saved_together() -> None:
    driven = Driven(settings=MembershipSettings())
    driven.meet(member("first"))
    driven.effects.clear()
    ids = [f"m{number}" for number in range(30)]
    driven.meet(*(member(node_id) for node_id in ids))
    assert of(Save, driven.effects) == []
    (save,) = of(Save, driven.run(1_500, alive=["first", *ids]))
    assert {m.id for m in save.state.members} == {"first", *ids}
