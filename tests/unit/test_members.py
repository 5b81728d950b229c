"""What is known of other nodes: the order of states, the table, and what becomes of what is said."""

from collections.abc import Callable

import pytest

from kvs.cluster.members import Table, merge
from kvs.cluster.membership_events import (
    Effect,
    MemberDown,
    MemberGone,
    MembershipSettings,
    MemberUp,
    Remove,
    Save,
)
from kvs.cluster.messages import Join, MemberList, MemberState, Persisted, Ping, Rumour, Status
from kvs.cluster.time_of import Now
from kvs.errors import BadRequest, KvsError, Unavailable
from kvs.limits import CHECK_PINGS, CHECKS_AGAIN, MEMBERS_MAX, MEMBERS_SAVE_DELAY_MS
from tests.members import JOINED_MS, UNIX_MS, Driven, calls, member, of, pings, reports, rumour

ALIVE, SUSPECT, DEAD, LEFT, REMOVED = Status
DAY_MS = 24 * 3_600_000

# --- the order ---


@pytest.mark.parametrize(
    ("loser", "winner"),
    [
        ((5, ALIVE), (5, SUSPECT)),
        ((5, SUSPECT), (5, DEAD)),
        ((5, DEAD), (5, LEFT)),
        ((5, LEFT), (5, REMOVED)),
        ((5, SUSPECT), (6, ALIVE)),
        ((5, DEAD), (6, ALIVE)),
        ((5, LEFT), (6, ALIVE)),
        ((5, REMOVED), (6, ALIVE)),
        ((6, ALIVE), (6, DEAD)),
        ((4, DEAD), (5, SUSPECT)),
    ],
)
def test_the_greater_state_wins(loser: tuple[int, Status], winner: tuple[int, Status]) -> None:
    a, b = member("b", *loser), member("b", *winner)
    assert merge(a, b) == merge(b, a) == b


@pytest.mark.parametrize(("a", "b", "together"), [(5, 7, 5), (0, 7, 7), (7, 0, 7), (0, 0, 0)])
def test_the_earlier_joined_timestamp_wins_whoever_wins_otherwise(a: int, b: int, together: int) -> None:
    merged = merge(member("b", 1, joined=a), member("b", 2, joined=b))
    assert (merged.incarnation, merged.joined_timestamp) == (2, together)


def test_the_last_time_it_was_seen_and_a_known_instance_win() -> None:
    old = MemberState(id="b", address="b.example:1", last_seen=9, incarnation=1, instance_id="x")
    new = MemberState(id="b", address="b.example:2", last_seen=5, incarnation=2)
    assert merge(old, new) == MemberState(
        id="b", address="b.example:2", last_seen=9, incarnation=2, instance_id="x", joined_timestamp=0
    )


# --- whom to believe ---


@pytest.mark.parametrize(
    ("address", "host", "listed"),
    [
        ("127.0.0.1:8081", "127.0.0.1", True),
        ("127.0.0.1:8081", "::1", True),
        ("127.0.0.1:8081", "10.0.0.9", False),
        ("localhost:8081", "10.0.0.9", False),
        ("[::1]:8081", "10.0.0.9", False),
        ("10.0.0.9:8081", "127.0.0.1", True),
        ("10.0.0.9:8081", "10.0.0.9", True),
        ("nonsense", "10.0.0.9", False),
    ],
)
def test_loopback_is_believed_from_this_host_only(address: str, host: str, *, listed: bool) -> None:
    driven = Driven()
    outcome, _ = driven.ask(Ping(sender=member("b", address=address), to="a"), "b", host)
    assert (driven.view() == {"b": "alive"}) == listed
    assert listed or (isinstance(outcome, BadRequest) and outcome.code == "invalid_address")


def test_loopback_told_by_a_far_peer_is_not_even_tried() -> None:
    driven = Driven()
    driven.meet(member("b"))
    told = (member("c", address="127.0.0.1:1"), member("d", address="localhost:1"), member("e", address="x/y:1"))
    _, effects = driven.ask(MemberList(told), "b")
    assert pings(effects) == []


# --- a node's own word ---


def held(driven: Driven, state: MemberState) -> None:
    """Make it hold this of b, whatever it takes."""
    driven.meet(member("c"))
    driven.meet(member("b", state.incarnation))
    if state.status is REMOVED:
        driven.handle(Remove("b"))
    elif state.status is DEAD:
        for status in (SUSPECT, DEAD):
            claim = rumour("b", state.incarnation, status, accuser="c")
            driven.ask(Ping(sender=member("c"), to="a", rumours=(claim,)), "c")
    elif state.status is not ALIVE:
        claim = rumour("b", state.incarnation, state.status, accuser="c")
        driven.ask(Ping(sender=member("c"), to="a", rumours=(claim,)), "c")
    driven.effects.clear()


