"""How a node defends itself against what others say, and which of two nodes has an id."""

import pytest

from kvs.cluster.membership_events import (
    Answer,
    Call,
    CloneFound,
    Deferred,
    Effect,
    Heard,
    Introduced,
    Leaving,
    MemberDown,
    MemberGone,
    MemberUp,
    Save,
)
from kvs.cluster.messages import Join, Leave, MemberList, MemberState, Persisted, Ping, PingAck, Refused, Status
from kvs.errors import Conflict
from kvs.limits import INCARNATION_CLAIMED_MAX, MEMBER_NUMBER_MAX
from tests.members import JOINED_MS, UNIX_MS, Driven, calls, join, member, of, ping_messages, reports, rumour

ALIVE, SUSPECT, DEAD, LEFT, REMOVED = Status

# --- defending oneself ---


@pytest.mark.parametrize(
    ("status", "ahead", "raised"),
    [
        # of this node: how others rate it, how far their incarnation is ahead, how far it goes up
        (ALIVE, 0, 0),
        (ALIVE, -1, 0),
        (SUSPECT, -1, 0),
        (DEAD, -1, 0),
        (SUSPECT, 0, 1),
        (DEAD, 0, 1),
        (LEFT, 0, 1),
        (REMOVED, 0, 1),
        (SUSPECT, 7, 8),
        (DEAD, 7, 8),
        (ALIVE, 7, 8),  # it forgot what it had said
    ],
)
def test_claims_about_this_node(status: Status, ahead: int, raised: int) -> None:
    driven = Driven()
    driven.meet(member("b"))
    before = driven.incarnation
    claim = rumour("a", before + ahead, status)
    driven.ask(Ping(sender=member("b"), to="a", rumours=(claim,)), "b")
    assert driven.incarnation == before + raised


@pytest.mark.parametrize("way", ["ping", "ack", "rumour", "list"])
def test_a_refutation_is_saved_first_and_told_at_once(way: str) -> None:
    driven = Driven()
    driven.meet(member("b"))
    claim = rumour("a", driven.incarnation, SUSPECT)
    effects: list[Effect]
    if way == "ack":
        call_id = ping_until(driven, "b")
        effects = driven.respond(call_id, PingAck(sender=member("b"), rated=claim))
    elif way == "list":
        _, effects = driven.ask(MemberList((member("b"), claim)), "b")
    else:
        fields = {"rated": claim} if way == "ping" else {"rumours": (claim,)}
        answer, effects = driven.ask(Ping(sender=member("b"), to="a", **fields), "b")
        assert isinstance(answer, PingAck)
        assert answer.sender.incarnation == claim.incarnation + 1
    assert isinstance(effects[0], Save)
    assert effects[0].state.incarnation == claim.incarnation + 1
    assert [ping.sender.incarnation for ping in ping_messages(effects)] == [claim.incarnation + 1]
    assert driven.core.health == (1 if way == "ack" else 2), "an answer to a probe is a good sign"


def ping_until(driven: Driven, target: str) -> Call:
    while True:
        found = [call for call in calls(Ping, driven.run(500)) if getattr(call.message, "to", "") == target]
        if found:
            return found[0]


@pytest.mark.parametrize("above", [INCARNATION_CLAIMED_MAX + 1, MEMBER_NUMBER_MAX])
def test_what_nobody_may_claim_of_this_node_is_reported_and_not_answered(above: int) -> None:
    """An answer that cannot go above the claim would be told of it again, and answer again, as fast as messages go."""
    driven = Driven()
    driven.meet(member("b"))
    before = driven.incarnation
    _, effects = driven.ask(MemberList((member("b"), member("a", above, DEAD))), "b")
    assert driven.incarnation == before
    assert reports(effects) == ["A claim about this node cannot be"]
    assert ping_messages(effects) == []


def test_the_highest_claim_is_outbid() -> None:
    driven = Driven()
    driven.meet(member("b"))
    for claimed in (INCARNATION_CLAIMED_MAX, INCARNATION_CLAIMED_MAX + 1):
        driven.ask(MemberList((member("b"), member("a", claimed, DEAD))), "b")
        assert driven.incarnation == claimed + 1


