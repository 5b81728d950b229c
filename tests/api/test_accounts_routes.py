"""`/api/users`, also as `/auth/users`: made, shown, found, changed, removed."""

import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha3_512
from itertools import count
from uuid import uuid4

import pytest

from kvs.limits import GROUPS_PER_USER_MAX, NAME_MAX_BYTES, PASSWORD_MAX_BYTES
from tests.api.accounts import NOBODY, Place

MEMBERS = {"uuid", "nickname_hash", "groups", "scopes", "created_at", "updated_at", "has_password"}
_numbers = count(1)
BAD_FIELDS: list[tuple[str, object]] = [
    ("nickname", 5),
    ("nickname", None),
    ("nickname", ["a"]),
    ("nickname", ""),
    ("nickname", "  "),
    ("nickname", "two\nlines"),
    ("nickname", "\x00"),
    ("nickname", "\u202eright to left"),
    ("nickname", "x" * (NAME_MAX_BYTES + 1)),
    ("nickname", "é" * (NAME_MAX_BYTES // 2 + 1)),
    ("password", 12345678),
    ("password", ["12345678"]),
    ("password", "1234567"),
    ("password", "x" * (PASSWORD_MAX_BYTES + 1)),
    ("groups", "none"),
    ("groups", None),
    ("groups", [1]),
    ("groups", ["not a uuid"]),
    ("groups", {}),
    ("groups", [NOBODY]),
    ("scopes", "read"),
    ("scopes", [1]),
    ("scopes", ["admin"]),
    ("scopes", ["READ"]),
    ("scopes", ["read", "read:all"]),
]


def fresh() -> str:
    """A name that nobody has."""
    return f"fresh {next(_numbers)}"


@pytest.mark.parametrize(("name", "other"), [("/api", "/auth"), ("/auth", "/api")])
def test_a_user_is_made_shown_changed_and_removed(at: Place, name: str, other: str) -> None:
    ask, nickname, renamed = at.root.ask, fresh(), fresh()
    made = ask.call("POST", f"{name}/users", {"nickname": nickname})
    assert (made.status, set(made.json)) == (201, {"uuid"})
    target = f"{name}/users/{made.json['uuid']}"
    assert made.headers["location"].endswith(f"/users/{made.json['uuid']}")
    shown = ask.get(target).json
    assert set(shown) == MEMBERS
    assert shown == {
        "uuid": made.json["uuid"],
        "nickname_hash": sha3_512(nickname.encode()).hexdigest(),
        "groups": [],
        "scopes": ["read", "write", "delete"],
        "created_at": at.clock.now_ms,
        "updated_at": at.clock.now_ms,
        "has_password": False,
    }
    assert ask.get(made.headers["location"]).json == shown

    at.clock.now_ms += 1000
    changed = ask.call("PUT", target, {"nickname": renamed})
    assert changed.json == {
        **shown,
        "nickname_hash": sha3_512(renamed.encode()).hexdigest(),
        "updated_at": at.clock.now_ms,
    }
    assert ask.get(target.replace(name, other)).json == changed.json

    assert ask.delete(target).status == 204
    for method, document in (("GET", None), ("PUT", {}), ("DELETE", None)):
        for gone in (target, target.replace(name, other)):
            reply = ask.call(method, gone, document)
            assert (reply.status, reply.code) == (404, "not_found")


def test_a_body_names_what_changes(at: Place) -> None:
    group = at.group()
    person = at.user(groups=[group])
    target = f"/api/users/{person.uuid}"
    before = at.root.ask.get(target).json
    assert at.root.ask.call("PUT", target, {}).json == {**before, "updated_at": at.clock.now_ms}
    assert at.root.ask.call("PUT", target, {"scopes": ["delete", "read", "read"]}).json["scopes"] == ["read", "delete"]
    assert at.root.ask.get(target).json["groups"] == [group]
    assert at.root.ask.call("PUT", target, {"groups": []}).json["scopes"] == ["read", "delete"]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_what_is_wrong_is_named(at: Place, field: str, value: object) -> None:
    person = at.user()
    before = at.root.ask.pages("/api/users?limit=1000", "users")
    bodies = ({"nickname": fresh(), field: value}, {field: value})
    for method, target, body in (
        ("POST", "/api/users", bodies[0]),
        ("POST", "/auth/users", bodies[0]),
        ("PUT", f"/api/users/{person.uuid}", bodies[1]),
    ):
        reply = at.root.ask.call(method, target, body)
        assert (reply.status, reply.json.get("field")) == (400, field)
    assert at.root.ask.pages("/api/users?limit=1000", "users") == before


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b"{", b'{"nickname":NaN}', b'{"nickname":"\xff"}'])
def test_what_is_no_document_is_refused(at: Place, body: bytes) -> None:
    for method, target in (("POST", "/api/users"), ("PUT", f"/api/users/{at.root.uuid}")):
        assert at.root.ask.send(method, target, body).status == 400
    missing = at.root.ask.send("POST", "/api/users", b"{}")
    assert (missing.status, missing.json["field"]) == (400, "nickname")