OWN_WORDS: list[tuple[Status, int, str | None]] = [
    # held at incarnation 10, the word's incarnation, how it is listed then
    (ALIVE, 9, "alive"),
    (ALIVE, 10, "alive"),
    (ALIVE, 11, "alive"),
    (SUSPECT, 10, "suspect"),
    (SUSPECT, 11, "alive"),
    (DEAD, 9, "dead"),
    (DEAD, 10, "dead"),
    (DEAD, 11, "alive"),
    (LEFT, 10, "left"),
    (LEFT, 11, "alive"),
    (REMOVED, 10, None),
    (REMOVED, 11, "alive"),
]


@pytest.mark.parametrize(("status", "incarnation", "listed"), OWN_WORDS)
def test_own_words(status: Status, incarnation: int, listed: str | None) -> None:
    driven = Driven()
    held(driven, member("b", 10, status))
    driven.meet(member("b", incarnation))
    assert driven.view().get("b") == listed


@pytest.mark.parametrize(("status", "incarnation", "listed"), OWN_WORDS)
def test_whoever_is_not_taken_at_its_word_is_told_what_is_held(
    status: Status, incarnation: int, listed: str | None
) -> None:
    driven = Driven()
    held(driven, member("b", 10, status))
    ack, _ = driven.ask(Ping(sender=member("b", incarnation), to="a"), "b")
    assert not isinstance(ack, KvsError)
    rated = getattr(ack, "rated", None)
    assert (rated is None) == (listed == "alive" and incarnation >= 10)
    assert rated is None or (rated.incarnation, rated.status) == (10, status)


def test_a_newcomer_is_listed_by_its_own_word() -> None:
    driven = Driven()
    driven.meet(member("b"))
    assert driven.view() == {"b": "alive"}
    assert [up.member.id for up in of(MemberUp, driven.effects)] == ["b"]


def test_a_member_that_moved_is_up_again_at_its_new_address() -> None:
    driven = Driven()
    driven.meet(member("b"))
    _, effects = driven.ask(Ping(sender=member("b", 11, address="new.example:1"), to="a"), "b")
    (question,) = calls(Ping, effects)
    assert question.address == "b.example:8080"
    effects = driven.fail(question, refused=True)
    assert [up.member.address for up in of(MemberUp, effects)] == ["new.example:1"]
    assert of(MemberDown, effects) == []


# --- what one says of another ---


def tell(driven: Driven, *claims: Rumour) -> list[str]:
    """Whom it pings after c said this."""
    _, effects = driven.ask(Ping(sender=member("c"), to="a", rumours=claims), "c")
    return pings(effects)


@pytest.mark.parametrize("status", [ALIVE, SUSPECT])
def test_an_unknown_node_is_listed_only_when_it_answers(status: Status) -> None:
    driven = Driven()
    driven.meet(member("c"))
    assert tell(driven, rumour("b", 10, status, accuser="c")) == ["b"]
    assert "b" not in driven.view()
    (check,) = [call for call in calls(Ping, driven.effects) if call.message.to == "b"]  # type: ignore[union-attr]
    driven.respond(check, driven.ack("b"))
    assert driven.view()["b"] == "alive"


def test_an_unknown_node_that_is_silent_is_not_listed_and_not_asked_for_ever() -> None:
    driven = Driven()
    driven.meet(member("c"))
    tell(driven, rumour("b"))
    driven.run(2_000, alive=["c"])
    assert pings(driven.effects).count("b") == CHECK_PINGS
    assert tell(driven, rumour("b")) == []
    assert tell(driven, rumour("b", 11)) == ["b"], "a new incarnation is worth a new try"
    driven.run(60_000, alive=["c"])
    asked = pings(driven.effects).count("b")
    assert asked == CHECK_PINGS + (1 + CHECKS_AGAIN) * CHECK_PINGS
    driven.run(60_000, alive=["c"])
    assert pings(driven.effects).count("b") == asked
    assert tell(driven, rumour("b", 11)) == ["b"], "and so is the old one, after a while"
    assert "b" not in driven.view()