@pytest.mark.parametrize("status", [DEAD, LEFT, REMOVED, SUSPECT])
def test_a_node_is_not_lost_for_what_nobody_may_claim(status: Status) -> None:
    driven = Driven()
    driven.meet(member("b"))
    driven.meet(member("c"))
    driven.ask(MemberList((member("b"), member("c", MEMBER_NUMBER_MAX, status))), "b")
    driven.ask(Leave(id="c", incarnation=MEMBER_NUMBER_MAX), "b")
    again = member("c").incarnation + 1
    driven.ask(Ping(sender=member("c", again), to="a"), "c")
    assert [(c.status, c.incarnation) for c in driven.core.peers() if c.id == "c"] == [(ALIVE, again)]


@pytest.mark.parametrize(
    ("stored", "unix_ms", "expected"),
    [(0, UNIX_MS, UNIX_MS), (UNIX_MS + 5, UNIX_MS, UNIX_MS + 6), (UNIX_MS - 5, UNIX_MS, UNIX_MS), (7, -5, 8)],
)
def test_a_node_starts_above_its_past_and_saves_that_before_it_speaks(stored: int, unix_ms: int, expected: int) -> None:
    driven = Driven(stored=Persisted(incarnation=stored), unix_ms=unix_ms, seeds=["s:1"])
    assert driven.incarnation == expected
    assert isinstance(driven.effects[0], Save)
    assert driven.effects[0].state.incarnation == expected
    assert calls(Join, driven.effects)


def test_an_earlier_joined_timestamp_of_this_node_is_taken_over() -> None:
    driven = Driven()
    driven.meet(member("b"))
    past = member("a", 5, joined=JOINED_MS - 9)
    driven.ask(MemberList((member("b"), past)), "b")
    assert driven.core.me(driven.now).joined_timestamp == JOINED_MS - 9
    other_disk = member("a", 5, joined=JOINED_MS - 99, instance="another")
    driven.ask(MemberList((member("b"), other_disk)), "b")
    assert driven.core.me(driven.now).joined_timestamp == JOINED_MS - 9


@pytest.mark.parametrize("known", [False, True])
def test_who_has_left_tells_no_time(known: bool) -> None:
    """It would count for this node's clock for ever: nobody hears of it again, nor that it is gone."""
    driven = Driven()
    driven.meet(member("b"))
    if known:
        driven.meet(member("c"))
    _, effects = driven.ask(Ping(sender=member("c", status=LEFT, seen=UNIX_MS + 10**9), to="a"), "c")
    assert [heard.node_id for heard in of(Heard, effects)] == []
    _, effects = driven.ask(Ping(sender=member("b"), to="a"), "b")
    assert [heard.node_id for heard in of(Heard, effects)] == ["b"]


# --- one id, two nodes ---


def contested() -> tuple[Driven, Call, int]:
    """b lives at its address; another node with a disk of its own joins as b. The question to b, and the ticket."""
    driven = Driven()
    driven.meet(member("b"))
    outcome, effects = driven.ask(join("b", 20, address="new.example:1", instance="other", joined=JOINED_MS + 5))
    assert isinstance(outcome, Deferred)
    (question,) = calls(Ping, effects)
    assert question.address == "b.example:8080"
    return driven, question, outcome.ticket


def test_a_clone_is_refused_while_the_other_answers() -> None:
    driven, question, ticket = contested()
    effects = driven.respond(question, driven.ack("b"))
    (answer,) = of(Answer, effects)
    assert answer.ticket == ticket
    assert isinstance(answer.outcome, Conflict)
    assert answer.outcome.code == "node_id_taken"
    assert [m.address for m in driven.core.peers()] == ["b.example:8080"]
    again, effects = driven.ask(join("b", 20, address="new.example:1", instance="other"))
    assert isinstance(again, Conflict)
    assert not of(Call, effects), "the holder is not asked again for a while"


