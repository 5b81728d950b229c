"""Nobody gives away more than they have."""

from collections.abc import Iterator
from itertools import count

import pytest

from kvs.auth.scopes import ALL, DATA
from tests.api.accounts import Place, claims, place
from tests.api.client import Reply

_numbers = count(1)
ACCOUNTS = ("admin:users:create", "admin:users:read", "admin:users:update", "admin:tokens:create")
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("escalation") / "data") as made:
        yield made


def fresh() -> str:
    return f"fresh {next(_numbers)}"


def refused(reply: Reply) -> bool:
    return (reply.status, reply.code) == (403, "scope_exceeded")


@pytest.mark.parametrize("scope", ALL)
def test_no_scope_is_given_by_whoever_lacks_it(at: Place, scope: str) -> None:
    maker = at.user(*(other for other in ALL if other != scope))
    person = at.user()
    able = [one for one in ALL if one != scope]
    if scope != "admin:tokens:create":
        for wanted in ([scope], [*able, scope], ALL):
            for user in (maker.uuid, person.uuid, at.root.uuid):
                assert refused(maker.ask.call("POST", "/api/tokens", {"user_uuid": user, "scopes": list(wanted)}))
        assert maker.ask.call("POST", "/auth/tokens", {"user_uuid": person.uuid, "scopes": able}).status == 201
    if scope != "admin:users:create":
        assert refused(maker.ask.call("POST", "/api/users", {"nickname": fresh(), "scopes": [scope]}))
        assert maker.ask.call("POST", "/auth/users", {"nickname": fresh(), "scopes": able}).status == 201
    if scope != "admin:users:update":
        for user in (maker.uuid, person.uuid):
            assert refused(maker.ask.call("PUT", f"/api/users/{user}", {"scopes": [scope]}))
        assert maker.ask.call("PUT", f"/auth/users/{person.uuid}", {"scopes": able}).status == 200
    kept = at.root.ask.get(f"/api/users/{maker.uuid}").json["scopes"]
    assert kept == list(DATA)


def test_nobody_makes_a_member_of_a_group_who_may_not_change_memberships(at: Place) -> None:
    """Or the new user would have the rights of any group, and its maker could log in as it."""
    kept = at.group()
    for scope in (one for one in ALL if one not in ("admin:users:update", "admin:groups:update")):
        reply = at.user("admin:users:create", scope).ask.call(
            "POST", "/api/users", {"nickname": fresh(), "password": PASSWORD, "groups": [kept]}
        )
        assert (reply.status, reply.code) == (403, "forbidden"), scope
    assert at.root.ask.get(f"/api/groups/{kept}").json["members"] == []
    for scope in ("admin:users:update", "admin:groups:update"):
        maker = at.user("admin:users:create", scope)
        made = maker.ask.call("POST", "/api/users", {"nickname": fresh(), "groups": [kept]})
        assert made.status == 201
        assert made.json["uuid"] in at.root.ask.get(f"/api/groups/{kept}").json["members"]
    assert (
        at.user("admin:users:create").ask.call("POST", "/api/users", {"nickname": fresh(), "groups": []}).status == 201
    )


def test_a_new_user_has_no_scope_that_its_maker_lacks(at: Place) -> None:
    for scopes in (ACCOUNTS, (*ACCOUNTS, "read"), (*ACCOUNTS, *DATA)):
        maker = at.user(*scopes)
        made = maker.ask.call("POST", "/api/users", {"nickname": fresh(), "password": PASSWORD})
        assert made.status == 201
        shown = at.root.ask.get(f"/api/users/{made.json['uuid']}").json
        assert shown["scopes"] == [scope for scope in scopes if scope in DATA]


def test_a_login_gives_no_scope_that_the_users_maker_lacks(at: Place) -> None:
    maker, nickname = at.user(*ACCOUNTS, "write"), fresh()
    assert maker.ask.call("POST", "/api/users", {"nickname": nickname, "password": PASSWORD}).status == 201
    token = at.caller().call("POST", "/api/login", {"nickname": nickname, "password": PASSWORD}).json["token"]
    assert claims(token)["scopes"] == ["write"]
    assert at.caller(token).get("/kv/absent").status == 403


def test_the_password_of_a_mightier_user_is_out_of_reach(at: Place) -> None:
    maker = at.user(*ACCOUNTS)
    mighty = at.user("read", scopes=["read", "admin:audit"], password=PASSWORD)
    for target in (f"/api/users/{mighty.uuid}", f"/auth/users/{at.root.uuid}"):
        before = at.root.ask.get(target).json
        bodies: list[dict[str, object]] = [
            {"password": "mine now!"},
            {"password": None},
            {"password": "mine now!", "scopes": []},
        ]
        for body in bodies:
            assert refused(maker.ask.call("PUT", target, body))
        assert at.root.ask.get(target).json == before
    good = {"nickname": mighty.nickname, "password": PASSWORD}
    assert at.caller().call("POST", "/api/login", good).status == 200
    weak = at.user("read", scopes=[])
    assert maker.ask.call("PUT", f"/api/users/{weak.uuid}", {"password": PASSWORD}).status == 200


def test_what_is_refused_to_one_scope_is_not_done(at: Place) -> None:
    """A token for reading users changes none of them, under no method and no name."""
    person, reader = at.user(), at.user("admin:users:read", "admin:groups:read", "admin:tokens:read")
    group = at.group(person.uuid)
    kinds = {"users": person.uuid, "groups": group}
    before = {kind: at.root.ask.get(f"/api/{kind}/{uuid}").json for kind, uuid in kinds.items()}
    for name in ("/api", "/auth"):
        for kind, uuid in kinds.items():
            assert reader.ask.get(f"{name}/{kind}/{uuid}").json == before[kind]
            for method, target, document in (
                ("POST", f"{name}/{kind}", {"nickname": fresh(), "groupname": fresh()}),
                ("PUT", f"{name}/{kind}/{uuid}", {"members": [], "groups": []}),
                ("DELETE", f"{name}/{kind}/{uuid}", None),
            ):
                reply = reader.ask.call(method, target, document)
                assert (reply.status, reply.code) == (403, "forbidden")
    assert {kind: at.root.ask.get(f"/api/{kind}/{uuid}").json for kind, uuid in kinds.items()} == before
