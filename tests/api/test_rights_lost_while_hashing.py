"""Passwords wait for their turn. What their sender may do, and what the account is, counts as it is behind that."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from threading import Event
from unittest.mock import patch

import pytest

from kvs.auth.scopes import ALL
from tests.api.accounts import Caller, Person, Place
from tests.api.client import Reply

PASSWORD = "correct horse"
TIMEOUT_S = 20
_numbers = count(1)


class Held:
    """Requests whose passwords are looked at only when the test lets go."""

    def __init__(self) -> None:
        self.begun, self._go = Event(), Event()
        self._threads = ThreadPoolExecutor(1)

    def work(self, result: object) -> Callable[..., object]:
        def done(*_: object) -> object:
            self.begun.set()
            assert self._go.wait(TIMEOUT_S)
            return result

        return done

    def ask(self, caller: Caller, method: str, target: str, document: object) -> Callable[[], Reply]:
        """Send it, and wait until a password is looked at; the answer comes behind `let_go`."""
        answer = self._threads.submit(caller.call, method, target, document)
        assert self.begun.wait(TIMEOUT_S)
        return lambda: answer.result(TIMEOUT_S)

    def let_go(self) -> None:
        self._go.set()


@contextmanager
def held(name: str, result: object) -> Iterator[Held]:
    made = Held()
    with patch(f"kvs.server.passwords.{name}", made.work(result)):
        try:
            yield made
        finally:
            made.let_go()


def revoke(at: Place, person: Person) -> None:
    for token in at.root.ask.pages(f"/api/tokens?user_uuid={person.uuid}", "tokens"):
        assert at.root.ask.delete(f"/api/tokens/{token['token_id']}").status == 204


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_token_that_is_revoked_meanwhile_sets_no_password(at: Place, method: str) -> None:
    admin, someone = at.user("admin:users:create", "admin:users:update"), at.user(scopes=[])
    nickname = f"back door {next(_numbers)}"
    target = "/api/users" if method == "POST" else f"/api/users/{someone.uuid}"
    with held("hash_password", "$hash") as hashing:
        answer = hashing.ask(admin.ask, method, target, {"nickname": nickname, "password": PASSWORD})
        revoke(at, admin)
        hashing.let_go()
        assert answer().status == 401
    assert at.root.ask.get(f"/api/users?nickname={nickname.replace(' ', '%20')}").json["users"] == []
    assert not at.root.ask.get(f"/api/users/{someone.uuid}").json["has_password"]


@pytest.mark.parametrize("lost", ["scopes", "password", "account"])
def test_a_login_gives_what_the_account_is_when_it_is_answered(at: Place, lost: str) -> None:
    person = at.user(password=PASSWORD, scopes=list(ALL))
    with held("check_password", True) as checking:  # what the check comes to
        answer = checking.ask(at.caller(), "POST", "/api/login", {"nickname": person.nickname, "password": PASSWORD})
        match lost:
            case "scopes":
                assert at.root.ask.call("PUT", f"/api/users/{person.uuid}", {"scopes": ["read"]}).status == 200
            case "password":
                assert at.root.ask.call("PUT", f"/api/users/{person.uuid}", {"password": None}).status == 200
            case "account":
                assert at.root.ask.delete(f"/api/users/{person.uuid}").status == 204
        checking.let_go()
        reply = answer()
    if lost == "scopes":
        assert reply.status == 200
        stranger = at.caller(reply.json["token"])
        assert (stranger.get("/kv/absent").status, stranger.put("/kv/absent", b"1").status) == (404, 403)
    else:
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