def test_an_unknown_node_that_can_be_reached_only_later_is_found_without_another_word() -> None:
    """As when several start at once: the first to hear of each other may not listen yet."""
    driven = Driven()
    driven.meet(member("c"))
    tell(driven, rumour("b"))
    driven.run(2_000, alive=["c"])
    assert "b" not in driven.view()
    driven.run(2_000, alive=["b", "c"])
    assert driven.view()["b"] == "alive"


@pytest.mark.parametrize("status", [DEAD, LEFT])
def test_an_unknown_node_that_is_gone_is_remembered_and_never_listed(status: Status) -> None:
    driven = Driven()
    driven.meet(member("c"))
    assert tell(driven, rumour("b", 10, status)) == []
    assert driven.view() == {"c": "alive"}
    assert driven.remembered() == {"b": str(status), "c": "alive"}


def test_of_those_long_gone_nobody_reminds_the_others() -> None:
    """Those who forgot it would hear of it again from those who have not yet, and so on for ever."""
    driven = Driven()
    driven.meet(member("c"))
    long_ago = UNIX_MS - driven.settings.retention_ms // 2 - 1
    tell(driven, rumour("b", 10, DEAD, seen=long_ago))
    assert driven.remembered() == {"c": "alive"}


def test_an_unknown_node_that_was_removed_stays_out_until_it_raises_its_incarnation() -> None:
    driven = Driven()
    driven.meet(member("c"))
    tell(driven, rumour("b", 10, REMOVED))
    assert "b" not in driven.remembered()
    assert tell(driven, rumour("b", 10)) == []
    driven.meet(member("b", 10))
    assert "b" not in driven.view()
    driven.meet(member("b", 11))
    assert driven.view()["b"] == "alive"


RUMOURS: list[tuple[Status, int, Status, str]] = [
    # held at incarnation 10, the rumour's incarnation and status, how it is listed then
    (ALIVE, 10, SUSPECT, "suspect"),
    (ALIVE, 9, DEAD, "alive"),
    (ALIVE, 10, DEAD, "suspect"),  # not even suspected before
    (ALIVE, 11, DEAD, "suspect"),
    (SUSPECT, 10, DEAD, "dead"),
    (SUSPECT, 11, ALIVE, "alive"),
    (SUSPECT, 10, ALIVE, "suspect"),
    (DEAD, 10, ALIVE, "dead"),
    (DEAD, 10, SUSPECT, "dead"),
    (DEAD, 11, ALIVE, "alive"),
    (DEAD, 11, SUSPECT, "suspect"),
    (ALIVE, 10, LEFT, "left"),
    (DEAD, 10, LEFT, "left"),
    (LEFT, 10, DEAD, "left"),
    (LEFT, 10, ALIVE, "left"),
    (LEFT, 11, ALIVE, "alive"),
]


@pytest.mark.parametrize(("status", "incarnation", "told", "listed"), RUMOURS)
def test_rumours_about_members(status: Status, incarnation: int, told: Status, listed: str) -> None:
    driven = Driven()
    held(driven, member("b", 10, status))
    tell(driven, rumour("b", incarnation, told, accuser="c"))
    assert driven.view()["b"] == listed


@pytest.mark.parametrize(
    ("status", "told", "listed"),
    [(ALIVE, DEAD, "alive"), (SUSPECT, DEAD, "suspect"), (DEAD, LEFT, "left"), (ALIVE, LEFT, "left")],
)
def test_the_end_of_another_process_under_the_same_id(status: Status, told: Status, listed: str) -> None:
    driven = Driven()
    held(driven, member("b", 10, status))
    driven.ask(MemberList((member("c"), member("b", 20, told, address="new.example:1", instance="other"))), "c")
    assert driven.view()["b"] == listed


def test_a_death_in_a_list_is_an_accusation_even_of_a_suspect() -> None:
    driven = Driven()
    held(driven, member("b", 10, SUSPECT))
    driven.ask(MemberList((member("c"), member("b", 10, DEAD))), "c")
    assert driven.view()["b"] == "suspect"


def test_a_rumour_of_a_removed_node_is_no_way_back() -> None:
    driven = Driven()
    held(driven, member("b", 10, REMOVED))
    assert tell(driven, rumour("b", 10)) == []
    assert tell(driven, rumour("b", 11)) == ["b"], "a higher one can only come from the node: it is asked"
    assert "b" not in driven.view()