def test_unknown_fields_are_ignored(at: Place) -> None:
    uuid = str(uuid4())
    given = {
        "nickname": fresh(),
        "uuid": uuid,
        "user_uuid": uuid,
        "created_at": 1,
        "password_hash": "x",
        "has_password": True,
        "admin": True,
    }
    made = at.root.ask.call("POST", "/api/users", given)
    assert made.status == 201
    assert made.json["uuid"] != uuid
    shown = at.root.ask.call("PUT", f"/api/users/{made.json['uuid']}", {**given, "nickname": fresh()}).json
    assert (shown["created_at"], shown["has_password"]) == (at.clock.now_ms, False)
    assert at.root.ask.get(f"/api/users/{uuid}").status == 404


def test_a_nickname_is_one_users(at: Place) -> None:
    ask, first, second = at.root.ask, at.user(), at.user()
    for taken in (
        ask.call("POST", "/api/users", {"nickname": first.nickname}),
        ask.call("PUT", f"/api/users/{second.uuid}", {"nickname": first.nickname, "scopes": []}),
    ):
        assert (taken.status, taken.code) == (409, "nickname_taken")
    assert ask.get(f"/api/users/{second.uuid}").json["scopes"] == ["read", "write", "delete"]
    assert ask.call("PUT", f"/api/users/{first.uuid}", {"nickname": first.nickname}).status == 200
    assert ask.call("POST", "/api/groups", {"groupname": first.nickname}).status == 201
    for different in (first.nickname.upper(), first.nickname + " ", "caf\u00e9" + first.nickname):
        assert at.user(nickname=different).uuid != first.uuid
    assert at.user(nickname="cafe\u0301" + first.nickname).nickname != "caf\u00e9" + first.nickname

    assert ask.call("PUT", f"/api/users/{first.uuid}", {"nickname": fresh()}).status == 200
    heir = at.user(nickname=first.nickname)
    assert ask.delete(f"/api/users/{heir.uuid}").status == 204
    assert at.user(nickname=first.nickname).uuid not in (first.uuid, heir.uuid)


def test_of_two_at_once_one_gets_the_nickname(at: Place) -> None:
    body = {"nickname": fresh()}
    callers = [at.again(at.root).ask for _ in range(8)]
    with ThreadPoolExecutor(len(callers)) as threads:
        replies = list(threads.map(lambda caller: caller.call("POST", "/api/users", body), callers))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7
    (made,) = (reply.json["uuid"] for reply in replies if reply.status == 201)
    assert [
        user["uuid"]
        for user in at.root.ask.get(f"/api/users?nickname={body['nickname'].replace(' ', '+')}").json["users"]
    ] == [made]


def test_a_user_is_found_by_nickname(at: Place) -> None:
    person = at.user(nickname="Zoë & Söhne/ÄÖ")
    page = at.root.ask.get("/auth/users?nickname=Zo%C3%AB+%26+S%C3%B6hne%2F%C3%84%C3%96").json
    assert [user["uuid"] for user in page["users"]] == [person.uuid]
    assert page["next_cursor"] is None
    nobody = at.root.ask.get("/api/users?nickname=zo%C3%AB")
    assert (nobody.status, nobody.json) == (200, {"users": [], "next_cursor": None})


@pytest.mark.parametrize("uuid", ["x", "%00", "..", "%2e%2e", "a%2Fb", "'", "0" * 31, "0" * 5000, NOBODY])
def test_there_is_nothing_under_another_uuid(at: Place, uuid: str) -> None:
    for resource in ("users", "groups"):
        for method, document in (("GET", None), ("PUT", {}), ("DELETE", None)):
            reply = at.root.ask.call(method, f"/api/{resource}/{uuid}", document)
            assert (reply.status, reply.code) == (404, "not_found")


