"""One value: written, read, replaced, deleted; JSON comes back as it was sent, and so do blobs."""

from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

import pytest

from tests.api.client import Client, Reply

JSON_AS_SENT = [
    b'{"price":1.10,"a":1}',
    b'{"z":1,"a":2,"m":{"y":1,"b":2}}',
    b'\t{ "a" :\r\n [1 ,\t2] }\n ',
    b"12345678901234567890123456789012345678901234567890",
    b"0.1000000000000000055511151231257827021181583404541015625",
    b"-0",
    b"-0.0",
    b"1E+2",
    b"1e-400",
    b'"\\u00e9 \\/ \\u0000 \\ud83d\\ude00"',
    '"é 漢 😀 \u2028 \ufeff"'.encode(),
    '{"é":1,"e\u0301":2}'.encode(),
    b"null",
    b"true",
    b'""',
    b"[]",
    b"{}",
    b"[" * 500 + b"]" * 500,
    b'{"data":1}',
    b'{"ttl":"1h"}',
    b'{"data":1,"ttl":"1h","more":0}',
    b'[{"data":1,"ttl":"1h"}]',
]


def data_sent(reply: Reply, version: dict[str, Any]) -> bytes:
    """The bytes of `data` in an answer, not parsed. `version` is what the writer was told."""
    head = b'{"uuid":"%b","timestamp":%d,"data":' % (version["uuid"].encode(), version["timestamp"])
    assert reply.body.startswith(head)
    assert reply.body.endswith(b"}")
    return reply.body[len(head) : -1]


def test_a_put_creates_then_replaces(client: Client, key: str) -> None:
    first = client.put(f"/kv/{key}", b'{"a":1}')
    assert first.status == 201
    second = client.put(f"/kv/{key}", b'{"a":2}')
    assert second.status == 200
    assert set(first.json) == set(second.json) == {"uuid", "timestamp"}
    assert UUID(first.json["uuid"]).version == UUID(second.json["uuid"]).version == 4
    assert first.json["uuid"] != second.json["uuid"]
    assert first.json["timestamp"] <= second.json["timestamp"]
    assert client.get(f"/kv/{key}").json == {**second.json, "data": {"a": 2}}


def test_an_answer_names_its_version_in_its_headers(client: Client, key: str) -> None:
    put = client.put(f"/kv/{key}", b"1")
    get = client.get(f"/kv/{key}")
    for reply in (put, get):
        assert reply.headers["etag"] == f'"{put.json["uuid"]}"'
        assert reply.headers["x-kvs-timestamp"] == str(put.json["timestamp"])
        modified = parsedate_to_datetime(reply.headers["last-modified"])
        assert modified.timestamp() == put.json["timestamp"] // 1000
    assert get.headers["content-type"] == "application/json"


def test_a_delete_answers_once(client: Client, key: str) -> None:
    assert client.delete(f"/kv/{key}").status == 404
    client.put(f"/kv/{key}", b"1")
    deleted = client.delete(f"/kv/{key}")
    assert (deleted.status, deleted.body) == (204, b"")
    for reply in (client.get(f"/kv/{key}"), client.delete(f"/kv/{key}")):
        assert (reply.status, reply.code) == (404, "not_found")
    assert client.put(f"/kv/{key}", b"2").status == 201


def test_head_answers_as_get_without_the_body(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", b'{"a":1}')
    client.put(f"/kv/{key}/blob", b"abc", Content_Type="text/plain")
    for target in (f"/kv/{key}", f"/kv/{key}/blob", f"/kv/{key}/absent", "/kv/a//b"):
        get, head = client.get(target), client.send("HEAD", target)
        assert (head.status, head.body) == (get.status, b"")
        varying = {"x-request-id", "date"}
        if get.status >= 400:
            varying.add("content-length")  # the document repeats the request id
        assert {n: v for n, v in head.headers.items() if n not in varying} == {
            n: v for n, v in get.headers.items() if n not in varying
        }
    assert client.get(f"/kv/{key}").status == 200  # no body lingered on the connection


@pytest.mark.parametrize("document", JSON_AS_SENT, ids=lambda document: repr(document[:30]))
def test_json_is_kept_byte_for_byte(client: Client, key: str, document: bytes) -> None:
    version = client.put(f"/kv/{key}", document).json
    assert data_sent(client.get(f"/kv/{key}"), version) == document


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
    ],
)
def test_what_counts_as_json(client: Client, key: str, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert client.send("PUT", f"/kv/{key}", b'{"a":1}', headers).status == 201
    reply = client.get(f"/kv/{key}")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["data"] == {"a": 1}
    refused = client.send("PUT", f"/kv/{key}", b"a=1", headers)
    assert (refused.status, refused.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("content_type", "blob"),
    [
        ("application/octet-stream", bytes(range(256)) * 5),
        ("text/plain; charset=utf-8", "zürich\r\n".encode()),
        ("text/html", b"<script>alert(1)</script>"),
        ("image/svg+xml", b"<svg/>"),
        ("application/problem+json", b'{"title":"not an error"}'),
        ('multipart/form-data; boundary="x y"', b"--x y--"),
        ("application/x-empty", b""),
        ("application/vnd.kvs.test+json; v=1", b"{broken"),
    ],
)
def test_a_blob_comes_back_as_it_came(client: Client, key: str, content_type: str, blob: bytes) -> None:
    assert client.put(f"/kv/{key}", blob, Content_Type=content_type).status == 201
    reply = client.get(f"/kv/{key}")
    assert (reply.status, reply.body) == (200, blob)
    assert reply.headers["content-type"] == content_type
    assert reply.headers["content-security-policy"] == "sandbox"


@pytest.mark.parametrize(
    "content_type", ["text", "text/", "/plain", "text /plain", "text/plain; a=ä", "x/" + "y" * 254]
)
def test_a_content_type_that_is_none_is_refused(client: Client, key: str, content_type: str) -> None:
    refused = client.put(f"/kv/{key}", b"1", Content_Type=content_type)
    assert (refused.status, refused.json["field"]) == (400, "Content-Type")
    assert client.get(f"/kv/{key}").status == 404


def test_a_value_may_change_between_json_and_blob(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", b"[1]")
    client.put(f"/kv/{key}", b"blob", Content_Type="text/plain")
    assert client.get(f"/kv/{key}").body == b"blob"
    client.put(f"/kv/{key}", b"[2]")
    assert client.get(f"/kv/{key}").json["data"] == [2]
    assert "content-security-policy" not in client.get(f"/kv/{key}").headers


@pytest.mark.parametrize(
    ("query", "field"), [("w=0", "w"), ("w=x", "w"), ("timeout=x", "timeout"), ("timeout=2d", "timeout")]
)
def test_what_a_write_waits_for_is_checked(client: Client, key: str, query: str, field: str) -> None:
    reply = client.put(f"/kv/{key}?{query}", b"1")
    assert (reply.status, reply.json["field"]) == (400, field)
    assert client.get(f"/kv/{key}").status == 404


def test_a_refused_write_changes_nothing(client: Client, key: str) -> None:
    before = client.put(f"/kv/{key}", b'"kept"').json
    assert client.put(f"/kv/{key}", b"{").status == 400
    assert client.put(f"/kv/{key}?ttl=never", b"1").status == 400
    assert client.put(f"/kv/{key}", b"1", If_Match='"other"').status == 412
    assert client.get(f"/kv/{key}").json == {**before, "data": "kept"}
