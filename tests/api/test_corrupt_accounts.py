"""Records of users, groups, names and tokens that rotted, or that hold something else than their name says: never
believed, named in the log, and possible to remove."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import structlog

from kvs.auth.accounts import name_hash
from kvs.auth.tokens import token_hash
from kvs.storage.codec import decode, encode
from kvs.storage.keyspace import system_key
from kvs.storage.memory import MemoryStore
from tests.api.accounts import Place


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def at(make_place: Callable[..., Place], store: MemoryStore) -> Place:
    return make_place(store=store)


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


Corrupt = Callable[[str], None]


@pytest.fixture(params=["a flipped bit", "another document", "no JSON"])
def corrupt(store: MemoryStore, request: pytest.FixtureRequest) -> Corrupt:
    """Spoils the record under a name."""

    def spoil(name: str) -> None:
        entry = system_key(name.encode())
        raw = store.get(entry)
        assert raw is not None
        if request.param == "a flipped bit":
            store.commit({entry: raw[:-1] + bytes((raw[-1] ^ 1,))})
        else:
            stored = decode(entry, raw)
            payload = b"{" if request.param == "no JSON" else b'{"uuid":1,"user_uuid":[],"token_id":null}'
            record = msgspec.structs.replace(stored.record, payload=payload)
            store.commit({entry: encode(entry, msgspec.structs.replace(stored, record=record))})

    return spoil


def is_named(log: list[Any], name: str) -> bool:
    found = any(name in str(entry) for entry in log)
    log.clear()
    return found


def uuids(at: Place, resource: str) -> list[str]:
    return [shown["uuid"] for shown in at.root.ask.pages(f"/api/{resource}?limit=1000", resource)]


@pytest.mark.parametrize(("resource", "kind"), [("users", "user"), ("groups", "group")])
def test_lists_leave_it_out(at: Place, corrupt: Corrupt, log: list[Any], resource: str, kind: str) -> None:
    made = [at.user().uuid if kind == "user" else at.group() for _ in range(3)]
    before = uuids(at, resource)
    corrupt(f"{kind}/{made[1]}")
    assert uuids(at, resource) == [uuid for uuid in before if uuid != made[1]]
    assert is_named(log, f"{kind}/{made[1]}")
    shown = at.root.ask.get(f"/api/{resource}/{made[1]}")
    assert (shown.status, shown.code) == (503, "corrupt_record")
    assert is_named(log, f"{kind}/{made[1]}")
    changed = at.root.ask.call("PUT", f"/api/{resource}/{made[1]}", {})
    assert (changed.status, changed.code) == (503, "corrupt_record")
    assert is_named(log, f"{kind}/{made[1]}")


def test_a_user_is_removed(at: Place, corrupt: Corrupt, log: list[Any]) -> None:
    groups = [at.group(), at.group()]
    gone, other = at.user(groups=groups, nickname="gone"), at.user(groups=groups)
    assert gone.ask.put("/kv/a", b"1").status == 201
    corrupt(f"user/{gone.uuid}")
    log.clear()
    at.root.ask.call("PUT", f"/api/groups/{groups[0]}", {"members": [gone.uuid, other.uuid]})
    assert at.user("admin:users:update").ask.delete(f"/api/users/{gone.uuid}").status == 403
    assert at.root.ask.delete(f"/api/users/{gone.uuid}").status == 204
    assert is_named(log, f"user/{gone.uuid}")
    assert gone.ask.get("/kv/a").status == 401
    for group in groups:
        assert at.root.ask.get(f"/api/groups/{group}").json["members"] == [other.uuid]
    assert at.root.ask.get("/api/users?nickname=gone").json["users"] == []
    assert at.user(nickname="gone").uuid != gone.uuid
    assert at.root.ask.delete(f"/api/users/{gone.uuid}").status == 404


def test_a_group_is_removed_with_the_rights_it_gave(at: Place, corrupt: Corrupt, log: list[Any]) -> None:
    owner, member, other = at.user(), at.user(), at.user()
    group, kept = at.group(member.uuid, other.uuid), at.group(member.uuid)
    owner.ask.put("/kv/a", b"1")
    assert owner.ask.call("PUT", "/kv/a/metadata", {"group_uuid": group, "permissions": 0xFF0}).status == 200
    assert member.ask.get("/kv/a").status == 200
    corrupt(f"group/{group}")
    assert at.user("admin:groups:update").ask.delete(f"/api/groups/{group}").status == 403
    assert at.root.ask.delete(f"/api/groups/{group}").status == 204
    assert is_named(log, f"group/{group}")
    assert member.ask.get("/kv/a").status == 403
    assert at.root.ask.get(f"/api/users/{member.uuid}").json["groups"] == [kept]
    assert at.root.ask.get(f"/api/users/{other.uuid}").json["groups"] == []
    assert at.root.ask.delete(f"/api/groups/{group}").status == 404


def test_who_was_in_a_corrupt_group_can_leave_and_be_removed(at: Place, corrupt: Corrupt, log: list[Any]) -> None:
    group = at.group()
    leaver, gone = at.user(groups=[group]), at.user(groups=[group])
    corrupt(f"group/{group}")
    assert at.root.ask.call("PUT", f"/api/users/{leaver.uuid}", {"groups": []}).json["groups"] == []
    assert is_named(log, f"group/{group}")
    assert at.root.ask.delete(f"/api/users/{gone.uuid}").status == 204
    assert is_named(log, f"group/{group}")
    refused = at.root.ask.call("PUT", f"/api/users/{leaver.uuid}", {"groups": [group]})
    assert (refused.status, refused.code) == (503, "corrupt_record")
    assert at.root.ask.get(f"/api/users/{leaver.uuid}").json["groups"] == []


def test_a_group_with_a_corrupt_member_is_removed(at: Place, corrupt: Corrupt) -> None:
    member, other = at.user(), at.user()
    groups = [at.group(member.uuid, other.uuid) for _ in range(2)]
    corrupt(f"user/{member.uuid}")
    put = at.root.ask.call("PUT", f"/api/groups/{groups[0]}", {"members": [other.uuid]})
    assert put.json["members"] == [other.uuid]
    assert at.root.ask.delete(f"/api/groups/{groups[1]}").status == 204
    assert at.root.ask.get(f"/api/users/{other.uuid}").json["groups"] == groups[:1]
    refused = at.root.ask.call("PUT", f"/api/groups/{groups[0]}", {"members": [member.uuid]})
    assert (refused.status, refused.code) == (503, "corrupt_record")


@pytest.mark.parametrize(("resource", "name"), [("users", "nickname"), ("groups", "groupname")])
def test_a_name_is_free_once_its_account_is_removed(
    at: Place, corrupt: Corrupt, log: list[Any], resource: str, name: str
) -> None:
    made = at.root.ask.call("POST", f"/api/{resource}", {name: "rotten"}).json["uuid"]
    document = f"{name}/{name_hash('rotten')}"
    corrupt(document)
    asked = (
        at.root.ask.get(f"/api/{resource}?{name}=rotten"),
        at.root.ask.call("POST", f"/api/{resource}", {name: "rotten"}),
    )
    for reply in asked:
        assert (reply.status, reply.code) == (503, "corrupt_record")
    assert is_named(log, document)
    assert made in uuids(at, resource)
    assert at.root.ask.delete(f"/api/{resource}/{made}").status == 204
    assert is_named(log, document)
    assert at.root.ask.call("POST", f"/api/{resource}", {name: "rotten"}).status == 201


def test_a_name_is_mended_by_another_one(at: Place, corrupt: Corrupt) -> None:
    person = at.user(nickname="rotten")
    corrupt(f"nickname/{name_hash('rotten')}")
    for nickname in ("sound", "rotten"):
        assert at.root.ask.call("PUT", f"/api/users/{person.uuid}", {"nickname": nickname}).status == 200
    (found,) = at.root.ask.get("/api/users?nickname=rotten").json["users"]
    assert found["uuid"] == person.uuid


def test_a_token_is_revoked(at: Place, corrupt: Corrupt, log: list[Any]) -> None:
    person = at.user()
    token = at.token(person.uuid)
    digest = token_hash(token)
    corrupt(f"token/{digest}")
    caller = at.caller(token)
    refused = caller.get("/kv/a")
    assert (refused.status, refused.code) == (503, "corrupt_record")
    assert is_named(log, f"token/{digest}")
    listed = at.root.ask.pages("/api/tokens?limit=1000", "tokens")
    assert digest[:32] not in [shown["token_id"] for shown in listed]
    assert is_named(log, f"token/{digest}")
    assert at.user("admin:tokens:create").ask.delete(f"/api/tokens/{digest[:32]}").status == 403
    assert at.root.ask.delete(f"/api/tokens/{digest[:32]}").status == 204
    assert is_named(log, f"token/{digest}")
    assert caller.get("/kv/a").status == 401
    assert at.root.ask.delete(f"/api/tokens/{digest[:32]}").status == 404


def test_tokens_of_a_corrupt_user_are_not_listed_and_open_nothing(at: Place, corrupt: Corrupt, log: list[Any]) -> None:
    person = at.user()
    corrupt(f"user/{person.uuid}")
    listed = at.root.ask.pages("/api/tokens?limit=1000", "tokens")
    assert {shown["user_uuid"] for shown in listed} == {at.root.uuid}
    assert is_named(log, f"user/{person.uuid}")
    refused = person.ask.get("/kv/a")
    assert (refused.status, refused.code) == (503, "corrupt_record")
    assert is_named(log, f"user/{person.uuid}")