def test_a_uuid_has_more_than_one_spelling(at: Place) -> None:
    person = at.user()
    for spelled in (person.uuid.upper(), person.uuid.replace("-", "")):
        assert at.root.ask.get(f"/api/users/{spelled}").json["uuid"] == person.uuid


def test_pages_show_every_user_once(at: Place) -> None:
    made = {at.user().uuid for _ in range(12)}
    whole = at.root.ask.get("/api/users?limit=1000").json
    assert whole["next_cursor"] is None
    everybody = [user["uuid"] for user in whole["users"]]
    assert made < set(everybody)
    for limit in (1, 3, len(everybody) - 1, len(everybody)):
        found = at.root.ask.pages(f"/auth/users?limit={limit}", "users")
        assert [user["uuid"] for user in found] == everybody
        assert len(at.root.ask.get(f"/api/users?limit={limit}").json["users"]) == limit
    assert all(set(user) == MEMBERS for user in whole["users"])


def test_users_that_go_between_two_pages_hide_no_other(at: Place) -> None:
    made = [at.user() for _ in range(9)]
    everybody = [user["uuid"] for user in at.root.ask.pages("/api/users?limit=1000", "users")]
    first = at.root.ask.get("/api/users?limit=2").json
    gone = [person.uuid for person in made[::2]]
    for uuid in gone:
        assert at.root.ask.delete(f"/api/users/{uuid}").status == 204
    rest = at.root.ask.pages("/api/users?limit=2", "users", first["next_cursor"])
    found = [user["uuid"] for user in first["users"]] + [user["uuid"] for user in rest]
    assert found == [uuid for uuid in everybody if uuid not in gone or uuid in found[:2]]


def test_a_page_that_looked_at_enough_ends_early(at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for person in [at.user() for _ in range(9)]:
        at.root.ask.delete(f"/api/users/{person.uuid}")
    everybody = at.root.ask.get("/api/users?limit=1000").json["users"]
    monkeypatch.setattr("kvs.server.handlers.accounts.PAGE_MAX_SCANNED", 4)
    assert len(at.root.ask.get("/api/users?limit=1000").json["users"]) <= 4
    assert at.root.ask.pages("/api/users?limit=1000", "users") == everybody


@pytest.mark.parametrize("resource", ["users", "groups", "tokens"])
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=dXNlci8", "cursor"),
        ("limit=1&limit=2", "query"),
        ("limit=%FF", "query"),
    ],
)
def test_a_page_takes_only_what_it_gave(at: Place, resource: str, query: str, field: str) -> None:
    for named in ("", "&nickname=root", "&groupname=admin", f"&user_uuid={at.root.uuid}"):
        reply = at.root.ask.get(f"/api/{resource}?{query}{named}")
        assert (reply.status, reply.json["field"]) == (400, field)


def test_the_cursor_of_another_list_shows_nothing_else(at: Place) -> None:
    at.user()
    at.group()
    kinds = ("users", "groups", "tokens")
    cursors = {kind: at.root.ask.get(f"/api/{kind}?limit=1").json["next_cursor"] for kind in kinds}
    whole = {kind: at.root.ask.pages(f"/api/{kind}?limit=1000", kind) for kind in kinds}
    for kind in kinds:
        for cursor in cursors.values():
            shown = at.root.ask.get(f"/api/{kind}?limit=1000&cursor={cursor}").json
            assert all(item in whole[kind] for item in shown[kind])


def test_a_user_is_in_a_bounded_number_of_groups(at: Place) -> None:
    groups = [at.group() for _ in range(GROUPS_PER_USER_MAX + 1)]
    most, person = groups[1:], at.user()
    target = f"/api/users/{person.uuid}"
    for method, where, named in (("POST", "/api/users", {"nickname": fresh()}), ("PUT", target, {})):
        reply = at.root.ask.call(method, where, {**named, "groups": groups})
        assert (reply.status, reply.json["field"]) == (400, "groups")
    assert json.loads(at.root.ask.call("PUT", target, {"groups": most}).body)["groups"] == most
    assert at.root.ask.get(f"/api/groups/{groups[0]}").json["members"] == []
