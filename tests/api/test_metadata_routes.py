"""`/kv/{key}/metadata`: stored and shown. What permissions allow is decided elsewhere."""

from collections.abc import Callable

import pytest

from kvs.limits import METADATA_MAX_BYTES
from tests.api.client import Client
from tests.api.running import Clock

MEMBERS = {"owner_uuid", "group_uuid", "permissions", "ttl", "created_at", "updated_at"}
OWNER = "0f1e2d3c-4b5a-4978-a6b5-c4d3e2f10213"
GROUP = "1f1e2d3c-4b5a-4978-a6b5-c4d3e2f10213"
BAD_BODIES = [
    b"",
    b"[]",
    b"1",
    b"null",
    b"{",
    b'{"permissions":NaN}',
    b'{"permissions":"rw"}',
    b'{"permissions":-1}',
    b'{"permissions":4096}',
    b'{"permissions":1.5}',
    b'{"permissions":null}',
    b'{"permissions":1e300}',
    b'{"owner_uuid":7}',
    b'{"group_uuid":["a"]}',
    b'{"owner_uuid":"\xff"}',
]


def test_there_are_none_until_some_are_set(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", b"1")
    for target in (f"/kv/{key}/metadata", f"/kv/{key}/metadata?effective=false"):
        reply = client.get(target)
        assert (reply.status, reply.code) == (404, "not_found")
    assert client.put(f"/kv/{key}/metadata", b"{}").status == 200
    assert set(client.get(f"/kv/{key}/metadata").json) == MEMBERS


def test_only_what_is_named_changes(client: Client, key: str) -> None:
    target = f"/kv/{key}/metadata"
    first = client.put(target, b'{"owner_uuid":"%b","permissions":1}' % OWNER.encode()).json
    assert set(first) == MEMBERS
    assert (first["owner_uuid"], first["permissions"]) == (OWNER, 1)
    second = client.put(target, b'{"group_uuid":"%b"}' % GROUP.encode()).json
    assert {name: second[name] for name in MEMBERS - {"group_uuid", "updated_at"}} == {
        name: first[name] for name in MEMBERS - {"group_uuid", "updated_at"}
    }
    assert second["group_uuid"] == GROUP
    assert client.get(target).json == second
    third = client.put(target, b'{"permissions":4095,"group_uuid":null,"ttl":5,"unknown":{}}').json
    assert (third["permissions"], third["group_uuid"], third["owner_uuid"], third["ttl"]) == (4095, None, OWNER, 0)


def test_they_need_no_value_and_outlive_it(client: Client, key: str) -> None:
    client.put(f"/kv/{key}/metadata", b'{"permissions":7}')
    assert client.get(f"/kv/{key}").status == 404
    client.put(f"/kv/{key}", b"1")
    client.delete(f"/kv/{key}")
    assert client.get(f"/kv/{key}/metadata").json["permissions"] == 7


def test_they_are_no_value_and_have_no_history(client: Client, key: str) -> None:
    client.put(f"/kv/{key}/metadata", b"{}")
    for route in ("_range", "_list"):
        assert key.encode() not in client.get(f"/kv/{route}?prefix={key}").body
    assert client.get(f"/api/data/{key}/history").status == 404
    assert client.delete(f"/kv/{key}").status == 404


def test_writing_a_value_leaves_them(client: Client, key: str) -> None:
    set_before = client.put(f"/kv/{key}/metadata", b'{"permissions":7}').json
    client.put(f"/kv/{key}", b'{"permissions":1}')
    after = client.get(f"/kv/{key}/metadata").json
    assert (after["permissions"], after["updated_at"]) == (7, set_before["updated_at"])


def test_effective_shows_what_applies_without(client: Client, key: str) -> None:
    document = client.get(f"/kv/{key}/metadata?effective=true").json
    assert set(document) == MEMBERS
    assert 0 <= document["permissions"] <= 0xFFF
    written = client.put(f"/kv/{key}", b"1").json["timestamp"]
    assert client.get(f"/kv/{key}/metadata?effective").json["created_at"] == written
    client.put(f"/kv/{key}/metadata", b'{"permissions":5}')
    assert client.get(f"/kv/{key}/metadata?effective=1").json["permissions"] == 5


def test_effective_is_a_switch(client: Client, key: str) -> None:
    for _ in range(2):
        reply = client.get(f"/kv/{key}/metadata?effective=maybe")
        assert (reply.status, reply.json["field"]) == (400, "effective")
        client.put(f"/kv/{key}/metadata", b"{}")


@pytest.mark.parametrize("body", BAD_BODIES)
def test_what_is_no_metadata_is_refused(client: Client, key: str, body: bytes) -> None:
    assert client.put(f"/kv/{key}/metadata", body).status == 400
    assert client.get(f"/kv/{key}/metadata").status == 404


def test_size(client: Client, key: str) -> None:
    head = b'{"permissions":1,"unknown":""}'
    full = head[:-2] + b"x" * (METADATA_MAX_BYTES - len(head)) + b'"}'
    assert client.put(f"/kv/{key}/metadata", full).status == 200
    assert client.put(f"/kv/{key}/metadata", full + b" ").status == 413
    assert client.put(f"/kv/{key}/metadata", [full, b" "]).status == 413


def test_times(make_client: Callable[..., Client], clock: Clock) -> None:
    client = make_client(clock=clock)
    created_at = clock.now_ms
    assert client.put("/kv/a/metadata", b"{}").json["created_at"] == created_at
    client.put("/kv/a?ttl=10s", b"1")
    clock.now_ms += 4_000
    changed = client.put("/kv/a/metadata", b"{}").json
    assert (changed["created_at"], changed["updated_at"]) == (created_at, created_at + 4_000)
    assert changed["ttl"] == 6_000
    clock.now_ms += 6_000
    assert client.get("/kv/a/metadata").json["ttl"] == 0


def test_a_longer_key_has_its_own(client: Client, key: str) -> None:
    client.put(f"/kv/{key}/metadata", b'{"permissions":1}')
    client.put(f"/kv/{key}/a%2Fb/metadata", b'{"permissions":2}')
    assert client.get(f"/kv/{key}/metadata").json["permissions"] == 1
    assert client.get(f"/kv/{key}/a/b/metadata").json["permissions"] == 2
    assert client.get(f"/kv/{key}/a/metadata").status == 404
