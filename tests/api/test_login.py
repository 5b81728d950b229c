"""`/api/login`: a password for a token, one answer for all that is wrong, and only so many attempts."""

from collections.abc import Callable, Iterator
from itertools import count
from unittest.mock import patch

import pytest

from kvs.limits import LOGIN_PER_ACCOUNT_MAX, LOGIN_PER_ADDRESS_MAX, LOGIN_WINDOW_S
from tests.api.accounts import Caller, Place, claims, place, steady
from tests.api.client import Reply

PASSWORD = "correct horse"
BAD_FIELDS: list[tuple[str, object]] = [
    ("nickname", 5),
    ("nickname", None),
    ("nickname", ["root"]),
    ("password", 5),
    ("password", None),
    ("password", {"$ne": ""}),
]
_numbers = count(1)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("login") / "data") as made:
        yield made


@pytest.fixture(autouse=True)
def _attempts_are_forgotten(at: Place) -> Iterator[None]:
    yield
    at.clock.now_ms += 2 * LOGIN_WINDOW_S * 1000


@pytest.fixture
def quick() -> Iterator[None]:
    """Passwords that take no time: `PASSWORD` is everybody's."""
    with patch("kvs.server.passwords.check_password", lambda stored, password: bool(stored) and password == PASSWORD):
        yield


def log_in(caller: Caller, nickname: str, password: str = PASSWORD, **headers: str) -> Reply:
    made = f'{{"nickname":"{nickname}","password":"{password}","unknown":[]}}'.encode()
    return caller.post("/api/login", made, **headers)


def test_a_login_gives_a_token_of_the_user(at: Place) -> None:
    person = at.user(password=PASSWORD, scopes=["read", "admin:audit"])
    reply = log_in(at.caller(), person.nickname)
    assert (reply.status, set(reply.json)) == (200, {"token", "expires_at", "token_id", "user_uuid"})
    assert reply.json["user_uuid"] == person.uuid
    assert reply.json["expires_at"] == (at.clock.now_ms + 3_600_000) // 1000 * 1000
    told = claims(reply.json["token"])
    assert (told["sub"], told["scopes"]) == (person.uuid, ["read", "admin:audit"])
    user = at.caller(reply.json["token"])
    assert (user.get("/kv/absent").status, user.put("/kv/absent", b"1").status) == (404, 403)
    mine = at.root.ask.pages(f"/api/tokens?user_uuid={person.uuid}", "tokens")
    assert {"token_id": reply.json["token_id"], "created_by": person.uuid}.items() <= next(
        token for token in mine if token["token_id"] == reply.json["token_id"]
    ).items()
    assert at.root.ask.delete(f"/api/tokens/{reply.json['token_id']}").status == 204
    assert user.get("/kv/absent").status == 401


def test_a_login_looks_at_no_token(at: Place) -> None:
    person = at.user(password=PASSWORD)
    assert log_in(at.caller("worthless"), person.nickname).status == 200


def test_what_is_wrong_gets_one_answer(at: Place) -> None:
    with_password, without = at.user(password=PASSWORD), at.user()
    gone = at.user(password=PASSWORD)
    at.root.ask.delete(f"/api/users/{gone.uuid}")
    caller = at.caller()
    replies = [
        log_in(caller, nickname, password, X_Request_ID="same")
        for nickname, password in (
            (with_password.nickname, "wrong horse"),
            (with_password.nickname, PASSWORD + " "),
            (with_password.nickname, ""),
            (with_password.nickname, "x" * 100_000),
            (with_password.nickname.upper(), PASSWORD),
            (without.nickname, PASSWORD),
            (without.nickname, ""),
            (gone.nickname, PASSWORD),
            ("nobody", PASSWORD),
            ("", ""),
        )
    ]
    assert {reply.status for reply in replies} == {401}
    assert len({str(steady(reply)) for reply in replies}) == 1
    assert replies[0].headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_what_is_no_login_is_named(at: Place, field: str, value: object) -> None:
    caller = at.caller()
    reply = caller.call("POST", "/api/login", {"nickname": "root", "password": PASSWORD, field: value})
    assert (reply.status, reply.json["field"]) == (400, field)
    other = {"nickname": "password", "password": "nickname"}[field]
    missing = caller.call("POST", "/api/login", {other: "root"})
    assert (missing.status, missing.json["field"]) == (400, field)


