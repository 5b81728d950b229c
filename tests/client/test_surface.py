"""What the client does against a real node, method by method, and that both clients have the same methods."""

import inspect
from collections.abc import Callable
from datetime import timedelta
from itertools import islice
from typing import Any

import orjson
import pytest

from kvs.client import (
    AsyncClient,
    BadRequestError,
    BulkDelete,
    BulkPut,
    Client,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    PreconditionFailedError,
    UnauthorizedError,
    UnreachableError,
)
from tests.api.accounts import Place
from tests.api.running import RunningNode
from tests.client.conftest import url_of


def public(kind: type) -> dict[str, Any]:
    return {name: method for name, method in inspect.getmembers(kind) if not name.startswith("_") and callable(method)}


def test_both_clients_have_the_same_methods_with_the_same_parameters_and_words() -> None:
    awaited, waiting = public(AsyncClient), public(Client)
    assert awaited.keys() == waiting.keys()
    for name in awaited.keys() - {"close"}:
        assert inspect.signature(awaited[name]) == inspect.signature(waiting[name]), name
        assert inspect.getdoc(awaited[name]) == inspect.getdoc(waiting[name])
        assert inspect.getdoc(awaited[name]) or name in ("delete_user", "delete_group"), name
    assert inspect.signature(AsyncClient) == inspect.signature(Client)


# --- values ---


def test_documents_and_bytes_come_back_as_they_were(client: Client, key: str) -> None:
    made = client.put(key, {"a": [1, 2.5, None, "é"]})
    assert made.created
    value = client.get(key)
    assert (value.data, value.uuid, value.timestamp) == ({"a": [1, 2.5, None, "é"]}, made.uuid, made.timestamp)
    again = client.put(key, b"\0\xff", content_type="image/png")
    assert (again.created, client.get(key).raw, client.get(key).content_type) == (False, b"\0\xff", "image/png")
    assert client.get(key).data == b"\0\xff"
    client.put(key, b"plain")
    assert client.get(key).content_type == "application/octet-stream"
    client.put(key, b"")
    assert client.get(key).raw == b""
    text = b'{ "b" : 1e2,\n"a":0.10 }'
    client.put(key, text, content_type="application/json")
    assert client.get(key).raw == text
    client.put(key, None)
    assert client.get(key).data is None
    with pytest.raises(TypeError):
        client.put(key, {1, 2})
    with pytest.raises(TypeError):
        client.put(key, "text", content_type="text/plain")


@pytest.mark.parametrize("name", ["a b", "é/ü", "a+b", "a%2Fb", "a?b=c", "a#b", "100%", "a;b", "x:y@z", "ﬀ", "~t"])
def test_keys_of_any_spelling(client: Client, key: str, name: str) -> None:
    path = f"{key}/{name}"
    client.put(path, name)
    assert client.get(path).data == name
    assert [entry.path for entry in client.walk(f"{key}/")] == [path]
    assert [revision.value and revision.value.path for revision in client.history(path)] == [path]
    client.delete(path)
    assert client.find(path) is None


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", "a/../b", ".", "_range", "a/metadata", "a\n", "x" * 1025, "\ud800"]
)
def test_what_is_no_key_asks_no_node(path: str) -> None:
    with Client("http://127.0.0.1:9", retry_s=0) as client:
        for ask in (client.get, client.delete, client.history, client.metadata, client.undo):
            with pytest.raises(BadRequestError) as caught:
                ask(path)
            assert caught.value.code in ("invalid_key", "reserved_key")


def test_conditions(client: Client, key: str) -> None:
    first = client.put(key, 1, if_none_match="*")
    with pytest.raises(PreconditionFailedError):
        client.put(key, 2, if_none_match="*")
    second = client.put(key, 2, if_match=first.uuid)
    with pytest.raises(PreconditionFailedError) as caught:
        client.put(key, 3, if_match=first.uuid)
    assert (caught.value.code, caught.value.status) == ("precondition_failed", 412)
    assert caught.value.request_id
    with pytest.raises(PreconditionFailedError):
        client.delete(key, if_match=first.uuid)
    client.put(key, 3, if_match="*")
    with pytest.raises(PreconditionFailedError):
        client.delete(key, if_none_match="*")
    client.delete(key)
    with pytest.raises(NotFoundError):
        client.delete(key, if_match=second.uuid)
    with pytest.raises(NotFoundError):
        client.get(key)


