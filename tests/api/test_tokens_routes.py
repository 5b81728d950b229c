"""`/api/tokens`, also as `/auth/tokens`: made, listed, revoked, and how long they are good."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from kvs.auth.scopes import ALL
from tests.api.accounts import NOBODY, Place, claims, place

DAY_S = 24 * 3600
NO_LIVES: list[object] = [0, -1, 1.5, True, [], {}, "", "soon", "0", "-1h", "999ms", "60", "1d1s", DAY_S + 1, 10**30]
BAD_FIELDS: list[tuple[str, object]] = [
    ("user_uuid", 5),
    ("user_uuid", None),
    ("user_uuid", "root"),
    ("user_uuid", NOBODY),
    ("scopes", "read"),
    ("scopes", None),
    ("scopes", [None]),
    ("scopes", ["everything"]),
    ("scopes", ["read", "read\n"]),
    *(("expires_in", life) for life in NO_LIVES),
]
_numbers = count(1)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node whose tokens live for a day at most."""
    with place(tmp_path_factory.mktemp("tokens") / "data", token_max_ttl=DAY_S * 1000) as made:
        yield made


def listed(at: Place, query: str = "limit=1000") -> list[str]:
    return [token["token_id"] for token in at.root.ask.pages(f"/api/tokens?{query}", "tokens")]


@pytest.mark.parametrize(("name", "other"), [("/api", "/auth"), ("/auth", "/api")])
def test_a_token_is_made_listed_and_revoked(at: Place, name: str, other: str) -> None:
    ask, person = at.root.ask, at.user()
    made = ask.call("POST", f"{name}/tokens", {"user_uuid": person.uuid, "scopes": ["write", "read"]})
    assert (made.status, set(made.json)) == (201, {"token", "expires_at", "token_id"})
    assert made.headers["cache-control"] == "no-store"
    token, token_id = made.json["token"], made.json["token_id"]
    assert made.json["expires_at"] == (at.clock.now_ms + 3_600_000) // 1000 * 1000
    (shown,) = (shown for shown in ask.pages(f"{other}/tokens?limit=1000", "tokens") if shown["token_id"] == token_id)
    assert shown == {
        "token_id": token_id,
        "user_uuid": person.uuid,
        "scopes": ["read", "write"],
        "created_at": at.clock.now_ms,
        "expires_at": made.json["expires_at"],
        "created_by": at.root.uuid,
    }
    user = at.caller(token)
    assert user.put(f"/kv/{token_id}", b"1").status == 201
    assert user.get(f"/kv/{token_id}").status == 200
    assert user.delete(f"/kv/{token_id}").status == 403

    assert ask.delete(f"{other}/tokens/{token_id}").status == 204
    assert user.get(f"/kv/{token_id}").status == 401
    assert token_id not in listed(at)
    again = ask.delete(f"{name}/tokens/{token_id}")
    assert (again.status, again.code) == (404, "not_found")


def test_what_a_token_says(at: Place) -> None:
    person = at.user()
    first, second = (at.token(person.uuid, ["delete", "read"], expires_in=60) for _ in range(2))
    told, also = claims(first), claims(second)
    assert first != second
    assert told.pop("jti") != also.pop("jti")
    assert told == also
    audience = told.pop("aud")
    assert isinstance(audience, str)
    assert audience
    assert told == {
        "iss": "kvs-server",
        "sub": person.uuid,
        "user_uuid": person.uuid,
        "scopes": ["read", "delete"],
        "iat": at.clock.now_ms // 1000,
        "exp": at.clock.now_ms // 1000 + 60,
    }


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_what_is_wrong_is_named(at: Place, field: str, value: object) -> None:
    before = listed(at)
    for name in ("/api", "/auth"):
        reply = at.root.ask.call(
            "POST", f"{name}/tokens", {"user_uuid": at.root.uuid, "scopes": ["read"], "unknown": 1, field: value}
        )
        assert (reply.status, reply.json["field"]) == (400, field)
    assert listed(at) == before


@pytest.mark.parametrize("missing", ["user_uuid", "scopes"])
def test_what_is_missing_is_named(at: Place, missing: str) -> None:
    document: dict[str, object] = {"user_uuid": at.root.uuid, "scopes": ["read"]}
    del document[missing]
    reply = at.root.ask.call("POST", "/api/tokens", document)
    assert (reply.status, reply.json["field"]) == (400, missing)


@pytest.mark.parametrize(
    ("expires_in", "life_s"),
    [(1, 1), ("1s", 1), ("1500ms", 1), (90, 90), ("1h30m", 5400), (DAY_S, DAY_S), ("1d", DAY_S)],
)
def test_a_token_is_good_to_its_end_and_no_longer(at: Place, expires_in: object, life_s: int) -> None:
    at.clock.now_ms -= at.clock.now_ms % 1000
    person = at.user()
    made = at.root.ask.call(
        "POST", "/api/tokens", {"user_uuid": person.uuid, "scopes": ["read"], "expires_in": expires_in}
    )
    assert made.json["expires_at"] == at.clock.now_ms + life_s * 1000
    user, before = at.caller(made.json["token"]), at.clock.now_ms
    try:
        at.clock.now_ms = made.json["expires_at"] - 1
        assert user.get("/kv/absent").status == 404
        at.clock.now_ms += 1
        assert user.get("/kv/absent").status == 401
    finally:
        at.clock.now_ms = before


