"""Filling an empty node: which questions it asks, and what it does when a peer or its own disk fails."""

from collections.abc import Sequence

import pytest

from kvs.cluster.bootstrap import (
    AskRecent,
    Bootstrap,
    BootstrapEffect,
    BootstrapSettings,
    Filled,
    FilledPart,
    TakeRecent,
    decode_part,
    encode_part,
)
from kvs.cluster.events import Merge, Remember
from kvs.cluster.exchange import RecentAnswer, RecentRequest
from kvs.errors import BadMessage
from kvs.limits import BOOTSTRAP_RETRY_MS, BOOTSTRAP_TOGETHER_MS
from kvs.storage.codec import encode_record
from kvs.storage.keyspace import data_key
from kvs.storage.state import FILLING_ROW
from tests.records import record

HOUR_MS = 3_600_000
SETTINGS = BootstrapSettings(max_age_ms=HOUR_MS, patience_ms=30_000, fetch_delay_ms=5)


def filling(*peers: str) -> tuple[Bootstrap, list[BootstrapEffect]]:
    bootstrap = Bootstrap(SETTINGS, 0, needed=True)
    effects = [effect for peer in peers for effect in bootstrap.up(peer, 2 * HOUR_MS)]
    return bootstrap, effects


def answer(before: bytes, *keys: bytes) -> RecentAnswer:
    return RecentAnswer([(data_key(key), encode_record(record(payload=b"1"))) for key in keys], before)


def asks(effects: Sequence[BootstrapEffect]) -> list[tuple[str, bytes, int]]:
    return [(ask.peer, ask.request.before, ask.delay_ms) for ask in effects if isinstance(ask, AskRecent)]


def takes(effects: Sequence[BootstrapEffect]) -> list[list[bytes]]:
    taken = [take.commands for take in effects if isinstance(take, TakeRecent)]
    return [[command.entry[1:] for command in commands if isinstance(command, Merge)] for commands in taken]


def noted(effects: Sequence[BootstrapEffect]) -> list[FilledPart | None]:
    """What a start finds on the disk once the records of these effects are there."""
    rows = [
        command.rows[FILLING_ROW]
        for take in effects
        if isinstance(take, TakeRecent)
        for command in take.commands
        if isinstance(command, Remember)
    ]
    return [decode_part(row) for row in rows]


def test_the_next_answer_is_fetched_while_the_last_is_on_its_way_to_the_disk() -> None:
    bootstrap, effects = filling("a", "b")
    assert effects == [AskRecent("a", RecentRequest(b"", HOUR_MS), 0)]
    effects = bootstrap.answered(answer(b"9", b"x", b"y"))
    assert (takes(effects), asks(effects)) == ([[b"x", b"y"]], [("b", b"9", 5)])
    effects = bootstrap.answered(answer(b"8", b"z"))
    assert (takes(effects), asks(effects)) == ([[b"z"]], []), "two answers wait for the disk: enough"
    assert asks(bootstrap.taken()) == [("a", b"8", 5)]
    assert bootstrap.taken() == [], "that question is under way"
    assert takes(bootstrap.answered(answer(b"", b"w"))) == [[b"w"]]
    assert not bootstrap.is_over
    assert bootstrap.taken() == [Filled("copied", 4)]
    assert bootstrap.is_over


def test_it_ends_only_when_everything_is_on_the_disk() -> None:
    bootstrap, _ = filling("a")
    bootstrap.answered(answer(b"9", b"x"))
    assert asks(bootstrap.answered(answer(b"", b"y"))) == []
    assert bootstrap.taken() == []
    assert bootstrap.taken() == [Filled("copied", 2)]


def test_a_peer_with_nothing_ends_it() -> None:
    bootstrap, _ = filling("a")
    assert bootstrap.answered(answer(b"")) == [Filled("copied", 0)]


def test_an_answer_of_which_nothing_may_be_sent_is_passed_over() -> None:
    bootstrap, _ = filling("a")
    assert asks(bootstrap.answered(answer(b"9"))) == [("a", b"9", 5)]
    assert takes(bootstrap.answered(answer(b"8", b"x"))) == [[b"x"]]
    assert asks(bootstrap.answered(answer(b"7"))) == [], "it is done when the one before it is"
    assert asks(bootstrap.taken()) == [("a", b"7", 5)]
    assert bootstrap.answered(answer(b"")) == [Filled("copied", 1)]