@pytest.mark.parametrize("ttl", ["1h", timedelta(hours=1), timedelta(milliseconds=3_600_000)])
def test_times_to_live(client: Client, key: str, ttl: str | timedelta) -> None:
    made = client.put(key, 1, ttl=ttl)
    assert client.get(key).expires_at == pytest.approx(made.timestamp + 3_600_000, abs=1000)
    with pytest.raises(BadRequestError) as caught:
        client.put(key, 1, ttl="an hour")
    assert caught.value.problem["field"] == "ttl"


def test_copies(client: Client, key: str) -> None:
    assert client.put(key, 1, w=1).replicated is None
    with pytest.raises(BadRequestError):
        client.put(key, 1, w=2, w_timeout="1s")


# --- many ---


def test_ranges_lists_and_walks_go_over_all_pages(client: Client, key: str) -> None:
    names = [f"{key}/{first}/{number:03}" for first in "ab" for number in range(250)]
    results = client.bulk([BulkPut(name, name) for name in names])
    assert all(result.is_ok for result in results)
    assert [value.data for value in client.range(f"{key}/", page=70)] == names
    assert [value.path for value in client.range(start=names[3], end=names[5])] == names[3:6]
    assert [entry.path for entry in client.walk(f"{key}/")] == names
    assert [(entry.path, entry.is_prefix) for entry in client.list(f"{key}/")] == [
        (f"{key}/a/", True),
        (f"{key}/b/", True),
    ]
    assert [entry.path for entry in client.list(f"{key}/a/")] == names[:250]
    assert [entry.path for entry in client.list(f"{key}", depth=2)] == [f"{key}/a/", f"{key}/b/"]
    assert next(iter(client.walk(f"{key}/"))).uuid == results[0].uuid


def test_an_iterator_that_is_left_early_ends(client: Client, key: str) -> None:
    client.bulk([BulkPut(f"{key}/{number}", number) for number in range(50)])
    for _ in range(20):
        assert len(list(islice(client.range(f"{key}/", page=2), 3))) == 3


def test_bulk_items_fail_alone(client: Client, key: str) -> None:
    client.put(f"{key}/there", 1)
    found = client.bulk(
        [
            BulkPut(f"{key}/a", {"x": 1}, ttl="1h"),
            BulkPut(f"{key}/b", b"\xff", content_type="image/png"),
            BulkPut(f"{key}/c", b"[1, 2]", content_type="application/json"),
            BulkPut(f"{key}/there", 1, if_none_match="*"),
            BulkDelete(f"{key}/there"),
            BulkDelete(f"{key}/never"),
            BulkPut("", 1),
        ]
    )
    assert [result.status for result in found] == [201, 201, 201, 412, 204, 404, 400]
    assert [result.is_ok for result in found] == [True, True, True, False, True, False, False]
    assert found[6].problem is not None
    assert found[6].problem["code"] == "invalid_key"
    assert client.get(f"{key}/b").raw == b"\xff"
    assert client.get(f"{key}/c").raw == b"[1, 2]"
    assert client.get(f"{key}/a").uuid == found[0].uuid
    assert client.bulk([]) == []


# --- history ---


def test_histories_and_the_way_back(client: Client, key: str) -> None:
    assert client.history(key) == []
    first = client.put(key, 1)
    client.put(key, b"2", content_type="text/plain")
    client.delete(key)
    third, second, one = client.history(key)
    assert (third.number, third.value) == (1, None)
    assert second.value is not None
    assert (second.value.raw, second.value.content_type) == (b"2", "text/plain")
    assert one.uuid == first.uuid
    assert client.revision(key, 3) == one
    with pytest.raises(NotFoundError):
        client.revision(key, 4)
    with pytest.raises(PreconditionFailedError):
        client.restore(key, 3, if_match=first.uuid)
    restored = client.restore(key, 3, if_none_match="*")
    assert (client.get(key).data, client.get(key).uuid) == (1, restored.uuid)


