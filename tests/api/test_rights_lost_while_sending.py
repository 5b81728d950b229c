"""A body may take minutes to arrive. What its sender may do is what they may do when it is there."""

from collections.abc import Callable
from itertools import count

import pytest

from tests.api.accounts import Caller, Person, Place
from tests.api.client import Reply

_numbers = count(1)
LOSSES = ("revoked", "expired", "removed")
ACCOUNTS = ("admin:users:create", "admin:users:update", "admin:groups:create", "admin:groups:update")


class Sending:
    """A request whose head the node has read, and whose body it waits for."""

    def __init__(self, caller: Caller, method: str, target: str, body: bytes) -> None:
        self._caller = caller
        self._rest = body[1:]
        caller.write(
            f"{method} {target} HTTP/1.1\r\nHost: kvs.test\r\nAuthorization: {caller.authorization}\r\n"
            f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        assert caller.read_line() == b"HTTP/1.1 100 Continue\r\n"
        assert caller.read_line() == b"\r\n"
        caller.write(body[:1])

    def finish(self) -> Reply:
        self._caller.write(self._rest)
        return self._caller.read()


def lose(at: Place, person: Person, how: str) -> None:
    match how:
        case "revoked":
            (token,) = at.root.ask.pages(f"/api/tokens?user_uuid={person.uuid}", "tokens")
            assert at.root.ask.delete(f"/api/tokens/{token['token_id']}").status == 204
        case "expired":
            at.clock.now_ms += 3_600_000
        case "removed":
            assert at.root.ask.delete(f"/api/users/{person.uuid}").status == 204


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/kv/{key}", b'"late"'),
        ("PUT", "/kv/{key}?ttl=1h", b'"late"'),
        ("POST", "/kv/_bulk", b'{"op":"put","path":"{key}","data":"late"}'),
        ("PUT", "/kv/{key}/metadata", b'{"permissions":4095}'),
    ],
)
def test_a_token_that_ended_meanwhile_writes_nothing(
    make_place: Callable[..., Place], how: str, method: str, target: str, body: bytes
) -> None:
    at, key = make_place(), f"slow{next(_numbers)}"
    person = at.user()
    assert person.ask.put(f"/kv/{key}", b'"before"').status == 201
    sending = Sending(person.ask, method, target.format(key=key), body.replace(b"{key}", key.encode()))
    lose(at, person, how)
    reply = sending.finish()
    assert (reply.status, reply.headers.get("www-authenticate")) == (401, "Bearer")
    assert at.root.ask.get(f"/kv/{key}").json["data"] == "before"
    assert at.root.ask.get(f"/kv/{key}/metadata").status == 404


@pytest.mark.parametrize("how", LOSSES)
def test_a_token_that_ended_meanwhile_manages_no_accounts(make_place: Callable[..., Place], how: str) -> None:
    at = make_place()
    someone, group = at.user(), at.group()
    for method, target, body in (
        ("POST", "/api/users", b'{"nickname":"late"}'),
        ("PUT", f"/api/users/{someone.uuid}", b'{"nickname":"late"}'),
        ("POST", "/api/groups", b'{"groupname":"late"}'),
        ("PUT", f"/api/groups/{group}", b'{"groupname":"late"}'),
        ("POST", "/api/tokens", b'{"user_uuid":"%b","scopes":[]}' % someone.uuid.encode()),
    ):
        person = at.user(*ACCOUNTS, "admin:tokens:create")
        sending = Sending(person.ask, method, target, body)
        lose(at, person, how)
        assert sending.finish().status == 401, target
        if how == "expired":
            at.clock.now_ms -= 3_600_000
    assert at.root.ask.get("/api/users?nickname=late").json["users"] == []
    assert at.root.ask.get("/api/groups?groupname=late").json["groups"] == []
    assert len(at.root.ask.pages(f"/api/tokens?user_uuid={someone.uuid}", "tokens")) == 1


def test_permissions_that_changed_meanwhile_decide(at: Place) -> None:
    team, key = at.group(), f"slow{next(_numbers)}"
    owner, member = at.user(), at.user(groups=[team])
    assert owner.ask.put(f"/kv/{key}", b'"before"').status == 201

    def open_key() -> None:
        fields = {"group_uuid": team, "permissions": 0xFF0}
        assert owner.ask.call("PUT", f"/kv/{key}/metadata", fields).status == 200
        assert at.root.ask.call("PUT", f"/api/groups/{team}", {"members": [member.uuid]}).status == 200

    def close_key() -> None:
        assert owner.ask.call("PUT", f"/kv/{key}/metadata", {"permissions": 0xF00}).status == 200

    def leave_group() -> None:
        assert at.root.ask.call("PUT", f"/api/groups/{team}", {"members": []}).status == 200

    for change in (close_key, leave_group):
        open_key()
        sending = Sending(member.ask, "PUT", f"/kv/{key}", b'"late"')
        change()
        assert sending.finish().status == 403
        open_key()
        item = b'{"op":"put","path":"%b","data":"late"}' % key.encode()
        sending = Sending(member.ask, "POST", "/kv/_bulk", item)
        change()
        assert sending.finish().json["results"][0]["status"] == 403
    assert owner.ask.get(f"/kv/{key}").json["data"] == "before"
    open_key()
    assert Sending(member.ask, "PUT", f"/kv/{key}", b'"in time"').finish().status == 200


def test_an_owner_who_gave_the_key_away_meanwhile_keeps_no_hold(at: Place) -> None:
    owner, heir, key = at.user(), at.user(), f"slow{next(_numbers)}"
    assert owner.ask.put(f"/kv/{key}", b"1").status == 201
    sending = Sending(owner.ask, "PUT", f"/kv/{key}/metadata", b'{"permissions":4095}')
    assert at.root.ask.call("PUT", f"/kv/{key}/metadata", {"owner_uuid": heir.uuid}).status == 200
    assert sending.finish().status == 403
    assert heir.ask.get(f"/kv/{key}/metadata").json["permissions"] == 3889


@pytest.mark.parametrize("credential", ["", "Authorization: Bearer worthless\r\n"])
def test_without_a_good_token_no_body_is_asked_for(at: Place, credential: str) -> None:
    nobody = at.caller()
    nobody.open()
    nobody.write(
        f"PUT /kv/a HTTP/1.1\r\nHost: kvs.test\r\n{credential}Expect: 100-continue\r\n"
        "Content-Length: 1000000\r\n\r\n".encode()
    )
    assert nobody.read_line() == b"HTTP/1.1 401 Unauthorized\r\n"