def test_the_end_comes_behind_what_is_on_its_way_to_the_disk() -> None:
    bootstrap, _ = filling("a")
    bootstrap.answered(answer(b"9", b"x"))
    assert bootstrap.answered(answer(b"")) == []
    assert bootstrap.taken() == [Filled("copied", 1)]


def test_what_lands_after_the_node_has_gone_on_alone_changes_nothing() -> None:
    bootstrap, _ = filling("a")
    bootstrap.answered(answer(b"9", b"x"))
    bootstrap.failed(0)
    assert bootstrap.tick(30_000) == [Filled("unfilled", 0)]
    assert bootstrap.taken() == []


def test_a_peer_that_fails_is_asked_again_when_all_others_failed_too() -> None:
    """One that hangs would cost a minute in each turn."""
    bootstrap, _ = filling("a", "b")
    assert asks(bootstrap.failed(0)) == [("b", b"", 5)]
    assert asks(bootstrap.answered(answer(b"9", b"x"))) == [("b", b"9", 5)]
    assert asks(bootstrap.failed(500)) == [("a", b"9", 5)], "nobody is left"
    assert asks(bootstrap.failed(1_000)) == [("b", b"9", BOOTSTRAP_RETRY_MS)], "all have failed: not at once"
    assert bootstrap.tick(30_999) == [], "somebody has answered since the start"
    assert bootstrap.wake_at_ms == 31_000
    assert asks(bootstrap.failed(2_000)) == [("a", b"9", BOOTSTRAP_RETRY_MS)]
    assert bootstrap.wake_at_ms == 31_000, "nobody has answered meanwhile"
    assert takes(bootstrap.answered(answer(b"8", b"y"))) == [[b"y"]]
    assert bootstrap.tick(31_000) == []


def test_a_peer_that_failed_and_comes_up_again_is_asked_again() -> None:
    bootstrap, _ = filling("a", "b")
    bootstrap.failed(0)
    bootstrap.down("a", 100)
    bootstrap.up("a", 2 * HOUR_MS)
    assert asks(bootstrap.answered(answer(b"9", b"x"))) == [("a", b"9", 5)]


def test_a_node_gives_up_on_peers_that_only_fail() -> None:
    bootstrap, _ = filling("a")
    bootstrap.failed(0)
    assert bootstrap.tick(29_999) == []
    assert bootstrap.tick(30_000) == [Filled("unfilled", 0)]
    assert bootstrap.answered(answer(b"9", b"x")) == [], "the question under way has nothing to fill any more"
    assert bootstrap.failed(31_000) == bootstrap.not_taken() == bootstrap.up("b", 2 * HOUR_MS) == []


def test_a_peer_that_is_down_is_asked_no_more() -> None:
    bootstrap, _ = filling("a", "b")
    bootstrap.down("a", 0)
    bootstrap.answered(answer(b"9", b"x"))
    assert asks(bootstrap.failed(500)) == [("b", b"9", BOOTSTRAP_RETRY_MS)]
    bootstrap.down("b", 1_000)
    assert bootstrap.failed(1_500) == []
    assert bootstrap.wake_at_ms == 30_500
    assert bootstrap.taken() == [], "nobody is left who could be asked"
    assert asks(bootstrap.up("c", 2 * HOUR_MS)) == [("c", b"9", 0)], "what was taken is not asked for again"


def test_the_last_answer_of_a_peer_that_goes_down_is_taken() -> None:
    bootstrap, _ = filling("a")
    bootstrap.answered(answer(b"", b"x"))
    bootstrap.down("a", 0)
    assert bootstrap.up("b", 2 * HOUR_MS) == [], "everything was answered"
    assert bootstrap.taken() == [Filled("copied", 1)]


def test_what_the_disk_did_not_take_is_asked_for_again() -> None:
    bootstrap, _ = filling("a")
    bootstrap.answered(answer(b"9", b"x"))
    bootstrap.answered(answer(b"8", b"y"))
    bootstrap.taken()
    assert asks(bootstrap.not_taken()) == [("a", b"9", BOOTSTRAP_RETRY_MS)]
    bootstrap.answered(answer(b"", b"y"))
    assert bootstrap.taken() == [Filled("copied", 2)]


def test_a_disk_that_fails_while_nobody_is_up_is_made_up_for_by_the_next_peer() -> None:
    """The question under way fails too, and counts no more."""
    bootstrap, _ = filling("a")
    assert asks(bootstrap.answered(answer(b"9", b"x"))) == [("a", b"9", 5)]
    bootstrap.down("a", 100)
    assert bootstrap.not_taken() == []
    assert asks(bootstrap.up("a", 2 * HOUR_MS)) == [("a", b"", 0)]


