"""`ETag` and `If-Match` of users and groups: of two who change the same list, the second hears of the first."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from tests.api.accounts import Place
from tests.api.client import Reply

KINDS = ["users", "groups"]
FIELDS = {"users": "groups", "groups": "members"}


def make(at: Place, kind: str) -> str:
    """A new account's path."""
    return f"/api/{kind}/{at.user().uuid if kind == 'users' else at.group()}"


def other_side(at: Place, kind: str) -> str:
    return at.group() if kind == "users" else at.user().uuid


def put(at: Place, target: str, body: bytes, **headers: str) -> Reply:
    return at.root.ask.send("PUT", target, body, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_every_change_has_another_tag(at: Place, kind: str) -> None:
    target, field = make(at, kind), FIELDS[kind]
    shown = at.root.ask.get(target)
    tag = shown.headers["etag"]
    assert tag[0] == tag[-1] == '"'
    assert at.root.ask.get(target).headers["etag"] == tag
    assert at.root.ask.send("HEAD", target).headers["etag"] == tag
    changed = at.root.ask.call("PUT", target, {field: [other_side(at, kind)]})
    assert changed.headers["etag"] not in ("", tag)
    assert at.root.ask.get(target).headers["etag"] == changed.headers["etag"]
    assert tag.strip('"') not in str(shown.body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_is_made_of_what_was_seen_or_not_at_all(at: Place, kind: str) -> None:
    target, field = make(at, kind), FIELDS[kind]
    seen = at.root.ask.get(target).headers["etag"]
    first, second = other_side(at, kind), other_side(at, kind)
    assert put(at, target, b'{"%b":["%b"]}' % (field.encode(), first.encode()), If_Match=seen).status == 200
    late = put(at, target, b'{"%b":["%b"]}' % (field.encode(), second.encode()), If_Match=seen)
    assert (late.status, late.code) == (412, "precondition_failed")
    assert at.root.ask.get(target).json[field] == [first]
    assert at.root.ask.send("DELETE", target, None, {"If-Match": seen}).status == 412
    now = at.root.ask.get(target).headers["etag"]
    for headers in ({"If_Match": f'"other", {now}'}, {"If_Match": "*"}, {"If_None_Match": seen}):
        assert put(at, target, b"{}", **headers).status == 200
    for headers in ({"If_Match": f"W/{now}"}, {"If_None_Match": "*"}, {"If_None_Match": f"W/{now}"}):
        assert put(at, target, b"{}", **headers).status == 412
    assert put(at, target, b"{}", If_Match=now.strip('"')).status == 400
    assert at.root.ask.send("DELETE", target, None, {"If-Match": now}).status == 204


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_absent_whatever_the_condition(at: Place, kind: str) -> None:
    target = f"/api/{kind}/{uuid4()}"
    for headers in ({"If-Match": '"any"'}, {"If-Match": "*"}, {"If-None-Match": "*"}):
        assert at.root.ask.send("PUT", target, b"{}", headers).status == 404
        assert at.root.ask.send("DELETE", target, None, headers).status == 404


def test_of_many_at_one_time_none_is_lost(at: Place) -> None:
    target = f"/api/groups/{at.group()}"
    users = [at.user().uuid for _ in range(8)]
    callers = [at.caller(at.root.ask.authorization.removeprefix("Bearer ")) for _ in users]

    def join(number: int) -> None:
        while True:
            shown = callers[number].get(target)
            members = b",".join(b'"%b"' % uuid.encode() for uuid in [*shown.json["members"], users[number]])
            headers = {"If-Match": shown.headers["etag"]}
            reply = callers[number].send("PUT", target, b'{"members":[%b]}' % members, headers)
            if reply.status == 200:
                return
            assert reply.status == 412

    with ThreadPoolExecutor(len(users)) as threads:
        list(threads.map(join, range(len(users))))
    assert sorted(at.root.ask.get(target).json["members"]) == sorted(users)