def test_the_earlier_joined_timestamp_is_learnt_from_anybody() -> None:
    driven = Driven()
    driven.meet(member("b", joined=JOINED_MS), member("c"))
    driven.ask(MemberList((member("c"), member("b", 3, joined=JOINED_MS - 5))), "c")
    driven.meet(member("b", 11, joined=JOINED_MS))
    assert [m.joined_timestamp for m in driven.core.peers() if m.id == "b"] == [JOINED_MS - 5]


def test_nobody_is_seen_in_the_future() -> None:
    driven = Driven()
    driven.meet(member("b", seen=UNIX_MS + DAY_MS), member("c"))
    driven.ask(MemberList((member("c"), member("b", seen=UNIX_MS + DAY_MS))), "c")
    assert max(m.last_seen for m in driven.core.peers()) == UNIX_MS


# --- what this node tells ---


def test_the_public_list_has_this_node_and_is_sorted() -> None:
    driven = Driven()
    driven.meet(member("c"), member("b"))
    listed = driven.core.members(driven.now)
    assert [m.id for m in listed] == ["a", "b", "c"]
    assert (listed[0].status, listed[0].last_seen, listed[0].joined_timestamp) == ("alive", UNIX_MS, JOINED_MS)


def test_peers_are_told_of_those_that_are_gone_and_removed_but_not_of_the_unconfirmed() -> None:
    stored = Persisted(members=(member("u"), member("d", status=DEAD), member("r", status=REMOVED)))
    driven = Driven(stored=stored)
    driven.meet(member("b"))
    assert {m.id: str(m.status) for m in driven.told()} == {"a": "alive", "b": "alive", "d": "dead", "r": "removed"}


# --- silence, and being forgotten ---


def dead_b(retention_ms: int = 10 * DAY_MS) -> Driven:
    driven = Driven(settings=MembershipSettings(retention_ms=retention_ms))
    held(driven, member("b", 10, DEAD))
    return driven


def test_a_dead_member_leaves_the_list_and_stays_remembered() -> None:
    driven = dead_b()
    driven.run(599_000, alive=["c"])
    assert driven.view() == {"b": "dead", "c": "alive"}
    effects = driven.run(2_000, alive=["c"])
    assert driven.view() == {"c": "alive"}
    assert [gone.node_id for gone in of(MemberGone, effects)] == ["b"]
    assert driven.remembered() == {"b": "dead", "c": "alive"}


def test_who_was_silent_for_the_retention_is_forgotten() -> None:
    driven = dead_b(retention_ms=3 * DAY_MS)
    table = driven.core._table
    driven.run(700_000, alive=["c"])
    assert table.forget(driven.now) == []
    driven.now = Now(driven.now.mono_ms + 3 * DAY_MS, driven.now.unix_ms + 3 * DAY_MS)
    assert table.forget(driven.now) == ["b"]


def test_after_a_long_night_nobody_is_forgotten_before_it_was_tried_for_a_day() -> None:
    old = member("b", seen=UNIX_MS - 300 * DAY_MS)
    table = Table((old,), 10 * DAY_MS, Now(5, UNIX_MS))
    assert table.forget(Now(5 + DAY_MS, UNIX_MS + DAY_MS)) == []
    assert table.forget(Now(6 + DAY_MS, UNIX_MS + DAY_MS)) == ["b"]


def test_a_wall_clock_that_jumps_alone_makes_nobody_forgotten() -> None:
    driven = dead_b()
    driven.run(700_000, alive=["c"])
    driven.now = driven.now._replace(unix_ms=driven.now.unix_ms + 1_000 * DAY_MS)
    assert driven.core._table.forget(driven.now) == []


def saves(effects: list[Effect]) -> list[list[str]]:
    return [[m.id for m in effect.state.members] for effect in of(Save, effects)]


def test_the_first_other_node_is_on_the_disk_before_it_is_up() -> None:
    """A node that was filled, and knows nobody when it is back, would raise the floor as if all knew what it knows."""
    driven = Driven()
    effects = driven.meet(member("b"))
    assert [type(effect) for effect in effects if isinstance(effect, Save | MemberUp)] == [Save, MemberUp]
    assert saves(effects) == [["b"]]
    assert saves(driven.meet(member("c"))) == [], "they are saved together"
    assert saves(driven.run(MEMBERS_SAVE_DELAY_MS, alive=["b", "c"])) == [["b", "c"]]


def test_one_that_was_removed_is_no_other_node() -> None:
    driven = Driven(stored=Persisted(members=(member("b", 5, REMOVED),)))
    assert saves(driven.meet(member("c"))) == [["b", "c"]]
    assert saves(Driven(stored=Persisted(members=(member("b"),))).meet(member("c"))) == []