def test_an_answer_that_does_not_go_on_is_refused() -> None:
    bootstrap, _ = filling("a")
    bootstrap.answered(answer(b"9", b"x"))
    with pytest.raises(BadMessage):
        bootstrap.answered(answer(b"9", b"y"))


# --- peers that are being filled themselves ---


def unsettled(*, has_source: bool) -> RecentAnswer:
    return RecentAnswer([], b"", filling=True, has_source=has_source)


def test_what_a_peer_has_that_is_being_filled_is_not_all() -> None:
    bootstrap, _ = filling("a", "b")
    assert asks(bootstrap.answered(answer(b"9", b"x"))) == [("b", b"9", 5)]
    assert asks(bootstrap.met_another(unsettled(has_source=True), 0)) == [("a", b"9", 5)], "the same of somebody else"
    bootstrap.taken()
    assert takes(bootstrap.answered(answer(b"", b"y"))) == [[b"y"]]
    assert bootstrap.taken() == [Filled("copied", 2)]


def test_one_that_somebody_fills_is_waited_for() -> None:
    bootstrap, _ = filling("a")
    assert asks(bootstrap.met_another(unsettled(has_source=True), 0)) == [("a", b"", BOOTSTRAP_RETRY_MS)]
    assert asks(bootstrap.met_another(unsettled(has_source=True), 1_000)) == [("a", b"", BOOTSTRAP_RETRY_MS)]
    assert takes(bootstrap.answered(answer(b"", b"x"))) == [[b"x"]]
    assert bootstrap.taken() == [Filled("copied", 1)]


def test_but_not_for_ever() -> None:
    """Two that were cut off from those who were filling them."""
    bootstrap, _ = filling("a")
    bootstrap.met_another(unsettled(has_source=True), 0)
    bootstrap.met_another(unsettled(has_source=True), 1_000)
    assert bootstrap.tick(29_999) == []
    assert bootstrap.tick(30_000) == [Filled("unfilled", 0)]
    assert bootstrap.met_another(unsettled(has_source=False), 31_000) == []


def test_one_that_was_filled_in_part_waits_for_who_did_that() -> None:
    """Others who know of nobody that was filled do not know all."""
    bootstrap, _ = filling("a", "b")
    bootstrap.answered(answer(b"9", b"x"))
    bootstrap.taken()
    bootstrap.down("a", 0)
    for at_ms in range(1_000, 30_000, 1_000):
        assert asks(bootstrap.met_another(unsettled(has_source=False), at_ms)) == [("b", b"9", BOOTSTRAP_RETRY_MS)]
    again, _ = going_on(FilledPart(2 * HOUR_MS, b"5"), 2 * HOUR_MS)
    assert asks(again.met_another(unsettled(has_source=False), 0)) == [("a", b"", BOOTSTRAP_RETRY_MS)]


def test_nodes_that_start_together_do_not_wait_for_each_other() -> None:
    """Whatever they hold."""
    bootstrap, _ = filling("a", "b")
    assert asks(bootstrap.met_another(unsettled(has_source=False), 0)) == [("b", b"", 5)]
    together = bootstrap.met_another(unsettled(has_source=False), 1)
    assert asks(together) == [("a", b"", BOOTSTRAP_TOGETHER_MS)], "once more"
    assert asks(bootstrap.met_another(unsettled(has_source=False), 200)) == [("b", b"", 5)]
    assert bootstrap.met_another(unsettled(has_source=False), 205) == [Filled("together", 0)]


def test_one_of_them_that_got_something_meanwhile_is_waited_for() -> None:
    bootstrap, _ = filling("a")
    assert asks(bootstrap.met_another(unsettled(has_source=False), 0)) == [("a", b"", BOOTSTRAP_TOGETHER_MS)]
    assert asks(bootstrap.met_another(unsettled(has_source=True), 200)) == [("a", b"", BOOTSTRAP_RETRY_MS)]
    assert takes(bootstrap.answered(answer(b"", b"x"))) == [[b"x"]]


def test_one_that_is_gone_and_back_is_to_be_asked_again() -> None:
    bootstrap, _ = filling("a", "b")
    bootstrap.met_another(unsettled(has_source=False), 0)
    bootstrap.down("a", 1)
    bootstrap.up("a", 2 * HOUR_MS)
    assert asks(bootstrap.met_another(unsettled(has_source=False), 2)) == [("a", b"", BOOTSTRAP_RETRY_MS)], (
        "who knows whom it has met"
    )


