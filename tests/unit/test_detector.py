"""Who is asked when, what silence means, and how long the silent may defend themselves."""

from collections import Counter
from random import Random

import pytest

from kvs.cluster.detector import Detector, Health, Probe, Verdict
from kvs.cluster.membership_events import (
    Answer,
    Call,
    Deferred,
    Failed,
    LoopLag,
    MemberDown,
    MembershipSettings,
    Responded,
    Tick,
)
from kvs.cluster.messages import Ping, PingReq, PingReqAck, Refused, Status
from kvs.cluster.suspicion import Suspicion, Suspicions, Waits, wait_ms, waits
from kvs.errors import KvsError, NotFound, Unavailable
from kvs.limits import HEALTH_MAX, RELAYS_MAX
from tests.members import Driven, calls, member, of, ping_messages, pings, reports, rumour

# --- whom ---


def detector(seed: int = 1) -> Detector:
    return Detector(1_000, 500, Random(seed))


def test_every_peer_is_probed_once_in_a_round() -> None:
    peers = [f"n{number}" for number in range(10)]
    probed = detector()
    for _ in range(5):
        assert sorted(str(probed.next_target(peers, 0)) for _ in peers) == sorted(peers)


def test_rounds_are_shuffled() -> None:
    peers = [f"n{number}" for number in range(10)]
    probed = detector()
    rounds = {tuple(probed.next_target(peers, 0) for _ in peers) for _ in range(5)}
    assert len(rounds) == 5


def test_a_newcomer_waits_no_longer_than_a_round_and_who_went_is_not_probed() -> None:
    peers = [f"n{number}" for number in range(10)]
    for seed in range(20):
        probed = detector(seed)
        for _ in range(3):
            probed.next_target(peers, 0)
        now = [*peers[:5], "new"]
        targets = [probed.next_target(now, 0) for _ in range(11)]
        assert "new" in targets
        assert set(targets) <= set(now)


def test_newcomers_do_not_all_come_next() -> None:
    first = Counter(detector(seed).next_target([f"n{number}" for number in range(5)], 0) for seed in range(100))
    assert len(first) == 5


def test_without_peers_there_is_no_target() -> None:
    assert detector().next_target([], 0) is None


def test_the_interval_and_the_timeouts_stretch_with_bad_health() -> None:
    probed = detector()
    probed.health.worse(3)
    probed.next_target(["b"], 100)
    assert (probed.next_ms, probed.timeout_ms, probed.helper_timeout_ms) == (4_100, 2_000, 2_000)


# --- what silence means ---


@pytest.mark.parametrize(
    ("helpers", "ends", "verdict", "health"),
    [
        # each helper's end: reached, no, or silent
        (0, [], Verdict.SUSPECT, 2),
        (1, ["no"], Verdict.SUSPECT, 1),
        (1, ["silent"], Verdict.SUSPECT, 2),
        (1, ["reached"], Verdict.LIVES, 2),
        (3, ["no", "no", "no"], Verdict.SUSPECT, 1),
        (3, ["no", "silent", "no"], Verdict.SUSPECT, 2),
        (3, ["silent", "silent", "silent"], Verdict.SUSPECT, 4),
        (3, ["no", "reached", "no"], Verdict.LIVES, 2),
        (3, ["silent", "no", "reached"], Verdict.LIVES, 2),
        (5, ["no", "no", "no"], Verdict.SUSPECT, 1),
    ],
)
def test_probes(helpers: int, ends: list[str], verdict: Verdict, health: int) -> None:
    probed, probe = detector(), Probe("b", 0)
    verdicts = [probed.silent(probe, [f"h{number}" for number in range(helpers)])]
    assert len(probe.helpers) == min(helpers, 3)
    verdicts += [probed.helped(probe, answered=end != "silent", reached=end == "reached") for end in ends]
    assert [said for said in verdicts if said is not Verdict.WAIT] == [verdict]
    assert probed.health.multiplier == health


def test_health_has_bounds() -> None:
    health = Health()
    health.better()
    assert health.multiplier == 1
    health.worse(100)
    assert health.multiplier == HEALTH_MAX
    for _ in range(100):
        health.better()
    assert health.multiplier == 1


# --- how long ---


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (2, Waits(4_000, 10_000, 0)),
        (3, Waits(4_000, 10_000, 0)),
        (4, Waits(4_000, 10_000, 2)),
        (10, Waits(4_000, 10_000, 2)),
        (100, Waits(8_000, 20_000, 2)),
        (1_000, Waits(12_000, 30_000, 2)),
    ],
)
def test_the_curve_of_the_defaults(members: int, expected: Waits) -> None:
    assert waits(members, 10_000, 1_000) == expected