def test_a_replaced_node_takes_over_when_the_old_one_is_silent() -> None:
    driven, question, ticket = contested()
    effects = driven.fail(question)
    (second,) = calls(Ping, effects)
    effects = driven.fail(second)
    (answer,) = of(Answer, effects)
    assert answer.ticket == ticket
    assert isinstance(answer.outcome, MemberList)
    assert [type(e) for e in effects if isinstance(e, MemberDown | MemberGone | MemberUp)] == [
        MemberDown,
        MemberGone,
        MemberUp,
    ]
    (b,) = driven.core.peers()
    assert (b.address, b.instance_id, b.joined_timestamp) == ("new.example:1", "other", JOINED_MS + 5)


@pytest.mark.parametrize("end", ["refused", "another node", "itself"])
def test_nobody_there_or_another_or_itself_is_no_hindrance(end: str) -> None:
    driven, question, _ = contested()
    if end == "refused":
        driven.fail(question, refused=True)
    elif end == "another node":
        driven.respond(question, driven.ack("d"))
    else:
        driven.respond(question, PingAck(sender=member("b", 20, address="new.example:1", instance="other")))
    assert [m.address for m in driven.core.peers()] == ["new.example:1"]


def test_a_contest_is_not_decided_by_a_stall() -> None:
    driven, question, _ = contested()
    driven.later(30_000)
    effects = driven.fail(question)
    assert calls(Ping, effects), "asked again"
    assert not of(Answer, effects)


def test_while_an_id_is_contested_the_newcomer_is_not_listened_to() -> None:
    driven = Driven()
    driven.meet(member("b"), member("c"))
    clone = member("b", 20, address="new.example:1", instance="other")
    driven.ask(Ping(sender=clone, to="a", rumours=(rumour("c", 10, SUSPECT, accuser="b"),)), "b")
    assert driven.view() == {"b": "alive", "c": "alive"}


def test_a_replaced_node_whose_clock_is_behind_is_told_and_comes_back_above() -> None:
    driven = Driven()
    driven.meet(member("b", 50))
    answer, _ = driven.ask(join("b", 20, instance="other"))
    assert isinstance(answer, MemberList)
    assert [(m.incarnation, m.instance_id) for m in answer.members if m.id == "b"] == [(50, "disk-of-b")]


def self_check(claim: MemberState) -> tuple[Driven, Call]:
    """Another node is said to be a: the question to it."""
    driven = Driven()
    driven.meet(member("b"))
    _, effects = driven.ask(MemberList((member("b"), claim)), "b")
    (question,) = [call for call in calls(Ping, effects) if getattr(call.message, "to", "") == "a"]
    assert question.address == claim.address
    return driven, question


OTHER_SELF = member("a", UNIX_MS + 50, address="other.example:1")


def test_a_living_clone_of_this_node_is_an_alarm_and_no_war() -> None:
    driven, question = self_check(OTHER_SELF)
    before = driven.incarnation
    effects = driven.respond(question, PingAck(sender=OTHER_SELF))
    assert [found.is_refused for found in of(CloneFound, effects)] == [False]
    assert driven.incarnation == before


@pytest.mark.parametrize("end", ["silent", "another node", "itself"])
def test_a_former_life_elsewhere_is_refuted(end: str) -> None:
    driven, question = self_check(OTHER_SELF)
    if end == "silent":
        driven.fail(question)
    elif end == "another node":
        driven.respond(question, driven.ack("d"))
    else:
        driven.respond(question, PingAck(sender=driven.core.me(driven.now)))
    assert driven.incarnation == OTHER_SELF.incarnation + 1
    assert not of(CloneFound, driven.effects)


@pytest.mark.parametrize(
    ("speaker", "code", "alarms"),
    [
        (member("a", UNIX_MS, address="a.example:8080"), "this_node", 0),
        (member("a", 5, address="a.example:8080"), "this_node", 0),
        (member("a", UNIX_MS, address="other.example:1"), "node_id_taken", 1),
        (member("a", 5, instance="other"), "node_id_taken", 1),
    ],
)
def test_who_speaks_under_this_nodes_id_is_refused(speaker: MemberState, code: str, alarms: int) -> None:
    driven = Driven()
    for request in (Ping(sender=speaker, to="a"), MemberList((speaker,))):
        outcome, _ = driven.ask(request, "a")
        assert isinstance(outcome, Conflict)
        assert outcome.code == code
    assert len(of(CloneFound, driven.effects)) == alarms, "said once, not at every message"