def test_undo_puts_back_what_was_there_before(client: Client, key: str) -> None:
    client.put(key, 1)
    client.put(key, 2)
    assert client.undo(key) is not None
    assert client.get(key).data == 1
    client.delete(key)
    client.undo(key)
    assert client.get(key).data == 1
    client.undo(key)
    assert client.find(key) is None
    client.put(f"{key}/new", 1)
    assert client.undo(f"{key}/new") is None
    assert client.find(f"{key}/new") is None
    with pytest.raises(NotFoundError):
        client.undo(f"{key}/never")


def test_undo_brings_back_what_an_expired_value_replaced(client: Client, key: str) -> None:
    client.put(key, 1)
    client.put(key, 2, ttl="1ms")
    while client.find(key) is not None:
        pass
    assert client.undo(key) is not None
    assert client.get(key).data == 1
    client.put(f"{key}/only", 1, ttl="1ms")
    while client.find(f"{key}/only") is not None:
        pass
    with pytest.raises(NotFoundError):
        client.undo(f"{key}/only")


# --- accounts ---


def test_users_groups_and_tokens(root: Client, at: Place) -> None:
    ada = root.create_user("ada", password="a good password", scopes=["read", "write"])
    with pytest.raises(ConflictError) as caught:
        root.create_user("ada")
    assert caught.value.code == "nickname_taken"
    found = root.find_user("ada")
    assert found is not None
    assert (found.uuid, found.has_password, found.scopes) == (ada, True, ("read", "write"))
    assert root.find_user("nobody") is None
    team = root.create_group("team", members=[ada])
    group = root.group(team)
    assert group.members == (ada,)
    assert root.user(ada).groups == (team,)
    changed = root.update_group(team, members=[], if_match=group.etag)
    assert changed.members == ()
    with pytest.raises(PreconditionFailedError):
        root.update_group(team, groupname="other", if_match=group.etag)
    assert root.find_group("team") == root.find_group("team")
    assert root.update_user(ada, password=None).has_password is False
    assert {user.uuid for user in root.users()} >= {ada}
    assert [one.uuid for one in root.groups() if one.uuid == team] == [team]

    made = root.create_token(ada, ["read"], expires_in=timedelta(minutes=5))
    assert made.token not in repr(made)
    assert [token.token_id for token in root.tokens(user_uuid=ada)] == [made.token_id]
    with Client(url_of(at.node.address), token=made.token) as hers:
        who = hers.whoami()
        assert who is not None
        assert (who.user_uuid, who.scopes, who.token_id, who.is_accepted) == (ada, ("read",), made.token_id, True)
        assert who.expires_at == made.expires_at
        with pytest.raises(ForbiddenError):
            hers.put("x", 1)
        root.revoke_token(made.token_id)
        with pytest.raises(UnauthorizedError):
            hers.get("x")
        who = hers.whoami()
        assert who is not None
        assert not who.is_accepted
    root.delete_group(team)
    root.delete_user(ada)
    with pytest.raises(NotFoundError):
        root.user(ada)


def test_a_login_makes_the_client_somebody(root: Client, at: Place) -> None:
    bob = root.create_user("bob", password="a good password")
    with Client(url_of(at.node.address)) as client:
        assert client.whoami() is None
        with pytest.raises(UnauthorizedError):
            client.put("of/bob", 1)
        with pytest.raises(UnauthorizedError):
            client.login("bob", "a bad password")
        made = client.login("bob", "a good password")
        client.put("of/bob", 1)
        who = client.whoami()
        assert who is not None
        assert (who.user_uuid, who.token_id) == (bob, made.token_id)