def test_a_suspicion_lasts_at_least_a_probe_interval() -> None:
    assert waits(3, 100, 1_000) == Waits(1_000, 1_000, 0)


@pytest.mark.parametrize(
    ("confirmations", "expected_ms"),
    # memberlist's suspicion_test.go has these shares: max - log(c+1)/log(k+1) * (max - min), here for 2 and 30 s
    [(0, 30_000), (1, 16_000), (2, 7_810), (3, 2_000), (4, 2_000)],
)
def test_the_wait_shortens_on_a_logarithmic_curve(confirmations: int, expected_ms: int) -> None:
    assert wait_ms(Waits(2_000, 30_000, 3), confirmations) == pytest.approx(expected_ms, abs=1)


@pytest.mark.parametrize(
    ("accusers", "confirmed", "ends_ms"),
    [
        (["x"], [], 10_000),
        (["x", "x", "x"], [False, False], 10_000),
        (["x", "y"], [True], 6_214),
        (["x", "y", "z"], [True, True], 4_000),
        (["x", "y", "z", "w"], [True, True, False], 4_000),
        (["", "x"], [True], 10_000),  # who is not known to have accused does not count
        (["", "x", "y"], [True, True], 6_214),
        (["x", ""], [False], 10_000),
    ],
)
def test_distinct_accusers_shorten_the_wait(accusers: list[str], confirmed: list[bool], ends_ms: int) -> None:
    suspicion = Suspicion(waits(5, 10_000, 1_000), accusers[0], 0)
    assert [suspicion.confirm(accuser) for accuser in accusers[1:]] == confirmed
    assert suspicion.ends_ms == ends_ms


def test_a_suspect_that_is_heard_gets_the_shortest_wait_anew() -> None:
    suspicions = Suspicions(10_000, 1_000)
    suspicions.start("b", "x", members=3, now_ms=0)
    suspicions.heard("b", 3_000)
    assert suspicions.ended(6_999) == []
    assert suspicions.ended(7_000) == ["b"]


def test_a_stall_lengthens_the_wait() -> None:
    suspicions = Suspicions(10_000, 1_000)
    suspicions.start("b", "x", members=3, now_ms=0)
    suspicions.stalled(5_000, 6_000)
    assert suspicions.next_ms() == 9_000
    suspicions.stalled(2_500, 12_000)
    assert suspicions.next_ms() == 13_000, "what came meanwhile is read first"


# --- the whole machine ---


def three() -> Driven:
    driven = Driven()
    driven.meet(member("b"), member("c"))
    driven.run(3_000, alive=["b", "c"])
    return driven


def test_among_three_nodes_a_death_is_found_in_about_six_seconds() -> None:
    """Up to 3 s until the dead one's turn, 1 s for the probe, 4 s of suspicion. This is one of two that look."""
    for seed in range(10):
        driven = Driven(seed=seed)
        driven.meet(member("b"), member("c"))
        driven.run(3_000 + seed * 97, alive=["b", "c"])
        began_ms = driven.now.mono_ms
        while driven.view()["b"] != "dead":
            driven.run(50, alive=["c"])
        took_ms = driven.now.mono_ms - began_ms
        assert 4_000 <= took_ms <= 8_050


def probing(driven: Driven, target: str) -> int:
    """Wake it until it probes the target: the call."""
    while True:
        effects = driven.run(max(0, (driven.core.wake_at_ms or 0) - driven.now.mono_ms))
        found = [call for call in calls(Ping, effects) if getattr(call.message, "to", "") == target]
        if found:
            return found[0].call_id
        for call in calls(Ping, effects):
            driven.respond(call, driven.ack(getattr(call.message, "to", "")))


def asked_helper(driven: Driven) -> Call:
    """Let b be silent, so that c is asked for help: the call."""
    (question,) = calls(PingReq, driven.handle(Failed(probing(driven, "b"), False)))
    return question


def test_silence_is_checked_by_helpers_before_it_is_held_against_anybody() -> None:
    driven = three()
    question = asked_helper(driven)
    assert driven.view()["b"] == "alive"
    assert (question.address, getattr(question.message, "target", "")) == ("c.example:8080", "b")
    assert getattr(question.message, "timeout_ms", 0) < question.timeout_ms
    driven.respond(question, PingReqAck(sender=member("c"), reached=True))
    assert driven.view()["b"] == "alive"


