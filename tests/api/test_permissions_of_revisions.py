"""The history of a key that had several owners: each sees their own revisions."""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import pytest

from tests.api.accounts import Person, Place, steady
from tests.api.permitted import SAME_ID

_numbers = count(1)


class Past(NamedTuple):
    """A key that `first` wrote and deleted, and `second` wrote anew: revisions 3 and 2, and 1."""

    key: str
    first: Person
    second: Person


@pytest.fixture
def past(at: Place) -> Past:
    """Its metadata name no owner, so that everybody who creates it owns what they wrote."""
    made = Past(f"past{next(_numbers)}", at.user(), at.user())
    assert at.root.ask.call("PUT", f"/kv/{made.key}/metadata", {"permissions": 0xF00}).status == 200
    assert made.first.ask.put(f"/kv/{made.key}", b'"of the first"').status == 201
    assert made.first.ask.delete(f"/kv/{made.key}").status == 204
    assert made.second.ask.put(f"/kv/{made.key}", b'"of the second"').status == 201
    return made


def revisions(person: Person, key: str) -> list[tuple[int, object]]:
    reply = person.ask.get(f"/api/data/{key}/history")
    assert reply.status == 200, reply
    return [(revision["revision"], revision["data"]) for revision in reply.json]


def test_each_owner_sees_their_own(at: Place, past: Past) -> None:
    whole = [(1, "of the second"), (2, None), (3, "of the first")]
    assert revisions(at.root, past.key) == whole
    assert revisions(past.second, past.key) == whole[:1]
    assert revisions(past.first, past.key) == whole[1:]
    other = at.user().ask
    assert {other.get(f"/api/data/{past.key}/history{end}").status for end in ("", "/1", "/2", "/3", "/4")} == {403}


def test_foreign_revisions_answer_as_those_that_are_not_kept(past: Past) -> None:
    for person, own in ((past.first, {2, 3}), (past.second, {1})):
        answers = {
            number: steady(person.ask.send("GET", f"/api/data/{past.key}/history/{number}", headers=SAME_ID))
            for number in (1, 2, 3, 4, 99)
        }
        assert {number for number, (status, _, _) in answers.items() if status == 200} == own
        assert len({str(answer) for number, answer in answers.items() if number not in own}) == 1
        assert answers[99][0] == 404


def test_nobody_restores_what_they_may_not_read(past: Past) -> None:
    kept = [
        steady(past.second.ask.send("POST", f"/api/data/{past.key}/history/{number}/restore", headers=SAME_ID))
        for number in (2, 3, 4)
    ]
    assert {status for status, _, _ in kept} == {404}
    assert len({str(answer) for answer in kept}) == 1
    assert past.second.ask.get(f"/kv/{past.key}").json["data"] == "of the second"


def test_nobody_restores_over_what_they_may_not_write(past: Past) -> None:
    for number in (1, 2, 3, 99):
        assert past.first.ask.post(f"/api/data/{past.key}/history/{number}/restore").status == 403
    assert past.first.ask.get(f"/kv/{past.key}").status == 403


def test_a_restored_value_is_whose_the_key_is(at: Place, past: Past) -> None:
    assert at.root.ask.post(f"/api/data/{past.key}/history/3/restore").status == 200
    assert past.second.ask.get(f"/kv/{past.key}").json["data"] == "of the first"
    assert past.first.ask.get(f"/kv/{past.key}").status == 403


def test_permissions_of_now_hold_for_what_was_before(at: Place) -> None:
    owner, other, key = at.user(), at.user(), f"past{next(_numbers)}"
    for value in (b'"old"', b'"new"'):
        assert owner.ask.put(f"/kv/{key}", value).status < 300
    assert revisions(other, key) == [(1, "new"), (2, "old")]
    assert owner.ask.call("PUT", f"/kv/{key}/metadata", {"permissions": 0xF00}).status == 200
    assert other.ask.get(f"/api/data/{key}/history").status == 403
    assert owner.ask.delete(f"/kv/{key}").status == 204
    assert other.ask.get(f"/api/data/{key}/history").status == 403
    assert revisions(owner, key) == [(1, None), (2, "new"), (3, "old")]
    assert owner.ask.call("PUT", f"/kv/{key}/metadata", {"permissions": 0xF01}).status == 200
    assert revisions(other, key) == [(1, None), (2, "new"), (3, "old")]


def test_a_tombstone_is_restored_by_who_may_delete(at: Place, make_place: Callable[..., Place]) -> None:
    """A restored tombstone deletes the value: `write` is not enough for it, neither as scope nor as permission."""
    key, owner, other = f"past{next(_numbers)}", at.user(), at.user()
    assert (
        at.root.ask.call("PUT", f"/kv/{key}/metadata", {"owner_uuid": owner.uuid, "permissions": 0xF0B}).status == 200
    )
    owner.ask.put(f"/kv/{key}", b"1")
    owner.ask.delete(f"/kv/{key}")
    owner.ask.put(f"/kv/{key}", b"2")
    restore = f"/api/data/{key}/history/2/restore"
    for who in (other.ask, at.caller(at.token(owner.uuid, ["read", "write"])), at.user("write", "admin:kv").ask):
        reply = who.post(restore)
        assert (reply.status, reply.code) == (403, "forbidden")
    assert other.ask.post(f"/api/data/{key}/history/3/restore").status == 200
    assert owner.ask.get(f"/kv/{key}").json["data"] == 1
    assert owner.ask.call("PUT", f"/kv/{key}/metadata", {"permissions": 0xF07}).status == 200
    assert other.ask.post(f"/api/data/{key}/history/3/restore").status == 200
    assert owner.ask.get(f"/kv/{key}").status == 404

    lax = make_place(allow_anonymous_write=True)
    for method in ("PUT", "DELETE", "PUT"):
        lax.root.ask.send(method, "/kv/a", b"1")
    assert lax.root.ask.call("PUT", "/kv/a/metadata", {"permissions": 0xFFF}).status == 200
    assert lax.caller().post("/api/data/a/history/2/restore").status == 401
    assert lax.caller().post("/api/data/a/history/3/restore").status == 200
    assert lax.root.ask.get("/kv/a").status == 200
