"""`/kv/_bulk`: many writes at once, each with its own answer."""

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from kvs.limits import BULK_MAX_ITEMS
from tests.api.client import Client
from tests.api.paging import paths
from tests.api.running import Clock

Item = dict[str, Any]


def lines(items: list[Item]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def bulk(client: Client, *items: Item) -> list[dict[str, Any]]:
    reply = client.post("/kv/_bulk", lines(list(items)))
    assert reply.status == 200
    results: list[dict[str, Any]] = reply.json["results"]
    assert len(results) == len(items)
    return results


def put(path: str, data: object = 1, **members: object) -> Item:
    return {"op": "put", "path": path, "data": data, **members}


def delete(path: str, **members: object) -> Item:
    return {"op": "delete", "path": path, **members}


@pytest.mark.parametrize(
    "form",
    [
        lines,
        lambda items: lines(items).rstrip(b"\n"),
        lambda items: lines(items).replace(b"\n", b"\r\n"),
        lambda items: b"\n \n" + lines(items).replace(b"\n", b"\n\n"),
        lambda items: json.dumps(items).encode(),
        lambda items: b"\n " + json.dumps(items, indent=2).encode() + b"\n",
    ],
    ids=["lines", "no last newline", "CRLF", "empty lines", "array", "indented array"],
)
def test_forms_of_the_body(client: Client, key: str, form: Callable[[list[Item]], bytes]) -> None:
    items = [put(f"{key}/a"), put(f"{key}/b", "é"), delete(f"{key}/a"), put(f"{key}/b", [2])]
    reply = client.post("/kv/_bulk", form(items))
    assert [result["status"] for result in reply.json["results"]] == [201, 201, 204, 200]
    assert paths(client, "_range", prefix=key) == [f"{key}/b"]
    assert client.get(f"/kv/{key}/b").json["data"] == [2]


def test_results_are_those_of_single_writes(client: Client, key: str) -> None:
    (written,) = bulk(client, put(key, {"a": 1}))
    assert client.get(f"/kv/{key}").json == {
        "uuid": written["uuid"],
        "timestamp": written["timestamp"],
        "data": {"a": 1},
    }
    assert set(written) == {"status", "uuid", "timestamp"}


def test_json_is_kept_byte_for_byte(client: Client, key: str) -> None:
    client.post("/kv/_bulk", b'{"op":"put","path":"%b","data":{"z": 1.10,  "a":"\\u00e9"}}' % key.encode())
    assert b'"data":{"z": 1.10,  "a":"\\u00e9"}}' in client.get(f"/kv/{key}").body


def test_the_body_form_of_a_ttl_means_nothing_here(client: Client, key: str) -> None:
    bulk(client, put(key, {"data": 1, "ttl": "1h"}))
    reply = client.get(f"/kv/{key}").json
    assert (reply["data"], "expires_at" in reply) == ({"data": 1, "ttl": "1h"}, False)


BAD_ITEMS: dict[str, tuple[bytes, int, str]] = {
    "not an object": (b"1", 400, "invalid_item"),
    "no json": (b"{op:put}", 400, "invalid_json"),
    "NaN": (b'{"op":"put","path":"bad","data":NaN}', 400, "invalid_json"),
    "two documents": (b"{} {}", 400, "invalid_json"),
    "bad UTF-8": (b'{"op":"put","path":"bad","data":"\xff"}', 400, "invalid_json"),
    "too deep": (b'{"op":"put","path":"bad","data":%b%b}' % (b"[" * 9999, b"]" * 9999), 400, "invalid_json"),
    "no op": (b'{"path":"bad","data":1}', 400, "invalid_item"),
    "unknown op": (b'{"op":"increment","path":"bad","data":1}', 400, "invalid_item"),
    "no path": (b'{"op":"put","data":1}', 400, "invalid_item"),
    "wrong type": (b'{"op":"put","path":7,"data":1}', 400, "invalid_item"),
    "no data": (b'{"op":"put","path":"bad"}', 400, "bad_request"),
    "empty path": (b'{"op":"put","path":"","data":1}', 400, "invalid_key"),
    "bad path": (b'{"op":"put","path":"a/../b","data":1}', 400, "invalid_key"),
    "long path": (b'{"op":"delete","path":"%b"}' % (b"x" * 1025), 400, "invalid_key"),
    "control character": (b'{"op":"put","path":"a\\u0000b","data":1}', 400, "invalid_key"),
    "reserved path": (b'{"op":"put","path":"_x","data":1}', 400, "reserved_key"),
    "metadata path": (b'{"op":"put","path":"a/metadata","data":1}', 400, "reserved_key"),
    "bad ttl": (b'{"op":"put","path":"bad","data":1,"ttl":"-1s"}', 400, "bad_request"),
    "ttl as number": (b'{"op":"put","path":"bad","data":1,"ttl":60}', 400, "invalid_item"),
    "not base64": (
        b'{"op":"put","path":"bad","data":"*","encoding":"base64","content_type":"a/b"}',
        400,
        "bad_request",
    ),
    "number as blob": (
        b'{"op":"put","path":"bad","data":1,"encoding":"base64","content_type":"a/b"}',
        400,
        "bad_request",
    ),
    "bad content type": (
        b'{"op":"put","path":"bad","data":"AA==","encoding":"base64","content_type":"a/b\\r\\nX-Injected: 1"}',
        400,
        "bad_request",
    ),
    "unknown encoding": (b'{"op":"put","path":"bad","data":"","encoding":"hex"}', 400, "invalid_item"),
    "bytes that are no JSON": (b'{"op":"put","path":"bad","data":"AAH/","encoding":"base64"}', 400, "invalid_json"),
    "absent": (b'{"op":"delete","path":"never-there"}', 404, "not_found"),
    "other version": (b'{"op":"put","path":"bad","data":1,"if_match":"*"}', 412, "precondition_failed"),
}


@pytest.mark.parametrize(("item", "status", "code"), BAD_ITEMS.values(), ids=BAD_ITEMS)
def test_a_bad_item_fails_alone(client: Client, key: str, item: bytes, status: int, code: str) -> None:
    body = lines([put(f"{key}/before")]) + item + b"\n" + lines([put(f"{key}/after")])
    before, bad, after = client.post("/kv/_bulk", body).json["results"]
    assert (before["status"], after["status"]) == (201, 201)
    assert (bad["status"], bad["code"]) == (status, code)
    assert bad["title"]
    assert bad["detail"]
    assert client.get("/kv/bad").status == 404


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_json_in_base64_is_checked_as_json(client: Client, key: str, content_type: str) -> None:
    members = {"encoding": "base64", "content_type": content_type}
    good, bad = bulk(
        client,
        put(key, b64encode(b'{"n": 1.10}').decode(), **members),
        put(key, b64encode(b"\x00\x01\xff").decode(), **members),
    )
    assert (good["status"], bad["status"], bad["code"]) == (201, 400, "invalid_json")
    assert b'"data":{"n": 1.10}}' in client.get(f"/kv/{key}").body


@pytest.mark.parametrize("body", [b"[1,", b'[{"op":"put"}] x', b"[NaN]", b'[{"a":"\xff"}]', b"[" * 100_000])
def test_an_array_that_is_no_json_fails_as_a_whole(client: Client, body: bytes) -> None:
    reply = client.post("/kv/_bulk", body)
    assert (reply.status, reply.code) == (400, "invalid_json")


def test_blobs_in_base64(client: Client, key: str) -> None:
    blob = bytes(range(256))
    bulk(client, put(key, b64encode(blob).decode(), encoding="base64", content_type="image/png"))
    reply = client.get(f"/kv/{key}")
    assert (reply.body, reply.headers["content-type"]) == (blob, "image/png")


def test_times_to_live(make_client: Callable[..., Client], clock: Clock) -> None:
    client = make_client(clock=clock)
    bulk(client, put("a", ttl="1s"), put("b"))
    assert client.get("/kv/a").json["expires_at"] == clock.now_ms + 1000
    clock.now_ms += 1000
    assert paths(client, "_range") == ["b"]
    assert [result["status"] for result in bulk(client, delete("a"), put("a"))] == [404, 201]


def test_conditions_see_what_items_before_have_written(client: Client, key: str) -> None:
    (first,) = bulk(client, put(key, "first"))
    results = bulk(
        client,
        put(key, "second", if_match=first["uuid"]),
        put(key, "third", if_match=first["uuid"]),
        put(key, "fourth", if_none_match="*"),
        delete(key, if_match=f'"{first["uuid"]}"'),
    )
    assert [result["status"] for result in results] == [200, 412, 412, 412]
    assert client.get(f"/kv/{key}").json["data"] == "second"
    assert [r["status"] for r in bulk(client, delete(key, if_match="*"), put(key, if_none_match="*"))] == [204, 201]


def test_sizes_of_values(make_client: Callable[..., Client]) -> None:
    client = make_client(max_json_size=100, max_blob_size=50)
    blob = {"encoding": "base64", "content_type": "a/b"}
    results = bulk(
        client,
        put("a", "x" * 98),
        put("b", "x" * 99),
        put("c", b64encode(b"x" * 50).decode(), **blob),
        put("d", b64encode(b"x" * 51).decode(), **blob),
    )
    assert [result["status"] for result in results] == [201, 413, 201, 413]
    assert (results[1]["limit"], results[1]["actual"]) == (100, 101)
    assert paths(client, "_range") == ["a", "c"]


def test_a_thousand_items(client: Client, key: str) -> None:
    names = [f"{key}/{number:04}" for number in range(1000)]
    results = bulk(client, *(put(name, number) for number, name in enumerate(names)))
    assert {result["status"] for result in results} == {201}
    assert len({result["uuid"] for result in results}) == 1000
    assert paths(client, "_range", prefix=key, limit=1000) == names
    assert client.get(f"/kv/{names[567]}").json["data"] == 567


def test_more_items_than_allowed_change_nothing(client: Client, key: str) -> None:
    most = lines([put(key)]) * BULK_MAX_ITEMS
    reply = client.post("/kv/_bulk", most + lines([put(f"{key}/one-more")]))
    assert (reply.status, reply.code) == (413, "too_large")
    assert (reply.json["limit"], reply.json["actual"]) == (BULK_MAX_ITEMS, BULK_MAX_ITEMS + 1)
    assert paths(client, "_range", prefix=key) == []


def test_many_large_items(client: Client, key: str) -> None:
    values = [["x" * 1000] * 100 for _ in range(20)]
    results = bulk(client, *(put(f"{key}/{number}", value) for number, value in enumerate(values)))
    assert {result["status"] for result in results} == {201}


def test_nothing_to_do(client: Client) -> None:
    assert client.post("/kv/_bulk", b"[]").json == {"results": []}