def test_who_was_heard_since_the_probe_began_is_not_suspected() -> None:
    driven = three()
    question = asked_helper(driven)
    driven.meet(member("b"))
    driven.respond(question, PingReqAck(sender=member("c"), reached=False))
    assert driven.view()["b"] == "alive"


def test_a_no_of_all_helpers_is_a_suspicion() -> None:
    driven = three()
    driven.respond(asked_helper(driven), PingReqAck(sender=member("c"), reached=False))
    assert driven.view()["b"] == "suspect"


def test_a_refused_connection_is_a_suspicion_at_once() -> None:
    driven = three()
    effects = driven.handle(Failed(probing(driven, "b"), True))
    assert driven.view()["b"] == "suspect"
    assert not calls(PingReq, effects)


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        ("wrong_node", "suspect"),  # another node has the address
        ("node_id_taken", "alive"),  # only the one that was meant says so
        ("member_limit", "alive"),
        ("unauthorized", "alive"),  # says nothing: helpers are asked
    ],
)
def test_refusals_of_pings(refusal: str, status: str) -> None:
    driven = three()
    effects = driven.handle(Responded(probing(driven, "b"), Refused(refusal)))
    assert driven.view()["b"] == status
    assert bool(calls(PingReq, effects)) == (refusal == "unauthorized")


def test_an_ack_of_another_node_does_not_count() -> None:
    driven = three()
    driven.handle(Responded(probing(driven, "b"), driven.ack("c")))
    assert [call.address for call, _ in driven.under_way.values() if isinstance(call.message, PingReq)]


def test_a_suspect_is_asked_again_in_every_interval_and_told_what_it_is_suspected_of() -> None:
    driven = three()
    driven.handle(Failed(probing(driven, "b"), True))
    for _ in range(3):
        asked = [ping for ping in ping_messages(driven.run(1_000, alive=["c"])) if ping.to == "b"]
        assert {None if ping.rated is None else (ping.rated.status, ping.rated.incarnation) for ping in asked} == {
            (Status.SUSPECT, 10)
        }
    effects = driven.handle(Responded(last_ping(driven, "b"), driven.ack("b", 11)))
    assert driven.view()["b"] == "alive"
    assert "Member refuted a suspicion" in reports(effects)


def last_ping(driven: Driven, target: str) -> int:
    return [call for call in calls(Ping, driven.effects) if getattr(call.message, "to", "") == target][-1].call_id


def test_further_accusers_shorten_the_wait_here_too() -> None:
    def dies_after(accusers: list[str]) -> int:
        driven = Driven()
        others = ["c", "d", "e"]
        driven.meet(member("b"), *(member(other) for other in others))
        for accuser in accusers:
            claim = rumour("b", 10, Status.SUSPECT, accuser=accuser)
            driven.ask(Ping(sender=member(accuser), to="a", rumours=(claim,)), accuser)
        began_ms = driven.now.mono_ms
        while driven.view()["b"] != "dead":
            driven.run(100, alive=[*others])
            assert driven.now.mono_ms - began_ms < 20_000
        return driven.now.mono_ms - began_ms

    assert dies_after(["c", "d", "e"]) <= 4_100
    assert dies_after(["c", "d"]) < dies_after(["c"])


# --- stalls ---


def suspecting() -> Driven:
    """It suspects b, and has pings to b and c under way."""
    driven = three()
    driven.handle(Failed(probing(driven, "b"), True))
    driven.run(max(0, (driven.core.wake_at_ms or 0) - driven.now.mono_ms))
    return driven


@pytest.mark.parametrize("tells", [True, False])
def test_what_ended_in_a_stall_is_not_judged(tells: bool) -> None:
    driven = suspecting()
    driven.effects.clear()
    driven.later(20_000)
    if tells:
        driven.handle(LoopLag(20_000))
    for call_id in list(driven.under_way):
        driven.handle(Failed(call_id, False))
    driven.handle(Tick())
    assert of(MemberDown, driven.effects) == []
    assert driven.view() == {"b": "suspect", "c": "alive"}
    assert driven.core.health == HEALTH_MAX
    assert reports(driven.effects).count("This node stalled") == 1


def test_after_a_stall_the_wait_goes_on_where_it_was() -> None:
    driven = suspecting()
    driven.later(20_000)
    driven.run(2_000, alive=["c"])
    assert driven.view()["b"] == "suspect"
    driven.run(3_000, alive=["c"])
    assert driven.view()["b"] == "dead"


