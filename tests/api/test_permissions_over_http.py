"""Who may do what with a key, over every route that leads to it."""

from collections.abc import Callable
from itertools import count
from uuid import uuid4

import pytest

from tests.api.accounts import Caller, Person, Place
from tests.api.permitted import BULK, DELETES, METADATA, READS, WRITES, statuses

_numbers = count(1)
MEMBERS = {"owner_uuid", "group_uuid", "permissions", "ttl", "created_at", "updated_at"}
CLASSES = ("owner", "group", "others")
ACTIONS = ("create", "delete", "write", "read")


def set_metadata(person: Person, key: str, **fields: object) -> None:
    reply = person.ask.call("PUT", f"/kv/{key}/metadata", fields)
    assert reply.status == 200, reply


def put(caller: Caller, key: str, value: bytes = b'"value"') -> int:
    return caller.put(f"/kv/{key}", value).status


@pytest.fixture
def key() -> str:
    return f"people/key{next(_numbers)}"


def test_a_reader_reads_and_a_writer_writes(at: Place, key: str) -> None:
    writer, reader, both = at.user("write"), at.user("read"), at.user("read", "write")
    assert put(writer.ask, key) == 201
    assert writer.ask.get(f"/kv/{key}").status == 403
    for person in (reader, both):
        assert person.ask.get(f"/kv/{key}").json["data"] == "value"
        assert put(person.ask, key) == 403
        assert person.ask.delete(f"/kv/{key}").status == 403
    assert put(reader.ask, f"{key}/new") == 403
    assert put(writer.ask, key, b"2") == 200
    assert reader.ask.get(f"/kv/{key}").json["data"] == 2


def test_a_closed_key_is_closed_on_every_way(at: Place, key: str) -> None:
    owner, other = at.user(), at.user()
    for value in (b'"secret one"', b'"secret two"', b'"secret three"'):
        assert put(owner.ask, key, value) in (200, 201)
    assert other.ask.get(f"/kv/{key}").json["data"] == "secret three"
    set_metadata(owner, key, permissions=3840)
    before = owner.ask.get(f"/api/data/{key}/history").body
    uuid = owner.ask.get(f"/kv/{key}").json["uuid"]

    for ways in (READS, WRITES, DELETES, METADATA, BULK):
        assert {name: status for name, status in statuses(other.ask, ways, key, uuid) if status != 403} == {}
    for way in (*READS, *WRITES, *DELETES, *METADATA, *BULK):
        assert b"secret" not in way.ask(other.ask, key, uuid).body
    for target in (f"/kv/_range?prefix={key}", f"/kv/_range?start_key={key}&end_key={key}", f"/kv/_list?prefix={key}"):
        assert key.encode() not in other.ask.get(target).body
        assert key.encode() in owner.ask.get(target).body
    twice = key.replace("/", "%252F")
    for target in (f"/kv/{twice}", f"/api/data/{twice}/history", f"/kv/{key.replace('e', '%2565')}"):
        assert other.ask.get(target).status == 404

    assert owner.ask.get(f"/api/data/{key}/history").body == before
    assert put(owner.ask, key, b'"four"') == 200
    assert owner.ask.post(f"/api/data/{key}/history/2/restore").status == 200
    assert owner.ask.get(f"/kv/{key}").json["data"] == "secret three"
    assert owner.ask.get(f"/kv/{key}/metadata").json["permissions"] == 3840
    assert owner.ask.delete(f"/kv/{key}").status == 204


