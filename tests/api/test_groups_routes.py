"""`/api/groups`, also as `/auth/groups`, and that a membership stands on both sides."""

from collections.abc import Iterable
from hashlib import sha3_512
from itertools import count
from uuid import uuid4

import pytest

from kvs.limits import MEMBERS_PER_GROUP_MAX, NAME_MAX_BYTES
from tests.api.accounts import Place

_numbers = count(1)
BAD_FIELDS: list[tuple[str, object]] = [
    ("groupname", 5),
    ("groupname", None),
    ("groupname", ""),
    ("groupname", "\t"),
    ("groupname", "x" * (NAME_MAX_BYTES + 1)),
    ("members", "none"),
    ("members", None),
    ("members", [1]),
    ("members", ["not a uuid"]),
    ("members", [str(uuid4())]),
    ("members", [str(uuid4()) for _ in range(MEMBERS_PER_GROUP_MAX + 1)]),
]


def fresh() -> str:
    """A name that no group has."""
    return f"fresh group {next(_numbers)}"


def members(at: Place, group: str) -> list[str]:
    return list(at.root.ask.get(f"/api/groups/{group}").json["members"])


def groups(at: Place, user: str) -> list[str]:
    return list(at.root.ask.get(f"/api/users/{user}").json["groups"])


def set_members(at: Place, group: str, uuids: Iterable[str]) -> None:
    reply = at.root.ask.call("PUT", f"/api/groups/{group}", {"members": list(uuids)})
    assert reply.status == 200, reply


def set_groups(at: Place, user: str, uuids: Iterable[str]) -> None:
    reply = at.root.ask.call("PUT", f"/api/users/{user}", {"groups": list(uuids)})
    assert reply.status == 200, reply


@pytest.mark.parametrize(("name", "other"), [("/api", "/auth"), ("/auth", "/api")])
def test_a_group_is_made_shown_changed_and_removed(at: Place, name: str, other: str) -> None:
    ask, groupname, renamed, person = at.root.ask, fresh(), fresh(), at.user()
    made = ask.call("POST", f"{name}/groups", {"groupname": groupname, "members": [person.uuid, person.uuid.upper()]})
    assert (made.status, set(made.json)) == (201, {"uuid"})
    target = f"{name}/groups/{made.json['uuid']}"
    shown = ask.get(target).json
    assert shown == {
        "uuid": made.json["uuid"],
        "groupname_hash": sha3_512(groupname.encode()).hexdigest(),
        "members": [person.uuid],
        "created_at": at.clock.now_ms,
        "updated_at": at.clock.now_ms,
    }
    assert ask.get(made.headers["location"]).json == shown

    at.clock.now_ms += 1000
    changed = ask.call("PUT", target, {"groupname": renamed, "uuid": str(uuid4()), "owner": 1}).json
    assert changed == {
        **shown,
        "groupname_hash": sha3_512(renamed.encode()).hexdigest(),
        "updated_at": at.clock.now_ms,
    }
    assert ask.get(target.replace(name, other)).json == changed

    assert ask.delete(target).status == 204
    for method, document in (("GET", None), ("PUT", {}), ("DELETE", None)):
        for gone in (target, target.replace(name, other)):
            reply = ask.call(method, gone, document)
            assert (reply.status, reply.code) == (404, "not_found")


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_what_is_wrong_is_named(at: Place, field: str, value: object) -> None:
    group = at.group(at.user().uuid)
    before = at.root.ask.pages("/api/groups?limit=1000", "groups")
    for method, target, body in (
        ("POST", "/api/groups", {"groupname": fresh(), field: value}),
        ("POST", "/auth/groups", {"groupname": fresh(), field: value}),
        ("PUT", f"/api/groups/{group}", {field: value}),
    ):
        reply = at.root.ask.call(method, target, body)
        assert (reply.status, reply.json.get("field")) == (400, field)
    assert at.root.ask.call("POST", "/api/groups", {"members": []}).json["field"] == "groupname"
    assert at.root.ask.pages("/api/groups?limit=1000", "groups") == before