def test_a_call_that_fails_late_shows_a_stall_by_itself() -> None:
    driven = three()
    call_id = probing(driven, "b")
    driven.later(850)
    driven.handle(Failed(call_id, False))
    assert reports(driven.effects).count("This node stalled") == 1
    assert not [call for call, _ in driven.under_way.values() if isinstance(call.message, PingReq)]


def test_a_little_lateness_is_no_stall() -> None:
    driven = three()
    driven.run(max(0, (driven.core.wake_at_ms or 0) - driven.now.mono_ms) - 1, alive=["b", "c"])
    driven.later(100)
    driven.handle(Tick())
    assert driven.core.health == 1


def test_the_same_stall_is_not_counted_twice() -> None:
    probed = detector()
    assert probed.lag(1_000, 1_600) == 600
    assert probed.lag(900, 1_600) == 0
    assert probed.lag(900, 1_700) == 0, "only 100 ms more"
    assert probed.lag(900, 1_900) == 300


def test_a_refused_connection_is_true_even_after_a_stall() -> None:
    driven = three()
    call_id = probing(driven, "b")
    driven.later(20_000)
    driven.handle(Failed(call_id, True))
    assert driven.view()["b"] == "suspect"


# --- helping others ---


def test_a_helper_pings_and_says_what_came_of_it() -> None:
    driven = three()
    for end, reached in ((Responded, True), (Failed, False)):
        outcome, effects = driven.ask(PingReq(sender=member("c"), target="b", timeout_ms=300), "c")
        assert isinstance(outcome, Deferred)
        (ping,) = calls(Ping, effects)
        assert (ping.address, ping.timeout_ms) == ("b.example:8080", 300)
        effects = (
            driven.respond(ping, driven.ack("b")) if end is Responded else driven.handle(Failed(ping.call_id, False))
        )
        (answer,) = of(Answer, effects)
        assert answer.ticket == outcome.ticket
        assert isinstance(answer.outcome, PingReqAck)
        assert answer.outcome.reached is reached


def test_a_helper_that_stalled_does_not_know() -> None:
    driven = three()
    driven.run(max(0, (driven.core.wake_at_ms or 0) - driven.now.mono_ms), alive=["b", "c"])
    _, effects = driven.ask(PingReq(sender=member("c"), target="b", timeout_ms=300), "c")
    (ping,) = [call for call in calls(Ping, effects) if call.timeout_ms == 300]
    driven.later(10_000)
    (answer,) = of(Answer, driven.handle(Failed(ping.call_id, False)))
    assert isinstance(answer.outcome, Unavailable)


def test_a_helper_answers_for_itself_and_knows_only_members() -> None:
    driven = three()
    outcome, _ = driven.ask(PingReq(sender=member("c"), target="a", timeout_ms=300), "c")
    assert isinstance(outcome, PingReqAck)
    assert outcome.reached
    outcome, effects = driven.ask(PingReq(sender=member("c"), target="nobody", timeout_ms=300), "c")
    assert isinstance(outcome, NotFound)
    assert not pings(effects)


def test_a_helper_helps_only_so_many_at_once() -> None:
    driven = three()
    outcomes = [
        driven.ask(PingReq(sender=member("c"), target="b", timeout_ms=300), "c")[0] for _ in range(RELAYS_MAX + 1)
    ]
    assert [isinstance(outcome, KvsError) for outcome in outcomes] == [False] * RELAYS_MAX + [True]
    driven.run(400, alive=["c"])
    assert isinstance(driven.ask(PingReq(sender=member("c"), target="b", timeout_ms=300), "c")[0], Deferred)


def test_faster_settings_find_a_death_faster() -> None:
    settings = MembershipSettings(probe_interval_ms=200, probe_timeout_ms=100, suspicion_timeout_ms=2_000)
    driven = Driven(settings=settings)
    driven.meet(member("b"), member("c"))
    driven.run(1_000, alive=["b", "c"])
    driven.run(1_600, alive=["c"])
    assert driven.view() == {"b": "dead", "c": "alive"}


def test_an_answer_under_another_name_is_not_heard() -> None:
    driven = three()
    driven.respond(asked_helper(driven), PingReqAck(sender=member("a"), reached=True))
    assert driven.view() == {"b": "suspect", "c": "alive"}
    outcome, effects = driven.ask(PingReq(sender=member("c"), target="b", timeout_ms=300), "c")
    assert isinstance(outcome, Deferred)
    (answer,) = of(Answer, driven.respond(calls(Ping, effects)[-1], driven.ack("a")))
    assert getattr(answer.outcome, "reached", None) is False
    assert driven.view() == {"b": "suspect", "c": "alive"}