def test_metadata(root: Client, key: str) -> None:
    root.put(key, 1)
    with pytest.raises(NotFoundError):
        root.metadata(key)
    effective = root.metadata(key, effective=True)
    assert effective.permissions == 0xF31
    changed = root.set_metadata(key, permissions=0xF00)
    assert (changed.permissions, changed.owner_uuid) == (0xF00, effective.owner_uuid)
    assert root.set_metadata(key, group_uuid=None).permissions == 0xF00
    assert root.metadata(key).permissions == 0xF00


# --- the node ---


def test_the_node(client: Client, make_node: Callable[..., RunningNode]) -> None:
    assert client.health()["node_id"] == "node1"
    assert client.ready()
    read_only = make_node(read_only=True)
    with Client(url_of(read_only.address), retry_s=0) as other:
        assert not other.ready()
        assert other.health()["mode"] == "read_only"
        with pytest.raises(ForbiddenError) as caught:
            other.put("a", 1)
        assert caught.value.code == "read_only"
    with pytest.raises(NotFoundError):
        client.cluster_status()


def test_a_cluster(make_node: Callable[..., RunningNode]) -> None:
    member = make_node(clustering_enabled=True, cluster_secret="What-0nly-they-know-of-it")
    with Client(url_of(member.address)) as client:
        assert client.cluster_status()["node_id"] == "node1"
        assert [one["id"] for one in client.members()] == ["node1"]


def test_any_other_request(client: Client, key: str) -> None:
    client.put(key, 1)
    assert client.call("GET", f"/kv/{key}")["data"] == 1
    assert client.call("DELETE", f"/kv/{key}") is None
    with pytest.raises(NotFoundError) as caught:
        client.call("GET", "/nothing/here")
    assert caught.value.code == "unknown_route"


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://a", "http://", "http://u:p@a", "http://a?b=c"])
def test_what_is_no_url_is_told_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Client(url)
    with pytest.raises(ValueError, match="URL"):
        Client()


def test_where_nobody_listens() -> None:
    with Client("http://127.0.0.1:9", retry_s=0) as client, pytest.raises(UnreachableError):
        client.get("a")


async def test_the_async_client_does_the_same(aclient: AsyncClient, key: str) -> None:
    made = await aclient.put(key, {"n": 1})
    assert (await aclient.get(key)).uuid == made.uuid
    await aclient.bulk([BulkPut(f"{key}/{number}", number) for number in range(10)])
    assert [value.data async for value in aclient.range(f"{key}/", page=3)] == list(range(10))
    assert [entry.path async for entry in aclient.list(key)] == [key, f"{key}/"]
    await aclient.delete(key)
    assert await aclient.find(key) is None
    with pytest.raises(NotFoundError):
        await aclient.get(key)


def test_a_client_may_be_closed_twice_and_used_again(url: str, key: str) -> None:
    client = Client(url)
    client.put(key, 1)
    client.close()
    client.close()
    assert client.get(key).data == 1
    client.close()


def test_threads_may_share_a_client(client: Client, key: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: client.put(f"{key}/{number}", number), range(200)))
    assert sorted(value.data for value in client.range(f"{key}/")) == list(range(200))


def test_large_values(client: Client, key: str) -> None:
    raw = bytes(range(256)) * 4096 * 8
    client.put(key, raw)
    assert client.get(key).raw == raw
    document = ["x" * 1000] * 900
    client.put(key, document)
    assert orjson.loads(client.get(key).raw) == document


@pytest.mark.parametrize("raw", [b' {"a":\r\n [1]}\n\n', b"[1,\n2]", b"\t1", b'{"data": 1, "ttl": "1s"}'])
def test_documents_keep_their_bytes_however_they_are_written(client: Client, key: str, raw: bytes) -> None:
    client.put(key, raw, content_type="application/json")
    client.bulk([BulkPut(f"{key}/bulk", raw, "application/json"), BulkPut(f"{key}/next", 1)])
    assert client.get(key).raw == client.get(f"{key}/bulk").raw == raw
    assert [value.raw for value in client.range(key)] == [raw, raw, b"1"]
    assert client.get(f"{key}/bulk").data == orjson.loads(raw)
