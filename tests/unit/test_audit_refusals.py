"""Whoever is refused is in the audit log at once, and then as a number: he cannot fill the disk."""

from random import Random

from kvs.cluster.events import Act
from kvs.limits import AUDIT_PATH_MAX_CHARS
from kvs.server.refusals import Refusals, bounded

MINUTE_MS = 60_000


def refusals(tracked_max: int = 10) -> Refusals:
    return Refusals(5 * MINUTE_MS, tracked_max)


def test_the_first_is_written_at_once_and_those_that_follow_as_a_number() -> None:
    some = refusals()
    assert some.count("auth_failure", "10.0.0.7", "", "GET /kv/a", 0) == Act("auth_failure", "", "10.0.0.7 GET /kv/a")
    for number in range(117):
        assert some.count("auth_failure", "10.0.0.7", "", f"GET /kv/{number}", 1000) is None
    assert some.due(5 * MINUTE_MS - 1) == []
    assert some.due(5 * MINUTE_MS) == [Act("auth_failure", "", "10.0.0.7 117 more, the last GET /kv/116")]
    assert some.rest(5 * MINUTE_MS) == []


def test_one_that_goes_on_is_one_entry_a_window() -> None:
    some = refusals()
    written = [some.count("auth_failure", "10.0.0.7", "", "GET /", 0)]
    for minute in range(60):
        written.append(some.count("auth_failure", "10.0.0.7", "", "GET /", minute * MINUTE_MS))
        written += some.due(minute * MINUTE_MS)
    acts = [act for act in written if act is not None]
    assert len(acts) == 12
    assert [act.resource for act in acts[1:]] == [
        "10.0.0.7 6 more, the last GET /",
        *["10.0.0.7 5 more, the last GET /"] * 10,
    ]


def test_after_a_quiet_window_it_begins_anew() -> None:
    some = refusals()
    some.count("auth_failure", "10.0.0.7", "", "GET /", 0)
    assert some.due(5 * MINUTE_MS) == []
    assert some.count("auth_failure", "10.0.0.7", "", "GET /", 6 * MINUTE_MS) is not None


def test_actions_addresses_and_users_are_told_apart() -> None:
    some = refusals()
    for action in ("auth_failure", "permission_denied"):
        for source in ("10.0.0.7", "10.0.0.8"):
            for user in ("ada", "bob"):
                assert some.count(action, source, user, "GET /", 0) == Act(action, user, f"{source} GET /")


def test_beyond_so_many_all_others_are_one() -> None:
    some = refusals(tracked_max=10)
    acts = [some.count("auth_failure", f"10.0.0.{number}", "", "GET /", 0) for number in range(200)]
    assert sum(act is not None for act in acts) == 11
    assert acts[10] == Act("auth_failure", "", "many addresses GET /")
    assert some.due(5 * MINUTE_MS) == [Act("auth_failure", "", "many addresses 189 more, the last GET /")]


def test_parts_of_one_request_are_counted() -> None:
    some = refusals()
    some.count("permission_denied", "10.0.0.7", "ada", "POST /kv/_bulk a", 0, 50)
    assert some.rest(1) == [Act("permission_denied", "ada", "10.0.0.7 49 more, the last POST /kv/_bulk a")]


def test_a_clock_that_is_set_back_keeps_nothing_waiting() -> None:
    some = refusals()
    for _ in range(3):
        some.count("auth_failure", "10.0.0.7", "", "GET /", 10 * MINUTE_MS)
    assert [act.resource for act in some.due(0)] == ["10.0.0.7 2 more, the last GET /"]


def test_however_it_is_tried_entries_are_few() -> None:
    """A flood of an hour from a thousand addresses and users, with some of them quiet at times."""
    some, choice = refusals(tracked_max=100), Random(1)
    entries = 0
    for second in range(3600):
        for _ in range(50):
            source, user = f"10.0.{choice.randrange(1000)}", str(choice.randrange(3))
            entries += some.count("auth_failure", source, user, "GET /", second * 1000) is not None
        if second % 10 == 0:
            entries += len(some.due(second * 1000))
    assert entries <= 12 * 2 * 102


def test_what_clients_send_is_escaped_and_cut() -> None:
    assert bounded("GET /kv/é x\r\n\x1b[31m\u202e\udcff") == "GET /kv/é x\\u000d\\u000a\\u001b[31m\\u202e\\udcff"
    assert bounded("a" * 10_000) == "a" * (AUDIT_PATH_MAX_CHARS - 1) + "…"
    assert len(bounded("\n" * 10_000)) == AUDIT_PATH_MAX_CHARS
    assert bounded("a" * AUDIT_PATH_MAX_CHARS) == "a" * AUDIT_PATH_MAX_CHARS