@pytest.mark.parametrize("bit", range(12))
def test_a_bit_lets_one_class_do_one_thing(at: Place, key: str, bit: int) -> None:
    team = at.group()
    people = dict(zip(CLASSES, (at.user(), at.user(groups=[team]), at.user()), strict=True))
    metadata = {"owner_uuid": people["owner"].uuid, "group_uuid": team, "permissions": 1 << bit}
    allowed = (CLASSES[(11 - bit) // 4], ACTIONS[(11 - bit) % 4])
    for name, person in people.items():
        set_metadata(at.root, key, **metadata)
        done = {"create": put(person.ask, key) == 201}
        assert put(at.root.ask, key) in (200, 201)
        done["read"] = person.ask.get(f"/kv/{key}").status == 200
        done["write"] = put(person.ask, key) == 200
        done["delete"] = person.ask.delete(f"/kv/{key}").status == 204
        assert {action for action, could in done.items() if could} == {
            action for action in ACTIONS if (name, action) == allowed
        }
        at.root.ask.delete(f"/kv/{key}")


def test_the_first_class_that_fits_decides(at: Place, key: str) -> None:
    team = at.group()
    owner, member, other = at.user(groups=[team]), at.user(groups=[team]), at.user()
    put(owner.ask, key)
    set_metadata(owner, key, group_uuid=team, permissions=0x00F)
    assert [person.ask.get(f"/kv/{key}").status for person in (owner, member, other)] == [403, 403, 200]
    set_metadata(owner, key, permissions=0x0F0)
    assert [person.ask.get(f"/kv/{key}").status for person in (owner, member, other)] == [403, 200, 403]
    set_metadata(owner, key, permissions=0xF00)
    assert [person.ask.get(f"/kv/{key}").status for person in (owner, member, other)] == [200, 403, 403]


def test_who_leaves_a_group_loses_its_keys_at_once(at: Place, key: str) -> None:
    team, other_team = at.group(), at.group()
    owner, member = at.user(), at.user(groups=[team, other_team])
    put(owner.ask, key)
    set_metadata(owner, key, group_uuid=team, permissions=0xFF0)

    def reaches() -> bool:
        replies = (member.ask.get(f"/kv/{key}").status, put(member.ask, key))
        assert replies in ((200, 200), (403, 403))
        return replies == (200, 200)

    assert reaches()
    at.root.ask.call("PUT", f"/api/groups/{team}", {"members": []})
    assert not reaches()
    at.root.ask.call("PUT", f"/api/users/{member.uuid}", {"groups": [team]})
    assert reaches()
    at.root.ask.call("PUT", f"/api/users/{member.uuid}", {"groups": [other_team]})
    assert not reaches()
    set_metadata(owner, key, group_uuid=other_team)
    assert reaches()
    at.root.ask.delete(f"/api/groups/{other_team}")
    assert not reaches()
    set_metadata(owner, key, group_uuid=None)
    assert not reaches()


def test_metadata_change_only_as_named(at: Place, key: str) -> None:
    owner, heir, target = at.user(), at.user(), f"/kv/{key}/metadata"
    put(owner.ask, key)
    for person in (owner, at.root):
        reply = person.ask.get(target)
        assert (reply.status, reply.code) == (404, "not_found")
    effective = owner.ask.get(f"{target}?effective=true").json
    assert set(effective) == MEMBERS
    assert (effective["owner_uuid"], effective["group_uuid"], effective["permissions"]) == (owner.uuid, None, 3889)

    closed = owner.ask.call("PUT", target, {"permissions": 3840}).json
    assert (closed["owner_uuid"], closed["permissions"]) == (owner.uuid, 3840)
    given = owner.ask.call("PUT", target, {"owner_uuid": heir.uuid}).json
    assert given == {**closed, "owner_uuid": heir.uuid}
    for way in ("GET", "PUT"):
        assert owner.ask.call(way, target, {} if way == "PUT" else None).status == 403
    assert owner.ask.get(f"/kv/{key}").status == 403
    assert heir.ask.get(target).json == given
    assert heir.ask.get(f"/kv/{key}").status == 200
    assert heir.ask.call("PUT", target, {"owner_uuid": None}).status == 200
    assert [person.ask.get(f"/kv/{key}").status for person in (owner, heir)] == [200, 403]


def test_an_owner_that_is_named_alone_leaves_the_default_permissions(at: Place, key: str) -> None:
    owner, heir, other = at.user(), at.user(), at.user()
    put(owner.ask, key)
    set_metadata(owner, key, owner_uuid=heir.uuid)
    assert heir.ask.get(f"/kv/{key}/metadata").json["permissions"] == 3889
    assert [put(person.ask, key) for person in (heir, owner, other)] == [200, 403, 403]
    assert other.ask.get(f"/kv/{key}").status == 200


@pytest.mark.parametrize("permissions", [0xFFF, 0x000])
def test_metadata_are_the_owners_and_the_administrators(at: Place, key: str, permissions: int) -> None:
    owner, other, bypasser = at.user(), at.user(), at.user("read", "write", "admin:kv")
    member, team = at.user(), at.group()
    at.root.ask.call("PUT", f"/api/groups/{team}", {"members": [member.uuid]})
    put(owner.ask, key)
    set_metadata(owner, key, permissions=permissions, group_uuid=team)
    reader, updater = at.user("admin:users:read"), at.user("admin:users:update")
    target = f"/kv/{key}/metadata"
    found = {
        name: (person.ask.get(target).status, person.ask.call("PUT", target, {}).status)
        for name, person in {
            "owner": owner,
            "other": other,
            "member": member,
            "bypasser": bypasser,
            "reader": reader,
            "updater": updater,
        }.items()
    }
    no, yes = (403, 403), (200, 200)
    assert found == {
        "owner": yes,
        "other": no,
        "member": no,
        "bypasser": no,
        "reader": (200, 403),
        "updater": (403, 200),
    }
    of_owner = {scope: at.caller(at.token(owner.uuid, [scope])) for scope in ("read", "write", "delete")}
    statuses_of = {
        scope: (ask.get(target).status, ask.call("PUT", target, {}).status) for scope, ask in of_owner.items()
    }
    assert statuses_of == {"read": (200, 403), "write": yes, "delete": no}


def test_writing_over_a_value_does_not_take_it(at: Place, key: str) -> None:
    team = at.group()
    owner, member, other = at.user(), at.user(groups=[team]), at.user()
    put(owner.ask, key)
    set_metadata(owner, key, group_uuid=team, owner_uuid=None, permissions=0xFF1)
    assert put(member.ask, key) == 200
    assert at.root.ask.get(f"/kv/{key}/metadata").json["owner_uuid"] == owner.uuid
    assert put(at.root.ask, key) == 200
    assert owner.ask.get(f"/kv/{key}/metadata").json["owner_uuid"] == owner.uuid
    assert other.ask.put(f"/kv/{key}", b"1").status == 403


def test_a_key_stays_its_owners_when_the_value_goes(at: Place, key: str) -> None:
    team = at.group()
    owner, member, other = at.user(), at.user(groups=[team]), at.user()
    put(owner.ask, key)
    set_metadata(owner, key, group_uuid=team, permissions=0xFF0)
    assert member.ask.delete(f"/kv/{key}").status == 204
    assert put(other.ask, key) == 403
    assert other.ask.get(f"/kv/{key}").status == 403
    assert put(member.ask, key) == 201
    assert member.ask.get(f"/kv/{key}/metadata").status == 403
    assert owner.ask.get(f"/kv/{key}/metadata").json["owner_uuid"] == owner.uuid
    assert owner.ask.put(f"/kv/{key}?ttl=10s", b"1").status == 200
    at.clock.now_ms += 10_000
    assert [put(person.ask, key) for person in (other, owner)] == [403, 201]


def test_a_plain_key_is_the_next_creators_once_it_is_free(at: Place, key: str) -> None:
    first, second = at.user(), at.user()
    put(first.ask, key)
    assert put(second.ask, key) == 403
    assert first.ask.delete(f"/kv/{key}").status == 204
    assert put(second.ask, key) == 201
    assert put(first.ask, key) == 403
    assert second.ask.get(f"/kv/{key}/metadata?effective").json["owner_uuid"] == second.uuid


def test_a_key_can_be_reserved_before_it_is_written(at: Place, key: str) -> None:
    owner, other = at.user(), at.user()
    set_metadata(at.root, key, owner_uuid=owner.uuid, permissions=0xF00)
    assert put(other.ask, key) == 403
    assert put(owner.ask, key) == 201
    assert other.ask.get(f"/kv/{key}").status == 403
    assert put(other.ask, f"{key}/below") == 201


def test_the_keys_of_a_removed_user_wait_for_another_owner(at: Place, key: str) -> None:
    owner, heir = at.user(), at.user()
    put(owner.ask, key)
    set_metadata(owner, key, permissions=0xF00)
    at.root.ask.delete(f"/api/users/{owner.uuid}")
    namesake = at.user(nickname=owner.nickname)
    assert [person.ask.get(f"/kv/{key}").status for person in (namesake, heir, at.root)] == [403, 403, 200]
    set_metadata(at.root, key, owner_uuid=heir.uuid)
    assert put(heir.ask, key) == 200


def test_a_scope_bypasses_permissions_and_no_scope(at: Place, key: str) -> None:
    owner = at.user()
    for value in (b"1", b"2"):
        put(owner.ask, key, value)
    set_metadata(owner, key, permissions=0)
    assert owner.ask.get(f"/kv/{key}").status == 403
    mighty, reader = at.user("read", "write", "delete", "admin:kv"), at.user("read", "admin:kv")
    assert reader.ask.get(f"/kv/{key}").json["data"] == 2
    assert [r["data"] for r in reader.ask.get(f"/api/data/{key}/history").json] == [2, 1]
    assert key.encode() in reader.ask.get(f"/kv/_range?prefix={key}").body
    assert key.encode() in reader.ask.get(f"/kv/_list?prefix={key}").body
    for ways in (WRITES, DELETES, BULK):
        assert {status for _, status in statuses(reader.ask, ways, key)} == {403}
    assert mighty.ask.post(f"/api/data/{key}/history/2/restore").status == 200
    assert mighty.ask.get(f"/kv/{key}").json["data"] == 1
    assert put(mighty.ask, key) == 200
    assert at.root.ask.get(f"/kv/{key}/metadata").json["owner_uuid"] == owner.uuid
    assert mighty.ask.delete(f"/kv/{key}").status == 204


def test_every_item_of_a_bulk_is_decided_by_itself(at: Place, key: str) -> None:
    owner, other = at.user(), at.user()
    put(owner.ask, f"{key}/closed")
    put(owner.ask, f"{key}/plain")
    put(other.ask, f"{key}/own")
    set_metadata(owner, f"{key}/closed", permissions=0xF00)
    items = [
        {"op": op, "path": f"{key}/{name}", **({"data": "forced"} if op == "put" else {})}
        for op, name in (
            ("put", "closed"),
            ("put", "own"),
            ("delete", "plain"),
            ("put", "new"),
            ("put", "plain"),
            ("delete", "closed"),
            ("delete", "own"),
        )
    ]
    reply = other.ask.call("POST", "/kv/_bulk", items)
    assert [result["status"] for result in reply.json["results"]] == [403, 200, 403, 201, 403, 403, 204]
    assert reply.json["results"][0] == reply.json["results"][5]
    values = {name: owner.ask.get(f"/kv/{key}/{name}") for name in ("closed", "plain", "own", "new")}
    assert [value.json["data"] for name, value in values.items() if name != "own"] == ["value", "value", "forced"]
    assert values["own"].status == 404


def test_who_asks_without_a_token_is_one_of_the_others(make_place: Callable[..., Place]) -> None:
    at = make_place(allow_anonymous_read=True, allow_anonymous_write=True)
    nobody, owner, also = at.caller(), at.user(), at.caller()
    assert put(nobody, "free") == 201
    assert put(also, "free") == 200
    assert owner.ask.get("/kv/free").status == 200
    assert put(owner.ask, "free") == 403
    assert owner.ask.get("/kv/free/metadata?effective").status == 403
    assert at.root.ask.get("/kv/free/metadata?effective").json["owner_uuid"] is None

    put(owner.ask, "plain")
    put(owner.ask, "closed")
    set_metadata(owner, "closed", permissions=0xFF0)
    put(owner.ask, "shared")
    set_metadata(owner, "shared", permissions=0xF0F)
    found = {key: (nobody.get(f"/kv/{key}").status, put(nobody, key)) for key in ("plain", "closed", "shared")}
    assert found == {"plain": (200, 403), "closed": (403, 403), "shared": (200, 200)}
    assert nobody.delete("/kv/shared").status == 401
    assert nobody.get("/kv/shared/metadata").status == 401
    items = [{"op": "put", "path": key, "data": 1} for key in ("plain", "shared", "new")]
    items += [{"op": "delete", "path": "new"}]
    results = nobody.call("POST", "/kv/_bulk", items).json["results"]
    assert [result["status"] for result in results] == [403, 200, 201, 401]
    assert [pair["path"] for pair in nobody.get("/kv/_range").json["pairs"]] == ["free", "new", "plain", "shared"]
    assert owner.ask.get("/kv/shared/metadata").json["owner_uuid"] == owner.uuid

    set_metadata(at.root, "free", owner_uuid=owner.uuid)
    assert (put(nobody, "free"), put(owner.ask, "free")) == (403, 200)
    assert nobody.post("/api/data/free/history/2/restore").status == 403


def test_a_token_is_looked_at_where_none_is_needed(make_place: Callable[..., Place]) -> None:
    at = make_place(allow_anonymous_read=True, allow_anonymous_write=True)
    put(at.root.ask, "a")
    assert at.caller().get("/kv/a").status == 200
    assert at.caller("worthless").get("/kv/a").status == 401
    assert at.user("write").ask.get("/kv/a").status == 403
    assert at.user("read").ask.put("/kv/b", b"1").status == 403


def test_metadata_name_whoever_they_like(at: Place, key: str) -> None:
    """There is no check that an owner or group exists: it may be known to another node first."""
    owner, nobody = at.user(), str(uuid4())
    put(owner.ask, key)
    set_metadata(owner, key, group_uuid=nobody)
    set_metadata(owner, key, owner_uuid=nobody.upper())
    assert at.root.ask.get(f"/kv/{key}/metadata").json["owner_uuid"] == nobody
    assert put(owner.ask, key) == 403