def test_removing_a_member_tells_the_others_and_saves_first() -> None:
    driven = dead_b()
    effects = driven.handle(Remove("b"))
    assert isinstance(effects[0], Save)
    assert [(m.id, str(m.status)) for m in effects[0].state.members if m.id == "b"] == [("b", "removed")]
    assert driven.view() == driven.remembered() == {"c": "alive"}
    ack, _ = driven.ask(Ping(sender=member("c"), to="a"), "c")
    assert [(r.id, str(r.status)) for r in getattr(ack, "rumours", ())] == [("b", "removed")]


def test_removing_a_living_member_takes_it_down_and_it_comes_back_by_its_own_word() -> None:
    driven = Driven()
    driven.meet(member("b"))
    effects = driven.handle(Remove("b"))
    assert [type(e) for e in effects if isinstance(e, MemberDown | MemberGone)] == [MemberDown, MemberGone]
    ack, _ = driven.ask(Ping(sender=member("b"), to="a"), "b")
    assert getattr(ack, "rated", member()).status is REMOVED
    driven.meet(member("b", 11))
    assert driven.view() == {"b": "alive"}


@pytest.mark.parametrize("node_id", ["a", "nobody"])
def test_who_is_not_there_cannot_be_removed(node_id: str) -> None:
    driven = Driven()
    assert reports(driven.handle(Remove(node_id))) == ["There is no such member to remove"]
    assert len(driven.told()) == 1


# --- restart ---


def test_after_a_restart_all_that_were_known_are_asked_and_listed_when_they_answer() -> None:
    stored = Persisted(members=(member("b"), member("c", status=SUSPECT), member("d", status=DEAD)))
    driven = Driven(stored=stored)
    assert set(pings(driven.effects)) >= {"b", "c"}
    assert driven.view() == {}
    first = next(call for call in calls(Ping, driven.effects) if getattr(call.message, "to", "") == "b")
    driven.respond(first, driven.ack("b", 10))
    assert driven.view() == {"b": "alive"}
    assert set(driven.remembered()) == {"b", "c", "d"}


def test_what_is_saved_is_read_back() -> None:
    driven = Driven()
    driven.meet(member("b"), member("c"))
    (*_, save) = of(Save, driven.run(2_000, alive=["b", "c"]))
    again = Driven(stored=save.state, unix_ms=UNIX_MS - DAY_MS)
    assert again.incarnation == driven.incarnation + 1
    assert set(again.remembered()) == {"b", "c"}


def test_the_earliest_joined_timestamp_of_this_node_survives() -> None:
    driven = Driven(stored=Persisted(incarnation=5, joined_timestamp=JOINED_MS - 7))
    assert driven.core.me(driven.now).joined_timestamp == JOINED_MS - 7


# --- bounds ---


def numbered(count: int) -> list[MemberState]:
    return [member(f"m{number:04}") for number in range(count)]


def test_no_more_members_than_there_is_room_for() -> None:
    driven = Driven()
    driven.meet(*numbered(MEMBERS_MAX - 1))
    outcome, _ = driven.ask(Ping(sender=member("late"), to="a"), "late")
    assert isinstance(outcome, Unavailable)
    assert outcome.code == "member_limit"
    assert len(driven.told()) == MEMBERS_MAX
    driven.handle(Remove("m0007"))
    driven.meet(member("late"))
    assert driven.view()["late"] == "alive"


def test_a_flood_of_rumours_fills_neither_table_nor_network() -> None:
    driven = Driven()
    driven.meet(member("c"))
    asked = 0
    for batch in range(100):
        claims = tuple(rumour(f"x{batch}-{number}") for number in range(20))
        asked += len(tell(driven, *claims))
    assert asked == 16
    assert len(driven.core._hearing.checks._waiting) <= MEMBERS_MAX
    assert driven.remembered() == {"c": "alive"}


@pytest.mark.parametrize(
    "change",
    [
        lambda: Join(id="b", address="b.example:1", joined_timestamp=0),
        lambda: Ping(sender=member("b"), to="a"),
    ],
)
def test_who_speaks_for_another_is_refused(change: Callable[[], Join | Ping]) -> None:
    driven = Driven()
    outcome, _ = driven.ask(change(), "someone-else")
    assert isinstance(outcome, BadRequest)
    assert outcome.code == "wrong_sender"
    assert driven.view() == {}