def test_a_refused_node_knows_why() -> None:
    driven = Driven(seeds=["s:1"])
    (call,) = calls(Join, driven.effects)
    (found,) = of(CloneFound, driven.respond(call, Refused("node_id_taken", "b has it")))
    assert found.is_refused
    assert "b has it" in found.detail


# --- who of two that have one id is the one to stop ---


def newcomer() -> tuple[Driven, Call]:
    """One that has just started, and its question to a seed."""
    driven = Driven(seeds=["s:1"])
    (call,) = calls(Join, driven.effects)
    assert not of(Introduced, driven.effects)
    return driven, call


def test_a_node_is_introduced_when_those_that_it_asked_have_answered() -> None:
    assert of(Introduced, Driven().effects), "there is nobody to ask"
    driven, call = newcomer()
    assert of(Introduced, driven.fail(call))
    driven, call = newcomer()
    assert of(Introduced, driven.respond(call, MemberList((member("b"),))))


def test_a_node_that_is_listed_elsewhere_is_introduced_when_it_knows_who_is_there() -> None:
    driven, call = newcomer()
    effects = driven.respond(call, MemberList((member("b"), OTHER_SELF)))
    assert not of(Introduced, effects)
    (question,) = [ping for ping in calls(Ping, effects) if ping.address == OTHER_SELF.address]
    effects = driven.respond(question, Refused("node_id_taken", "it lives"))
    assert [found.is_refused for found in of(CloneFound, effects)] == [True]
    assert of(Introduced, effects)


@pytest.mark.parametrize(
    ("incarnation", "code", "is_refused"),
    [(UNIX_MS - 1, "clone_stops", True), (UNIX_MS + 1, "node_id_taken", False)],
    ids=["the other was first", "this one was first"],
)
def test_of_two_that_start_the_later_one_stops(incarnation: int, code: str, is_refused: bool) -> None:
    driven, call = newcomer()
    outcome, effects = driven.ask(join("a", incarnation, address="other.example:1"), "a")
    assert isinstance(outcome, Conflict)
    assert outcome.code == code
    assert [found.is_refused for found in of(CloneFound, effects)] == [is_refused]
    driven.fail(call)
    outcome, _ = driven.ask(join("a", incarnation, address="other.example:1"), "a")
    assert isinstance(outcome, Conflict)
    assert outcome.code == "node_id_taken", "once it is introduced it has its id"


def test_one_that_hears_that_the_other_stops_stays() -> None:
    driven, call = newcomer()
    (found,) = of(CloneFound, driven.respond(call, Refused("clone_stops", "it was later")))
    assert not found.is_refused


def test_who_lost_a_contest_may_ask_again_once_it_was_started_again() -> None:
    driven, question, _ = contested()
    driven.respond(question, driven.ack("b"))
    again, effects = driven.ask(join("b", 21, address="new.example:1", instance="other"))
    assert isinstance(again, Deferred)
    assert calls(Ping, effects)


def test_the_holder_of_an_id_is_told_who_wanted_it() -> None:
    driven, question, _ = contested()
    effects = driven.respond(question, driven.ack("b"))
    (told,) = [ping for ping in ping_messages(effects) if ping.rated is not None]
    assert (told.to, told.rated and told.rated.address) == ("b", "new.example:1")


def test_one_that_was_refused_says_no_good_bye_in_the_name_of_the_other() -> None:
    driven = Driven(seeds=["s:1"])
    (call,) = calls(Join, driven.effects)
    driven.meet(member("b"))
    driven.respond(call, Refused("node_id_taken", "b has it"))
    assert not of(Call, driven.handle(Leaving()))
    assert driven.core.wake_at_ms is None


def test_a_ping_for_another_is_refused() -> None:
    outcome, _ = Driven().ask(Ping(sender=member("b"), to="x"), "b")
    assert isinstance(outcome, Conflict)
    assert outcome.code == "wrong_node"
