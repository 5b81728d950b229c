"""A time to live, by a clock that the tests move."""

from collections.abc import Callable

import pytest

from tests.api.client import Client
from tests.api.running import Clock

HOUR_MS = 3_600_000
DURATIONS_MS = {
    "300ms": 300,
    "90s": 90_000,
    "1h30m": 5_400_000,
    "1.5h": 5_400_000,
    "7d": 7 * 24 * HOUR_MS,
    "1h0m5s": 3_605_000,
    "36500d": 36_500 * 24 * HOUR_MS,
}
NOT_DURATIONS = ["-1s", "-0", "1", "00", "1y", "soon", "", " 1s", "1s ", "1 s", "0.5ms", "1e3s", "+1s", "٣s", "1h-5m"]
NOT_DURATIONS += ["36501d", "9" * 400 + "s"]


@pytest.fixture
def timed(make_client: Callable[..., Client], clock: Clock) -> Client:
    """A client of a node that lives by `clock`."""
    return make_client(clock=clock)


def test_a_value_is_absent_from_the_millisecond_it_ends(timed: Client, clock: Clock) -> None:
    timed.put("/kv/a?ttl=90s", b"1")
    ends_at = clock.now_ms + 90_000
    assert timed.get("/kv/a").json["expires_at"] == ends_at
    clock.now_ms = ends_at - 1
    for target in ("/kv/a", "/kv/_range", "/kv/_list", "/api/data/a/history"):
        assert str(ends_at).encode() in timed.get(target).body
    clock.now_ms = ends_at
    assert timed.get("/kv/a").code == "not_found"
    assert timed.get("/kv/_range").json["pairs"] == []
    assert timed.get("/kv/_list").json["entries"] == []
    assert timed.get("/api/data/a/history").status == 404
    assert timed.delete("/kv/a").status == 404
    assert timed.put("/kv/a", b"1", If_Match="*").status == 412


def test_a_value_that_ended_may_be_created_again(timed: Client, clock: Clock) -> None:
    timed.put("/kv/a?ttl=1s", b'"old"')
    clock.now_ms += 1000
    assert timed.put("/kv/a", b'"new"', If_None_Match="*").status == 201
    assert timed.get("/kv/a").json["data"] == "new"
    assert b"old" not in timed.get("/api/data/a/history").body


def test_a_write_without_a_ttl_lifts_the_one_before(timed: Client, clock: Clock) -> None:
    timed.put("/kv/a?ttl=1s", b"1")
    timed.put("/kv/a", b"2")
    clock.now_ms += 10_000
    assert "expires_at" not in timed.get("/kv/a").json


def test_durations_in_the_query_and_in_the_body(timed: Client, clock: Clock) -> None:
    for text, duration_ms in DURATIONS_MS.items():
        timed.put(f"/kv/query?ttl={text}", b"1")
        timed.put("/kv/body", b'{"data":1,"ttl":"%b"}' % text.encode())
        for name in ("query", "body"):
            assert timed.get(f"/kv/{name}").json["expires_at"] == clock.now_ms + duration_ms, text


@pytest.mark.parametrize("text", NOT_DURATIONS)
def test_what_is_no_duration_is_refused_by_name(client: Client, key: str, text: str) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())
    for reply in (
        client.put(f"/kv/{key}?ttl={quoted}", b"1"),
        client.put(f"/kv/{key}", b'{"data":1,"ttl":"%b"}' % text.encode()),
    ):
        assert (reply.status, reply.json["field"]) == (400, "ttl")
    assert client.get(f"/kv/{key}").status == 404


@pytest.mark.parametrize("ttl", [b"60", b"null", b'["1h"]', b"true", b'{"s":1}'])
def test_a_ttl_in_the_body_is_text(client: Client, key: str, ttl: bytes) -> None:
    reply = client.put(f"/kv/{key}", b'{"data":1,"ttl":%b}' % ttl)
    assert (reply.status, reply.json["field"]) == (400, "ttl")


def test_the_body_form_stores_its_data_as_sent(timed: Client, clock: Clock) -> None:
    timed.put("/kv/a", b'{ "ttl" : "1h", "data" : {"n": 1.10 } }')
    reply = timed.get("/kv/a")
    assert b'"data":{"n": 1.10 }}' in reply.body
    assert reply.json["expires_at"] == clock.now_ms + HOUR_MS


def test_a_blob_may_end_too(timed: Client, clock: Clock) -> None:
    timed.put("/kv/a?ttl=1s", b'{"data":1,"ttl":"1h"}', Content_Type="text/plain")
    assert timed.get("/kv/a").body == b'{"data":1,"ttl":"1h"}'
    clock.now_ms += 1000
    assert timed.get("/kv/a").status == 404


def test_two_ttls_are_refused(client: Client, key: str) -> None:
    reply = client.put(f"/kv/{key}?ttl=1h", b'{"data":1,"ttl":"1h"}')
    assert (reply.status, reply.json["field"]) == (400, "ttl")
    assert client.put(f"/kv/{key}?ttl=1h&ttl=1h", b"1").status == 400
    assert client.get(f"/kv/{key}").status == 404


def test_the_default_ttl_applies_when_none_is_named(make_client: Callable[..., Client], clock: Clock) -> None:
    client = make_client(clock=clock, default_ttl=HOUR_MS)
    client.put("/kv/a", b"1")
    client.put("/kv/b?ttl=0", b"1")
    client.put("/kv/c", b'{"data":1,"ttl":"0"}')
    client.put("/kv/d?ttl=2h", b"1")
    client.post("/kv/_bulk", b'[{"op":"put","path":"e","data":1},{"op":"put","path":"f","data":1,"ttl":"0"}]')
    ends = {name: client.get(f"/kv/{name}").json.get("expires_at") for name in "abcdef"}
    now_ms = clock.now_ms
    assert ends == {
        "a": now_ms + HOUR_MS,
        "b": None,
        "c": None,
        "d": now_ms + 2 * HOUR_MS,
        "e": now_ms + HOUR_MS,
        "f": None,
    }


def test_versions_rise_while_the_clock_stands_or_falls(timed: Client, clock: Clock) -> None:
    first = timed.put("/kv/a", b"1").json["timestamp"]
    assert first == clock.now_ms
    clock.now_ms -= HOUR_MS
    assert timed.put("/kv/a", b"2").json["timestamp"] >= first
    assert timed.get("/kv/a").json["data"] == 2
    assert [entry["data"] for entry in timed.get("/api/data/a/history").json] == [2, 1]
    timed.put("/kv/b?ttl=1s", b"1")
    assert timed.get("/kv/b").json["expires_at"] == clock.now_ms + 1000