def test_without_a_wish_a_token_lives_no_longer_than_any_may(tmp_path: Path) -> None:
    with place(tmp_path / "data", token_max_ttl=60_000) as short:
        made = short.root.ask.call("POST", "/api/tokens", {"user_uuid": short.root.uuid, "scopes": []})
        assert made.json["expires_at"] == short.clock.now_ms + 60_000


def test_a_list_leaves_out_what_is_worth_nothing(at: Place) -> None:
    people = [at.user(), at.user(), at.user()]
    ids = {}
    for person in people:
        for life in (1, 60):
            made = at.root.ask.call("POST", "/api/tokens", {"user_uuid": person.uuid, "scopes": [], "expires_in": life})
            ids[person.uuid, life] = made.json["token_id"]
    revoked, gone, good = (person.uuid for person in people)
    assert at.root.ask.delete(f"/api/tokens/{ids[revoked, 60]}").status == 204
    assert at.root.ask.delete(f"/api/users/{gone}").status == 204
    at.clock.now_ms += 1000
    found = {key for key, token_id in ids.items() if token_id in listed(at)}
    assert found == {(good, 60)}
    assert ids[good, 60] in listed(at, f"limit=1&user_uuid={good.upper()}")
    for nobody in (gone, str(uuid4())):
        assert listed(at, f"limit=1&user_uuid={nobody}") == []
    reply = at.root.ask.get("/api/tokens?user_uuid=root")
    assert (reply.status, reply.json["field"]) == (400, "user_uuid")


def test_a_list_never_shows_a_token(at: Place) -> None:
    token = at.token(at.user().uuid)
    shown = at.root.ask.get("/api/tokens?limit=1000").body.decode()
    assert not any(part in shown for part in token.split("."))


def test_pages_show_every_token_once(at: Place) -> None:
    person = at.user()
    made = sorted(claims(at.token(person.uuid, ["read"]))["jti"] for _ in range(10))
    assert len(set(made)) == 10
    whole = listed(at)
    assert len(whole) == len(set(whole)) >= 10
    for limit in (1, 3, len(whole)):
        assert listed(at, f"limit={limit}") == whole
        mine = listed(at, f"limit={limit}&user_uuid={person.uuid}")
        assert len(mine) == len(set(mine)) == 11


@pytest.mark.parametrize("change", [lambda i: i[:-1], lambda i: i + "0", lambda i: i.upper() + "A", lambda i: "", str])
def test_only_a_whole_id_names_a_token(at: Place, change: object) -> None:
    assert callable(change)
    made = at.root.ask.call("POST", "/api/tokens", {"user_uuid": at.root.uuid, "scopes": ["read"]}).json
    other = str(change(made["token_id"]))
    reply = at.root.ask.delete(f"/api/tokens/{other}")
    if other == made["token_id"]:
        assert reply.status == 204
    else:
        assert reply.status in (404, 405)
        assert made["token_id"] in listed(at)
        assert at.caller(made["token"]).get("/kv/absent").status == 404


@pytest.mark.parametrize("token_id", ["*", "%2A", "..", "%00", "a%2Fb", "0" * 32, "g" * 32, "0" * 5000])
def test_an_id_that_no_token_has_is_not_found(at: Place, token_id: str) -> None:
    reply = at.root.ask.delete(f"/api/tokens/{token_id}")
    assert (reply.status, reply.code) == (404, "not_found")


def test_a_revoked_token_takes_no_other_along(at: Place) -> None:
    person = at.user("read")
    made = at.root.ask.call("POST", "/api/tokens", {"user_uuid": person.uuid, "scopes": ["read"]}).json
    user = at.caller(made["token"])
    assert (person.ask.get("/kv/absent").status, user.get("/kv/absent").status) == (404, 404)
    at.root.ask.delete(f"/api/tokens/{made['token_id']}")
    assert (person.ask.get("/kv/absent").status, user.get("/kv/absent").status) == (404, 401)


def test_a_token_may_revoke_itself(at: Place) -> None:
    made = at.root.ask.call("POST", "/api/tokens", {"user_uuid": at.root.uuid, "scopes": ["admin:tokens:revoke"]}).json
    own = at.caller(made["token"])
    assert own.delete(f"/api/tokens/{made['token_id']}").status == 204
    assert own.delete(f"/api/tokens/{made['token_id']}").status == 401


def test_a_removed_users_tokens_are_worthless_at_once(at: Place) -> None:
    person = at.user(*ALL)
    tokens = [person.ask, *(at.caller(at.token(person.uuid, ALL)) for _ in range(3))]
    assert [user.get("/kv/absent").status for user in tokens[:-1]] == [404] * 3
    assert person.ask.delete(f"/api/users/{person.uuid}").status == 204
    for user in tokens:
        for method, target in (("GET", "/kv/absent"), ("GET", "/api/users"), ("DELETE", f"/api/users/{person.uuid}")):
            assert user.call(method, target).status == 401
    at.user(nickname=person.nickname)
    assert [user.get("/kv/absent").status for user in tokens] == [401] * 4


def test_a_change_of_the_user_leaves_its_tokens(at: Place) -> None:
    person = at.user("read")
    assert person.ask.get("/kv/absent").status == 404
    changes: list[dict[str, object]] = [{"nickname": f"changed {next(_numbers)}"}, {"scopes": []}, {"groups": []}]
    for change in changes:
        assert at.root.ask.call("PUT", f"/api/users/{person.uuid}", change).status == 200
        assert person.ask.get("/kv/absent").status == 404