def test_a_new_password_ends_the_old_one(at: Place) -> None:
    person, caller = at.user(password=PASSWORD), at.caller()
    target = f"/api/users/{person.uuid}"
    assert at.root.ask.call("PUT", target, {"password": "another horse"}).json["has_password"] is True
    assert [log_in(caller, person.nickname, word).status for word in (PASSWORD, "another horse")] == [401, 200]
    assert at.root.ask.call("PUT", target, {"scopes": ["read"]}).json["has_password"] is True
    assert log_in(caller, person.nickname, "another horse").status == 200
    assert at.root.ask.call("PUT", target, {"password": None}).json["has_password"] is False
    assert log_in(caller, person.nickname, "another horse").status == 401


def test_a_new_nickname_is_the_one_to_log_in_with(at: Place) -> None:
    person, caller = at.user(password=PASSWORD), at.caller()
    assert at.root.ask.call("PUT", f"/api/users/{person.uuid}", {"nickname": "renamed"}).status == 200
    assert [log_in(caller, name).status for name in (person.nickname, "renamed")] == [401, 200]


def check_limited(reply: Reply, limit: int) -> int:
    """Returns when to come back, in seconds."""
    assert (reply.status, reply.code) == (429, "rate_limited")
    retry_after_s = int(reply.headers["retry-after"])
    assert 1 <= retry_after_s <= LOGIN_WINDOW_S
    names = ("x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-window")
    assert [reply.headers[name] for name in names] == [str(limit), "0", str(LOGIN_WINDOW_S)]
    return retry_after_s


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("exists", [True, False])
def test_an_account_takes_so_many_attempts(at: Place, exists: bool) -> None:
    nickname = at.user(password=PASSWORD).nickname if exists else f"nobody {next(_numbers)}"
    other, caller = at.user(password=PASSWORD), at.caller()
    for _ in range(LOGIN_PER_ACCOUNT_MAX):
        assert log_in(caller, nickname, "wrong horse").status == 401
    wait_s = check_limited(log_in(caller, nickname), LOGIN_PER_ACCOUNT_MAX)
    assert check_limited(log_in(at.caller(), nickname), LOGIN_PER_ACCOUNT_MAX) == wait_s
    assert log_in(caller, other.nickname).status == 200
    at.clock.now_ms += wait_s * 1000 - 1
    check_limited(log_in(caller, nickname), LOGIN_PER_ACCOUNT_MAX)
    at.clock.now_ms += 1
    assert log_in(caller, nickname).status == (200 if exists else 401)


@pytest.mark.usefixtures("quick")
def test_an_address_takes_so_many_attempts(at: Place) -> None:
    person, caller = at.user(password=PASSWORD), at.caller()
    for number in range(LOGIN_PER_ADDRESS_MAX):
        assert log_in(caller, f"guess {number}").status == 401
    wait_s = check_limited(log_in(caller, person.nickname), LOGIN_PER_ADDRESS_MAX)
    for name in ("X_Forwarded_For", "X_Real_IP", "Forwarded"):
        check_limited(log_in(at.caller(), person.nickname, **{name: "192.0.2.1"}), LOGIN_PER_ADDRESS_MAX)
    assert at.root.ask.get("/kv/absent").status == 404
    at.clock.now_ms += wait_s * 1000
    assert log_in(caller, person.nickname).status == 200


@pytest.mark.usefixtures("quick")
def test_what_is_no_login_is_no_attempt(at: Place) -> None:
    person, caller = at.user(password=PASSWORD), at.caller()
    for _ in range(LOGIN_PER_ADDRESS_MAX + 1):
        assert caller.call("POST", "/api/login", {"nickname": person.nickname}).status == 400
    assert log_in(caller, person.nickname).status == 200


def test_a_read_only_node_lets_nobody_log_in(make_place: Callable[..., Place]) -> None:
    reply = log_in(make_place(read_only=True).caller(), "root")
    assert (reply.status, reply.code) == (403, "read_only")
