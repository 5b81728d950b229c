"""What bodies are taken, and that no body makes a node fail."""

from collections.abc import Callable

import pytest

from kvs.limits import JSON_DEPTH_MAX
from tests.api.client import Client

MIB = 1024 * 1024
NOT_JSON = {
    "empty": b"",
    "spaces": b"  \n",
    "NaN": b"NaN",
    "Infinity": b"[Infinity]",
    "-Infinity": b'{"a":-Infinity}',
    "overflow": b"1e400",
    "long overflow": b"9" * 400,
    "leading zero": b"01",
    "plus": b"+1",
    "bare point": b"1.",
    "hexadecimal": b"0x1",
    "bad UTF-8": b'"\xff"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "cut off UTF-8": b'"\xe2\x82',
    "lone high surrogate": b'"\\ud800"',
    "lone low surrogate": b'{"\\udc00":1}',
    "swapped surrogates": b'"\\udc00\\ud800"',
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-32": '{"a":1}'.encode("utf-32-le"),
    "NUL": b'"\x00"',
    "raw newline": b'"a\nb"',
    "trailing garbage": b"{} x",
    "two documents": b"1 2",
    "NUL behind": b"1\x00",
    "trailing comma": b"[1,]",
    "single quotes": b"{'a':1}",
    "comment": b"/* */ 1",
    "cut off": b'{"a":[1',
    "only a quote": b'"',
    "deep arrays": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep and cut off": b'[{"a":' * 100_000,
    "deep ttl form": b'{"ttl":"1h","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_no_json_is_refused(client: Client, key: str, body: bytes) -> None:
    for sent in (body, [body[:7], body[7:]] if len(body) > 7 else [body] if body else []):
        reply = client.put(f"/kv/{key}", sent)
        assert (reply.status, reply.code) == (400, "invalid_json")
    assert client.get(f"/kv/{key}").status == 404
    metadata = client.put(f"/kv/{key}/metadata", body)
    assert metadata.status == (413 if len(body) > 16 * 1024 else 400)


INSIDE = {
    "ttl form": ("PUT", "/kv/{key}", b'{"data":%b,"ttl":"1h"}'),
    "metadata": ("PUT", "/kv/{key}/metadata", b'{"group_uuid":null,"other":%b}'),
    "bulk item": ("POST", "/kv/_bulk", b'{"op":"put","path":"{key}","data":%b}'),
    "item of an array": ("POST", "/kv/_bulk", b'[{"op":"put","path":"{key}","data":%b}]'),
}


@pytest.mark.parametrize("levels", [JSON_DEPTH_MAX - 1, JSON_DEPTH_MAX + 1, 960, 1000, 1020])
@pytest.mark.parametrize("form", INSIDE.values(), ids=INSIDE)
def test_levels_inside_of_another_document(client: Client, key: str, form: tuple[str, str, bytes], levels: int) -> None:
    method, target, body = form
    body = body.replace(b"{key}", key.encode()) % (b"[" * levels + b"]" * levels)
    reply = client.send(method, target.format(key=key), body)
    (result,) = reply.json["results"] if reply.status == 200 and method == "POST" else [{"status": reply.status}]
    assert (result["status"] == 400) is (levels > JSON_DEPTH_MAX)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b' [ "[[{", '])
def test_levels_of_a_document_are_counted(client: Client, key: str, opening: bytes) -> None:
    def nested(levels: int) -> bytes:
        closing = b"}" if opening.startswith(b"{") else b"]"
        return opening * (levels - 1) + b"[]" + closing * (levels - 1)

    assert client.put(f"/kv/{key}", nested(JSON_DEPTH_MAX)).status == 201
    reply = client.put(f"/kv/{key}", nested(JSON_DEPTH_MAX + 1))
    assert (reply.status, reply.code) == (400, "invalid_json")
    wide = b"[%b]" % b",".join([b"[{}]"] * JSON_DEPTH_MAX)
    assert client.put(f"/kv/{key}", wide).status == 200


