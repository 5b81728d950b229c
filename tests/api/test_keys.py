"""Which request targets name which keys, and which name none."""

import unicodedata
from urllib.parse import quote

import pytest

from tests.api.client import Client

INVALID = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    "//",
    "%2F",
    "%2Fa",
    "a%2F",
    "a%2F%2Fb",
    "a/%2Fb",
    ".",
    "..",
    "a/.",
    "a/..",
    "./a",
    "../a",
    "a/./b",
    "a/../b",
    "%2e",
    "%2E%2e",
    "a/%2e%2e/b",
    "a%2f..%2fb",
    "..%2fa",
    "%00",
    "a%00b",
    "a%0d%0aX-Injected:%20yes",
    "a%09b",
    "a%1fb",
    "a%7fb",
    "a%C2%80b",
    "a%C2%9F",
    "%ff",
    "a%C0%AFb",
    "%C1%81",
    "%ED%A0%80",
    "%F4%90%80%80",
    "a%E2%82",
    "%",
    "a%",
    "a%2",
    "%zz",
    "a%2gb",
    "a" * 1025,
    "%61" * 1025,
    "%F0%9F%98%80" * 257,
    "/metadata",
    "a//metadata",
    "a/../metadata",
]
RESERVED = [
    "_x",
    "_",
    "%5Fx",
    "_range/a",
    "%5Frange",
    "_bulk%2Fa",
    "_meta:a",
    "metadata",
    "a%2Fmetadata",
    "a%2fmetadata",
    "a/b%2F%6Detadata",
    "%6Detadata",
    "a/metadata/metadata",
    "a%2Fmetadata/metadata",
    "_x/metadata",
    "metadata/metadata",
]
VALID = {
    "a%20b": "a b",
    "a+b": "a+b",
    "a%2Bb": "a+b",
    "a%3Fb": "a?b",
    "a%23b": "a#b",
    "a%25b": "a%b",
    "a%252Fb": "a%2Fb",
    "a%25252Fb": "a%252Fb",
    "%25%32%46": "%2F",
    "a%252e%252e": "a%2e%2e",
    "%F0%9F%98%80/%E6%BC%A2": "😀/漢",
    "a%EF%BC%8Fb": "a\uff0fb",
    "a%E2%80%A4%E2%80%A4": "a\u2024\u2024",
    "%E2%80%AEabc": "\u202eabc",
    "%EF%BB%BFa": "\ufeffa",
    "a%5Cb": "a\\b",
    "a;b=c": "a;b=c",
    "a:b@c!$&'()*,=~": "a:b@c!$&'()*,=~",
    "...": "...",
    ".a/..b/c.": ".a/..b/c.",
    "a/_b": "a/_b",
    "metadata/a": "metadata/a",
    "a/metadata2": "a/metadata2",
    "a/Metadata": "a/Metadata",
    "health": "health",
    "api/data/a/history": "api/data/a/history",
    "history/1/restore": "history/1/restore",
    "%22%3Cb%3E": '"<b>',
    "%20": " ",
}


@pytest.mark.parametrize("raw", INVALID, ids=lambda raw: raw[:40])
def test_what_is_no_key_is_refused(client: Client, raw: str) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        reply = client.send(method, f"/kv/{raw}", b"1" if method == "PUT" else None)
        if raw.endswith("/metadata") and method == "DELETE":
            assert reply.status == 405
        else:
            assert reply.status == 400
            assert method == "HEAD" or reply.code == "invalid_key"