def test_a_node_that_nobody_answers_goes_on_alone() -> None:
    bootstrap, _ = filling()
    assert bootstrap.tick(29_999) == []
    assert bootstrap.tick(30_000) == [Filled("alone", 0)]


# --- after a restart ---


def going_on(part: FilledPart | None, unix_ms: int) -> tuple[Bootstrap, list[BootstrapEffect]]:
    bootstrap = Bootstrap(SETTINGS, 0, needed=True, part=part)
    return bootstrap, bootstrap.up("a", unix_ms)


def test_what_is_on_the_disk_is_noted_with_what_comes_next() -> None:
    bootstrap, _ = filling("a")
    assert noted(bootstrap.answered(answer(b"9", b"x"))) == []
    assert noted(bootstrap.answered(answer(b"8", b"y"))) == [], "the first is still on its way"
    bootstrap.taken()
    assert noted(bootstrap.answered(answer(b"7", b"z"))) == [FilledPart(2 * HOUR_MS, b"9")]
    bootstrap.taken()
    bootstrap.taken()
    assert noted(bootstrap.answered(answer(b"", b"w"))) == [FilledPart(2 * HOUR_MS, b"7")]


def test_a_filling_goes_on_where_it_was_with_what_is_newer_first() -> None:
    bootstrap, effects = going_on(FilledPart(2 * HOUR_MS, b"5"), 2 * HOUR_MS + 1_000)
    assert effects == [AskRecent("a", RecentRequest(b"", 2 * HOUR_MS), 0)]
    effects = bootstrap.answered(answer(b"9", b"n1"))
    assert effects[1:] == [AskRecent("a", RecentRequest(b"9", 2 * HOUR_MS), 5)]
    bootstrap.taken()
    effects = bootstrap.answered(answer(b"", b"n2"))
    assert effects[1:] == [AskRecent("a", RecentRequest(b"5", HOUR_MS + 1_000), 5)]
    bootstrap.taken()
    effects = bootstrap.answered(answer(b"4", b"o1"))
    assert noted(effects) == [FilledPart(2 * HOUR_MS + 1_000, b"5")]
    bootstrap.taken()
    bootstrap.answered(answer(b"", b"o2"))
    assert bootstrap.taken() == [Filled("copied", 4)]


def test_one_that_is_interrupted_again_before_it_is_there_goes_on_from_the_same_place() -> None:
    bootstrap, _ = going_on(FilledPart(2 * HOUR_MS, b"5"), 3 * HOUR_MS)
    bootstrap.answered(answer(b"9", b"n1"))
    bootstrap.taken()
    assert noted(bootstrap.answered(answer(b"8", b"n2"))) == [], "between 8 and the earlier beginning something lacks"


def test_with_nothing_newer_it_goes_on_at_once() -> None:
    bootstrap, _ = going_on(FilledPart(2 * HOUR_MS, b"5"), 2 * HOUR_MS)
    assert asks(bootstrap.answered(answer(b""))) == [("a", b"5", 5)]
    assert bootstrap.answered(answer(b"")) == [Filled("copied", 0)]


def test_the_disk_that_does_not_take_the_last_of_what_is_newer_costs_only_time() -> None:
    bootstrap, _ = going_on(FilledPart(2 * HOUR_MS, b"5"), 2 * HOUR_MS + 1_000)
    bootstrap.answered(answer(b"9", b"n1"))
    bootstrap.answered(answer(b"", b"n2"))
    bootstrap.taken()
    assert bootstrap.not_taken() == [AskRecent("a", RecentRequest(b"9", HOUR_MS + 1_000), BOOTSTRAP_RETRY_MS)]


@pytest.mark.parametrize("part", [None, FilledPart(5 * HOUR_MS, b"5")])
def test_it_begins_anew_without_a_part_or_with_one_from_the_future(part: FilledPart | None) -> None:
    bootstrap, effects = going_on(part, 2 * HOUR_MS)
    assert effects == [AskRecent("a", RecentRequest(b"", HOUR_MS), 0)]
    assert bootstrap.answered(answer(b"")) == [Filled("copied", 0)]


def test_a_part_is_read_as_it_was_written_and_nothing_else_is_one() -> None:
    part = FilledPart(1_700_000_000_000, b"\0\0place")
    assert decode_part(encode_part(part)) == part
    for raw in (None, b"", b"1234567", b"12345678"):
        assert decode_part(raw) is None