def test_members_that_occur_twice_are_kept_as_they_are(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", b'{"a":1,"a":2}')
    assert b'"data":{"a":1,"a":2}}' in client.get(f"/kv/{key}").body


@pytest.mark.parametrize("in_chunks", [False, True], ids=["declared", "in chunks"])
def test_the_largest_json_value_and_one_byte_more(client: Client, key: str, in_chunks: bool) -> None:
    document = b'"%b"' % (b"x" * (MIB - 2))
    sent = [document[at : at + 100_000] for at in range(0, MIB, 100_000)]
    assert client.put(f"/kv/{key}", sent if in_chunks else document).status == 201
    assert client.get(f"/kv/{key}").json["data"] == "x" * (MIB - 2)
    refused = client.put(f"/kv/{key}", [*sent, b" "] if in_chunks else document + b" ")
    assert (refused.status, refused.code, refused.json["limit"]) == (413, "too_large", MIB)
    assert refused.json["actual"] == MIB + 1


@pytest.mark.parametrize("in_chunks", [False, True], ids=["declared", "in chunks"])
def test_the_largest_blob_and_one_byte_more(make_client: Callable[..., Client], in_chunks: bool) -> None:
    client = make_client(max_blob_size=300_000, max_json_size=10)
    blob = bytes(range(256)) * 1171 + bytes(range(224))
    assert len(blob) == 300_000
    sent = [blob[:100_000], blob[100_000:]]
    headers = {"Content-Type": "image/png"}
    assert client.send("PUT", "/kv/a", sent if in_chunks else blob, headers).status == 201
    assert client.get("/kv/a").body == blob
    refused = client.send("PUT", "/kv/a", [*sent, b"!"] if in_chunks else blob + b"!", headers)
    assert (refused.status, refused.json["limit"]) == (413, 300_000)
    assert client.get("/kv/a").body == blob
    assert client.put("/kv/b", b"12345678901").json["limit"] == 10


def test_sixteen_mebibytes_of_blob(client: Client, key: str) -> None:
    blob = bytes(range(256)) * 4096 * 16
    assert client.put(f"/kv/{key}", blob, Content_Type="video/mp4").status == 201
    assert client.get(f"/kv/{key}").body == blob
    assert client.put(f"/kv/{key}", blob + b"!", Content_Type="video/mp4").status == 413


def test_a_body_that_is_announced_too_large_is_not_asked_for(client: Client, key: str) -> None:
    client.write(b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n" % key.encode())
    reply = client.read()
    assert (reply.status, reply.json["actual"]) == (413, 99_999_999)


def test_a_client_may_ask_before_it_sends(client: Client, key: str) -> None:
    head = b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    client.write(head % (key.encode(), 5))
    assert client.read_line() == b"HTTP/1.1 100 Continue\r\n"
    assert client.read_line() == b"\r\n"
    client.write(b'"yes"')
    assert client.read().status == 201
    client.write(head % (key.encode(), MIB + 1))
    assert client.read_line().startswith(b"HTTP/1.1 413 ")
    client.close()
    assert client.get(f"/kv/{key}").json["data"] == "yes"


def test_an_empty_body_of_another_type_is_an_empty_blob(client: Client, key: str) -> None:
    assert client.put(f"/kv/{key}", b"", Content_Type="text/plain").status == 201
    assert client.send("PUT", f"/kv/{key}", None, {"Content-Type": "text/plain"}).status == 200
    assert client.get(f"/kv/{key}").body == b""


def test_a_body_that_nobody_asked_for_is_passed_over(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", b"1")
    for body in (b"GET /kv/smuggled HTTP/1.1\r\n\r\n", [b"DELETE ", b"/kv/x"]):
        assert client.send("GET", f"/kv/{key}", body).status == 200
        assert client.send("GET", "/nowhere", body).code == "unknown_route"
        assert client.send("DELETE", f"/kv/{key}/absent", body).status == 404
    assert client.get(f"/kv/{key}").json["data"] == 1
