"""Whoever is kept out of a key does not learn whether there is something under it, nor what."""

from collections.abc import Callable
from itertools import count

import pytest

from tests.api.accounts import Caller, Place, steady
from tests.api.permitted import BULK, DELETES, METADATA, READS, WRITES, Way

_numbers = count(1)
ALL_WAYS = [*READS, *WRITES, *DELETES, *METADATA, *BULK]
REFUSAL = {"content-type", "content-length", "server", "x-content-type-options", "cache-control"}
"""The header fields of a refusal, besides those that `steady` leaves out."""
CONTENTS: dict[str, bytes | None] = {
    "nothing": None,
    "a number": b"1",
    "much": b'"' + b"x" * 100_000 + b'"',
    "nothing any more": b"2",
    "something that ended": b"3",
    "a blob": b"<html>",
}


def closed_keys(at: Place, permissions: int) -> dict[str, tuple[str, str]]:
    """Keys of one owner with equal names: (path, uuid of the value) by what is under them."""
    owner, made = at.user(), {}
    for number, (name, value) in enumerate(CONTENTS.items()):
        key, uuid = f"vault{next(_numbers)}/k{number}", "0f1e2d3c-4b5a-4978-a6b5-c4d3e2f10213"
        metadata = {"owner_uuid": owner.uuid, "permissions": permissions}
        assert at.root.ask.call("PUT", f"/kv/{key}/metadata", metadata).status == 200
        if value is not None:
            kind = {"Content-Type": "text/html"} if name == "a blob" else {}
            ttl = "?ttl=1s" if name == "something that ended" else ""
            for sent in (b"0", value):
                reply = owner.ask.send("PUT", f"/kv/{key}{ttl}", sent, kind)
                assert reply.status in (200, 201)
            uuid = reply.json["uuid"]
        if name == "nothing any more":
            assert owner.ask.delete(f"/kv/{key}").status == 204
        made[name] = (key, uuid)
    at.clock.now_ms += 1000
    return made


def check_alike(caller: Caller, ways: list[Way], keys: dict[str, tuple[str, str]], status: int) -> None:
    for way in ways:
        answers = {name: steady(way.ask(caller, key, uuid)) for name, (key, uuid) in keys.items()}
        expected = answers["nothing"]
        assert answers == dict.fromkeys(keys, expected), way.name
        assert expected[0] == (200 if way in BULK and status == 403 else status), way.name
        if expected[0] == 403:
            assert set(expected[1]) == REFUSAL
        if way in BULK and status == 403:
            assert b'"status":403' in expected[2]


def test_all_ways_answer_alike_whatever_is_there(at: Place) -> None:
    check_alike(at.user().ask, ALL_WAYS, closed_keys(at, 0xF00), 403)


@pytest.mark.parametrize(("scope", "ways"), [("read", READS), ("write", WRITES), ("delete", DELETES)])
def test_a_token_with_one_scope_learns_no_more(at: Place, scope: str, ways: list[Way]) -> None:
    caller = at.user(scope).ask
    check_alike(caller, ways, closed_keys(at, 0xF00), 403)
    check_alike(caller, [way for way in ALL_WAYS if way not in BULK], closed_keys(at, 0xF00), 403)


def test_a_group_without_rights_learns_no_more(at: Place) -> None:
    team = at.group()
    caller, keys = at.user(groups=[team]).ask, closed_keys(at, 0xF0F)
    for key, _ in keys.values():
        assert at.root.ask.call("PUT", f"/kv/{key}/metadata", {"group_uuid": team}).status == 200
    check_alike(caller, ALL_WAYS, keys, 403)


def test_nobody_learns_more_without_a_token(at: Place, make_place: Callable[..., Place]) -> None:
    check_alike(at.caller(), ALL_WAYS, closed_keys(at, 0xF00), 401)
    lax = make_place(allow_anonymous_read=True, allow_anonymous_write=True)
    keys = closed_keys(lax, 0xF00)
    check_alike(lax.caller(), [*READS, *WRITES], keys, 403)
    check_alike(lax.caller(), [*DELETES, *METADATA], keys, 401)


@pytest.mark.parametrize(
    ("permissions", "ways"),
    [(0xF0E, READS), (0xF05, WRITES), (0xF0B, DELETES), (0xFFF, METADATA)],
    ids=["read", "write", "delete", "metadata"],
)
def test_other_rights_open_no_other_way(at: Place, permissions: int, ways: list[Way]) -> None:
    check_alike(at.user().ask, ways, closed_keys(at, permissions), 403)


def test_who_may_write_but_not_read_sees_no_value(at: Place) -> None:
    """It is told whether there was one, by 200 and 201, and nothing of what it was."""
    owner, writer = at.user(), at.user()
    key = f"vault{next(_numbers)}/mailbox"
    assert (
        at.root.ask.call("PUT", f"/kv/{key}/metadata", {"owner_uuid": owner.uuid, "permissions": 0xF0A}).status == 200
    )
    assert writer.ask.put(f"/kv/{key}", b'"letter one"').status == 201
    assert owner.ask.put(f"/kv/{key}", b'"secret"').status == 200
    for way in READS:
        assert way.ask(writer.ask, key).status == 403, way.name
    kept = [
        steady(writer.ask.send("POST", f"/api/data/{key}/history/{number}/restore", headers={"X-Request-ID": "same"}))
        for number in (1, 2, 99)
    ]
    assert {status for status, _, _ in kept} == {404}
    assert len({str(answer) for answer in kept}) == 1
    assert owner.ask.get(f"/kv/{key}").json["data"] == "secret"


def test_bad_requests_are_told_apart_before_the_key_is_looked_at(at: Place) -> None:
    keys, other = closed_keys(at, 0xF00), at.user()
    bad = [
        Way("PUT", "/kv/{key}", b"{"),
        Way("PUT", "/kv/{key}?ttl=x", b"1"),
        Way("PUT", "/kv/{key}", b"1", {"If-Match": "bare"}),
        Way("DELETE", "/kv/{key}", None, {"If-None-Match": "bare"}),
        Way("POST", "/api/data/{key}/history/0/restore"),
        Way("GET", "/api/data/{key}/history/x"),
        Way("PUT", "/kv/{key}/metadata", b'{"permissions":"x"}'),
    ]
    check_alike(other.ask, bad, keys, 400)
    check_alike(other.ask, [Way("PUT", "/kv/{key}", b"1", {"Content-Encoding": "gzip"})], keys, 415)
    check_alike(other.ask, [Way("PATCH", "/kv/{key}"), Way("OPTIONS", "/kv/{key}")], keys, 405)