def test_a_fragment_is_refused_and_does_not_cut_the_key(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", b"1")
    for method, rest in (("PUT", "#1"), ("DELETE", "#"), ("GET", "#a"), ("PUT", "?ttl=1h#a"), ("GET", "/metadata#")):
        reply = client.send(method, f"/kv/{key}{rest}", b"2" if method == "PUT" else None)
        assert (reply.status, reply.code, reply.json["field"]) == (400, "bad_request", "path")
    assert client.get(f"/kv/{key}").json["data"] == 1


@pytest.mark.parametrize("raw", RESERVED)
def test_what_belongs_to_kvs_is_refused(client: Client, raw: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        reply = client.send(method, f"/kv/{raw}", b"1" if method == "PUT" else None)
        if raw.endswith("/metadata") and method == "DELETE":
            assert reply.status == 405
        else:
            assert (reply.status, reply.code) == (400, "reserved_key")


@pytest.mark.parametrize(("raw", "decoded"), VALID.items())
def test_a_key_is_what_the_target_decodes_to(client: Client, key: str, raw: str, decoded: str) -> None:
    """The target, and the same key with every byte escaped, name one key, and it is shown decoded."""
    assert client.put(f"/kv/{key}/{raw}", b'"found"').status == 201
    escaped = "".join(f"%{byte:02x}" for byte in f"{key}/{decoded}".encode())
    assert client.get(f"/kv/{escaped}").json["data"] == "found"
    (pair,) = client.get(f"/kv/_range?prefix={key}/").json["pairs"]
    assert pair["path"] == f"{key}/{decoded}"
    assert client.get(f"/api/data/{key}/{raw}/history").json[0]["data"] == "found"
    assert client.delete(f"/kv/{escaped}").status == 204


@pytest.mark.parametrize("raw", ["health", "metrics", "api/users", "history", "a/history/1", "members", "kv/a"])
def test_a_key_may_be_named_as_a_route(client: Client, raw: str) -> None:
    assert client.put(f"/kv/{raw}", b'"a value"').status == 201
    assert client.get(f"/kv/{raw}").json["data"] == "a value"
    assert client.delete(f"/kv/{raw}").status == 204


def test_an_escaped_slash_separates(client: Client, key: str) -> None:
    client.put(f"/kv/{key}/b", b"1")
    assert client.put(f"/kv/{key}%2Fb", b"2").status == 200
    assert client.put(f"/kv/{key}%2fb", b"3").status == 200
    assert client.get(f"/kv/{key}/b").json["data"] == 3


def test_keys_of_full_length(client: Client, key: str) -> None:
    tail = 1024 - len(key) - 1
    for name in ("x" * tail, "y" * (tail % 4) + "😀" * (tail // 4)):
        target = f"/kv/{key}/{quote(name)}"
        assert client.put(target, b"1").status == 201
        assert client.get(target).status == 200
        assert client.put(f"{target}x", b"1").code == "invalid_key"
    for route in ("_range", "_list"):
        page = client.get(f"/kv/{route}?prefix={key}/&limit=1").json
        assert client.get(f"/kv/{route}?prefix={key}/&cursor={page['next_cursor']}").json["next_cursor"] is None


def test_keys_are_bytes_and_not_normalised(client: Client, key: str) -> None:
    names = ["é", "Å", "\u212b", "K", "\u212a", "ﬁ", "fi", "ı", "i", "I", "a\u200db", "ab"]
    names += [unicodedata.normalize("NFD", name) for name in ("é", "Å")]
    assert len(set(names)) == len(names)
    for number, name in enumerate(names):
        assert client.put(f"/kv/{key}/{quote(name)}", b"%d" % number).status == 201
    for number, name in enumerate(names):
        assert client.get(f"/kv/{key}/{quote(name)}").json["data"] == number
    pairs = client.get(f"/kv/_range?prefix={key}/&keys_only").json["pairs"]
    assert [pair["path"] for pair in pairs] == sorted((f"{key}/{name}" for name in names), key=str.encode)


@pytest.mark.parametrize("target", ["//kv/a", "/KV/a", "/kv", "/kv%2Fa", "/./kv/a", "/x/../kv/a", "/kv;a/b", "/", "*"])
def test_what_is_not_below_kv_is_not_there(client: Client, target: str) -> None:
    reply = client.get(target)
    assert reply.status in (400, 404)
    assert reply.code in ("unknown_route", "malformed_request")
    assert client.put(target, b"1").status in (400, 404)


def test_the_same_rules_hold_everywhere(client: Client) -> None:
    for raw, code in (("a//b", "invalid_key"), ("%ff", "invalid_key"), ("_x", "reserved_key")):
        assert client.get(f"/api/data/{raw}/history").code == code
        assert client.get(f"/api/data/{raw}/history/1").code == code
        assert client.post(f"/api/data/{raw}/history/1/restore").code == code
        assert client.get(f"/kv/{raw}/metadata").code == code
        assert client.put(f"/kv/{raw}/metadata", b"{}").code == code
    items = (
        b'[{"op":"put","path":"a//b","data":1},{"op":"put","path":"_x","data":1},{"op":"delete","path":"a/metadata"}]'
    )
    codes = [result["code"] for result in client.post("/kv/_bulk", items).json["results"]]
    assert codes == ["invalid_key", "reserved_key", "reserved_key"]