def test_a_groupname_is_one_groups(at: Place) -> None:
    ask, name = at.root.ask, fresh()
    first = ask.call("POST", "/api/groups", {"groupname": name}).json["uuid"]
    second = at.group()
    for taken in (
        ask.call("POST", "/auth/groups", {"groupname": name}),
        ask.call("PUT", f"/api/groups/{second}", {"groupname": name}),
    ):
        assert (taken.status, taken.code) == (409, "groupname_taken")
    found = ask.get(f"/api/groups?groupname={name.replace(' ', '%20')}").json
    assert [group["uuid"] for group in found["groups"]] == [first]
    assert at.user(nickname=name).nickname == name
    assert ask.delete(f"/api/groups/{first}").status == 204
    assert ask.get(f"/api/groups?groupname={name.replace(' ', '%20')}").json == {"groups": [], "next_cursor": None}
    assert ask.call("PUT", f"/api/groups/{second}", {"groupname": name}).status == 200


def test_pages_show_every_group_once(at: Place) -> None:
    made = {at.group() for _ in range(11)}
    everything = [group["uuid"] for group in at.root.ask.get("/api/groups?limit=1000").json["groups"]]
    assert made < set(everything)
    for limit in (1, 4, len(everything)):
        assert [group["uuid"] for group in at.root.ask.pages(f"/auth/groups?limit={limit}", "groups")] == everything


def test_who_is_made_with_groups_is_a_member_of_them(at: Place) -> None:
    both = [at.group(), at.group()]
    person = at.user(groups=both)
    assert groups(at, person.uuid) == both
    assert [members(at, group) for group in both] == [[person.uuid], [person.uuid]]


def test_a_group_that_is_made_with_members_is_one_of_theirs(at: Place) -> None:
    people = [at.user().uuid, at.user().uuid]
    group = at.group(*people)
    assert members(at, group) == people
    assert [groups(at, user) for user in people] == [[group], [group]]


def test_a_change_of_a_users_groups_changes_their_members(at: Place) -> None:
    one, two, three = at.group(), at.group(), at.group()
    person, other = at.user(groups=[one, two]), at.user(groups=[one, two])
    set_groups(at, person.uuid, [three, two, three])
    assert groups(at, person.uuid) == [three, two]
    assert [members(at, group) for group in (one, two, three)] == [
        [other.uuid],
        [person.uuid, other.uuid],
        [person.uuid],
    ]
    assert groups(at, other.uuid) == [one, two]


def test_a_change_of_a_groups_members_changes_their_groups(at: Place) -> None:
    one, two, three = at.user().uuid, at.user().uuid, at.user().uuid
    kept = at.group(one, two)
    group = at.group(one, two)
    set_members(at, group, [three, two])
    assert members(at, group) == [three, two]
    assert [groups(at, user) for user in (one, two, three)] == [[kept], [kept, group], [group]]


def test_who_is_removed_is_no_member_any_more(at: Place) -> None:
    person, other = at.user(), at.user()
    both = [at.group(person.uuid, other.uuid), at.group(person.uuid)]
    assert at.root.ask.delete(f"/api/users/{person.uuid}").status == 204
    assert [members(at, group) for group in both] == [[other.uuid], []]
    assert at.root.ask.call("PUT", f"/api/groups/{both[0]}", {"members": [person.uuid]}).status == 400


def test_a_group_that_is_removed_is_nobodys_any_more(at: Place) -> None:
    kept, gone = at.group(), at.group()
    people = [at.user(groups=[gone, kept]), at.user(groups=[gone])]
    assert at.root.ask.delete(f"/api/groups/{gone}").status == 204
    assert [groups(at, person.uuid) for person in people] == [[kept], []]
    assert at.root.ask.call("PUT", f"/api/users/{people[0].uuid}", {"groups": [gone]}).status == 400
    assert groups(at, people[0].uuid) == [kept]


def test_a_change_that_is_refused_changes_neither_side(at: Place) -> None:
    group, person = at.group(), at.user()
    nobody = str(uuid4())
    bad_user = {"nickname": fresh(), "groups": [group, nobody]}
    assert at.root.ask.call("POST", "/api/users", bad_user).status == 400
    assert at.root.ask.call("PUT", f"/api/users/{person.uuid}", {"groups": [group, nobody]}).status == 400
    assert members(at, group) == []
    bad_group = {"groupname": fresh(), "members": [person.uuid, nobody]}
    assert at.root.ask.call("POST", "/api/groups", bad_group).status == 400
    assert at.root.ask.call("PUT", f"/api/groups/{group}", {"members": [person.uuid, nobody]}).status == 400
    assert groups(at, person.uuid) == []
    assert at.root.ask.call("POST", "/api/groups", {**bad_group, "members": []}).status == 201
