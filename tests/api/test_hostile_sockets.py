"""Clients that trickle, stop half-way, vanish or speak something else. The node cuts them off, and serves the others.

Deadlines are shortened; what is awaited is the end of a connection, never a time.
"""

import gc
import logging
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import repeat
from threading import Thread
from unittest.mock import patch

import pytest
import structlog

from kvs.limits import HEADER_MAX_BYTES, HEADERS_MAX_COUNT, REQUEST_LINE_MAX_BYTES
from tests.api.client import Client, request
from tests.api.wire import Wire
from tests.process.eventually import eventually

SHORT_S = 0.2
SOON_S = 5.0
"""Far below the deadlines as they are, far above what these tests take."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(autouse=True)
def nothing_is_an_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client does, it is no error of the node's."""
    with structlog.testing.capture_logs() as entries:
        yield
    assert not [entry for entry in entries if entry["log_level"] in ("error", "critical")]
    assert not [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]


@pytest.fixture
def short_header_deadline() -> Iterator[None]:
    with patch("kvs.server.connection.HEADER_TIMEOUT_S", SHORT_S):
        yield


def seconds_until_closed(wire: Wire) -> float:
    """How long until the node closes; it must not say anything before."""
    started_s = time.monotonic()
    assert wire.replies() == []
    return time.monotonic() - started_s


# --- slow headers ---


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"GET /kv/a HT",
        b"GET /kv/a HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \r",
        b"\r\n" * 9,
    ],
    ids=["nothing", "a letter", "half a line", "no empty line", "half an end", "empty lines"],
)
@pytest.mark.usefixtures("short_header_deadline")
def test_a_header_that_does_not_end_is_cut_off(client: Client, sent: bytes) -> None:
    with Wire(client.address) as wire:
        wire.write(sent)
        assert SHORT_S * 0.9 < seconds_until_closed(wire) < SOON_S


@pytest.mark.parametrize("before", [b"", HEALTH], ids=["first request", "later request"])
@pytest.mark.usefixtures("short_header_deadline")
def test_trickling_does_not_extend_the_deadline(client: Client, before: bytes) -> None:
    with Wire(client.address) as wire:
        wire.write(before)
        assert not before or wire.reply()
        started_s = time.monotonic()
        wire.write(b"GET /health HTTP/1.1\r\nHost: a\r\nX: ")
        while wire.is_quiet(0.01):
            assert time.monotonic() < started_s + SOON_S
            wire.write(b"x")
        assert time.monotonic() > started_s + SHORT_S * 0.9
        assert wire.replies() == []


@pytest.mark.usefixtures("short_header_deadline")
def test_a_header_in_pieces_is_as_good_as_a_whole_one(client: Client) -> None:
    with Wire(client.address) as wire:
        for _ in range(3):
            for at in range(len(HEALTH)):
                wire.write(HEALTH[at : at + 1])
            reply = wire.reply()
            assert reply is not None
            assert reply.status == 200


@pytest.mark.usefixtures("short_header_deadline")
def test_many_slow_clients_do_not_disturb_another(client: Client) -> None:
    with ExitStack() as ends:
        slow = [ends.enter_context(Wire(client.address)) for _ in range(200)]
        for wire in slow:
            wire.write(b"GET /health HTTP/1.1\r\nHost: a\r\n")
        assert [client.get("/health").status for _ in range(100)] == [200] * 100
        assert all(wire.replies() == [] for wire in slow)


# --- slow bodies ---


@pytest.fixture
def short_body_deadline() -> Iterator[None]:
    with patch("kvs.server.body.BODY_TIMEOUT_S", SHORT_S):
        yield


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 9\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    ],
    ids=["length", "chunks", "asked before"],
)
@pytest.mark.usefixtures("short_body_deadline")
def test_a_body_that_trickles_is_refused(client: Client, key: str, framing: bytes) -> None:
    with Wire(client.address) as wire:
        wire.write(b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\n" % key.encode() + framing)
        started_s = time.monotonic()
        if b"chunked" in framing:
            while wire.is_quiet(0.01):
                assert time.monotonic() < started_s + SOON_S
                wire.write(b"1\r\n1\r\n")
        reply = wire.reply()
        assert reply is not None
        assert (reply.status, reply.code, reply.is_last) == (408, "request_timeout", True)
        assert SHORT_S * 0.9 < time.monotonic() - started_s < SOON_S
    assert client.get(f"/kv/{key}").status == 404


@pytest.mark.usefixtures("short_body_deadline")
def test_a_large_body_has_time_by_its_size(client: Client, key: str) -> None:
    with Wire(client.address) as wire, patch("kvs.server.body.BODY_MIN_BYTES_PER_S", 1_000_000):
        started_s = time.monotonic()
        wire.write(b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n1" % key.encode())
        reply = wire.reply()
        assert reply is not None
        assert reply.status == 408
        assert time.monotonic() > started_s + SHORT_S + 0.4


def test_the_rest_of_a_refused_body_is_not_awaited_for_long(make_client: Callable[..., Client]) -> None:
    with patch("kvs.server.connection.LINGER_TIMEOUT_S", SHORT_S):
        client = make_client()
    with Wire(client.address) as wire:
        wire.write(b"PUT /kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n")
        reply = wire.reply()
        assert reply is not None
        assert (reply.status, reply.is_last) == (413, True)
        started_s = time.monotonic()
        while wire.is_quiet(0.01):
            assert time.monotonic() < started_s + SOON_S / 5
            wire.write(b"x")


# --- idle connections ---


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(make_client: Callable[..., Client]) -> None:
    with patch("kvs.server.connection.KEEPALIVE_TIMEOUT_S", 2 * SHORT_S):
        client = make_client()
    with Wire(client.address) as idle, Wire(client.address) as busy:
        for wire in (idle, busy):
            wire.write(HEALTH)
            assert wire.reply()
        started_s = time.monotonic()
        while idle.is_quiet(SHORT_S / 2):
            assert time.monotonic() < started_s + SOON_S
            busy.write(HEALTH)
            assert busy.reply()
        assert time.monotonic() > started_s + SHORT_S
        assert idle.replies() == []
        busy.write(HEALTH)
        assert busy.reply()


def first_status(client: Client) -> int:
    """What a new connection is answered."""
    with Wire(client.address) as wire:
        wire.write(HEALTH)
        reply = wire.reply()
        assert reply is not None
        return reply.status


def test_connections_are_capped(make_client: Callable[..., Client]) -> None:
    client = make_client()
    assert client.get("/health").status == 200
    with patch("kvs.server.connection.CONNECTIONS_MAX", 3), ExitStack() as ends:
        inside = [ends.enter_context(Wire(client.address)) for _ in range(2)]
        for wire in inside:
            wire.write(HEALTH)
            assert wire.reply()
        for sent in (b"", HEALTH, b"PUT /kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1"):
            with Wire(client.address) as wire:
                wire.write(sent)
                (refused,) = wire.replies()
                assert (refused.status, refused.code, refused.is_last) == (503, "overloaded", True)
                assert int(refused.headers["retry-after"]) > 0
        assert client.get("/kv/a").status == 404
        for wire in inside:
            wire.write(HEALTH)
            assert wire.reply()
        inside[0].reset()
        deadline_s = time.monotonic() + SOON_S
        while first_status(client) != 200:  # the node may take the next connection before it sees the reset
            assert time.monotonic() < deadline_s


# --- too much ---


def fields(count: int) -> bytes:
    """That many fields, the host among them."""
    return b"Host: a\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(count - 2)) + b"Connection: close\r\n"


TOO_MUCH = {
    "request line": b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * REQUEST_LINE_MAX_BYTES),
    "endless request line": b"GET /" + b"a" * 4 * REQUEST_LINE_MAX_BYTES,
    "endless method": b"G" * 100_000,
    "value": b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"a" * HEADER_MAX_BYTES * 2),
    "endless value": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1_000_000,
    "endless name": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a" * 1_000_000,
    "one field too many": b"GET /health HTTP/1.1\r\n" + fields(HEADERS_MAX_COUNT + 1) + b"\r\n",
    "endless fields": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 100_000,
}


@pytest.mark.parametrize("sent", TOO_MUCH.values(), ids=TOO_MUCH)
def test_too_much_header_is_refused(client: Client, sent: bytes) -> None:
    with Wire(client.address) as wire:
        wire.write(sent)
        (reply,) = wire.replies()
        assert (reply.status, reply.code, reply.is_last) == (400, "malformed_request", True)
    assert client.get("/health").status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health?%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (b"a" * (REQUEST_LINE_MAX_BYTES - 100)),
        b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: %b\r\n\r\n" % (b"a" * (HEADER_MAX_BYTES - 100)),
        b"GET /health HTTP/1.1\r\n%b\r\n" % fields(HEADERS_MAX_COUNT),
    ],
    ids=["request line", "value", "fields"],
)
def test_as_much_header_as_may_be_is_taken(client: Client, sent: bytes) -> None:
    with Wire(client.address) as wire:
        wire.write(sent)
        (reply,) = wire.replies()
        assert reply.status == 200


def test_endless_trailers_are_refused(client: Client, key: str) -> None:
    with Wire(client.address) as wire:
        wire.write(b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % key.encode())
        wire.write(b"1\r\n1\r\n0\r\n" + b"X: a\r\n" * 10_000)
        (reply,) = wire.replies()
        assert reply.status == 400
    assert client.get(f"/kv/{key}").status == 404


# --- something else than HTTP ---


def client_hello() -> bytes:
    """What a browser sends that was told https."""
    sent = ssl.MemoryBIO()
    talk = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="kvs.test")
    with pytest.raises(ssl.SSLWantReadError):
        talk.do_handshake()
    return sent.read()


NO_HTTP = {
    "TLS": client_hello(),
    "begin of TLS": client_hello()[:3],
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "all bytes": bytes(range(256)) * 100,
    "NULs": bytes(100_000),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "JSON": b'{"id":1,"method":"ping"}\n',
    "lower case": b"get /health http/1.1\r\nhost: a\r\n\r\n",
    "other version": b"GET /health HTTP/7.3\r\nHost: a\r\n\r\n",
    "answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_is_refused(client: Client, sent: bytes) -> None:
    with Wire(client.address) as wire:
        wire.write(sent)
        (reply,) = wire.replies()
        assert (reply.status, reply.code, reply.is_last) == (400, "malformed_request", True)
    assert client.get("/health").status == 200


@pytest.mark.usefixtures("short_header_deadline")
def test_a_mebibyte_of_empty_lines_is_no_request(client: Client) -> None:
    with Wire(client.address) as wire:
        wire.write(b"\r\n" * 500_000)
        assert wire.replies() == []
    assert client.get("/health").status == 200


# --- pipelining ---


def test_pipelined_requests_are_answered_in_order(client: Client, key: str) -> None:
    """Writes and reads of one key in turn: each read sees the write before it, each answer stands in its place."""
    count = 1_500
    sent = b"".join(
        request("PUT", f"/kv/{key}", b"%d" % number, {"X-Request-ID": f"put{number}"})
        + request("GET", f"/kv/{key}", None, {"X-Request-ID": f"get{number}"})
        for number in range(count)
    )
    with Wire(client.address) as wire:
        writing = Thread(target=wire.write, args=(sent,))
        writing.start()
        for number in range(count):
            put, get = wire.reply(), wire.reply()
            assert put is not None
            assert get is not None
            assert (put.headers["x-request-id"], put.status) == (f"put{number}", 200 if number else 201)
            assert (get.headers["x-request-id"], get.json["data"]) == (f"get{number}", number)
        writing.join()


def test_a_broken_request_does_not_undo_those_answered_before(client: Client, key: str) -> None:
    with Wire(client.address) as wire:
        wire.write(request("PUT", f"/kv/{key}", b"1"))
        assert wire.reply()
        wire.write(b"\x00garbage\r\n\r\n" + request("PUT", f"/kv/{key}", b"2"))
        (reply,) = wire.replies()
        assert reply.status == 400
    assert client.get(f"/kv/{key}").json["data"] == 1


def test_what_follows_a_broken_request_takes_no_memory(client: Client, key: str) -> None:
    """Behind a write that is under way, so that nothing of it is answered before it is all there. Nor does it wait for
    the collector of cycles, which a node lets come late."""
    put = b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 8000000\r\n\r\n"
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10):
            with Wire(client.address) as wire:
                wire.write(put % key.encode() + bytes(8_000_000))
                for _ in range(20):
                    wire.write(bytes(1_000_000))
                wire.replies()
        # The node may still be at the last one.
        assert eventually(lambda: tracemalloc.get_traced_memory()[0] - before < 1_000_000, 10)
    finally:
        tracemalloc.stop()
        gc.enable()
    assert client.get("/health").status == 200


# --- clients that stop half-way ---


@pytest.mark.parametrize("pipelined", [1, 5, 100])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_client_that_sends_no_more_still_gets_its_answers(
    client: Client, key: str, method: str, pipelined: int
) -> None:
    """So do `nc -N` and other clients of one request."""
    client.put(f"/kv/{key}", b"1")
    with Wire(client.address) as wire:
        wire.write(request(method, f"/kv/{key}", b"2" if method == "PUT" else None) * pipelined)
        wire.end()
        assert [reply.status for reply in wire.replies()] == [200] * pipelined
    assert client.get(f"/kv/{key}").json["data"] == (2 if method == "PUT" else 1)


def test_a_large_answer_reaches_a_client_that_sends_no_more(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", bytes(8_000_000), Content_Type="text/plain")
    with Wire(client.address) as wire:
        wire.write(request("GET", f"/kv/{key}") * 2)
        wire.end()
        assert [len(reply.body) for reply in wire.replies()] == [8_000_000] * 2


def test_a_stream_for_a_client_that_sends_no_more_ends_at_once(client: Client, key: str) -> None:
    """It has no end of its own, and a client that left looks the same. The end comes here while the write is at it."""
    with Wire(client.address) as wire:
        wire.write(request("PUT", f"/kv/{key}", b"1") + request("GET", f"/watch?prefix={key}"))
        wire.end()
        for status in (201, 200):
            reply = wire.reply()
            assert reply is not None
            assert reply.status == status
        started_s = time.monotonic()
        wire.take(1_000_000)
        assert time.monotonic() - started_s < SOON_S


HALVES = {
    "nothing": b"",
    "header": b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\n",
    "body": b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123",
    "chunks": b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n",
    "chunk": b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n1",
    "last chunk": b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n",
}


def half(key: str, name: str) -> bytes:
    return HALVES[name].replace(b"%b", key.encode())


@pytest.mark.parametrize("name", HALVES)
def test_a_request_that_will_never_be_whole_is_given_up_at_once(client: Client, key: str, name: str) -> None:
    with Wire(client.address) as wire:
        wire.write(half(key, name))
        wire.end()
        assert seconds_until_closed(wire) < SOON_S
    assert client.get(f"/kv/{key}").status == 404


@pytest.mark.parametrize("name", HALVES)
def test_a_reset_in_the_middle_leaves_nothing_behind(client: Client, key: str, name: str) -> None:
    for _ in repeat(None, 20):
        with Wire(client.address) as wire:
            wire.write(half(key, name))
            wire.reset()
    assert client.get(f"/kv/{key}").status == 404


def test_a_reset_behind_a_write_leaves_a_whole_value_or_none(client: Client, key: str) -> None:
    """The client goes away before its answer. It cannot know what came of the write, but others may not see half."""
    value = b'"%b"' % (b"x" * 100_000)
    for number in range(20):
        with Wire(client.address) as wire:
            wire.write(request("PUT", f"/kv/{key}/{number}", value) + request("GET", f"/kv/{key}/{number}"))
            wire.reset()
    for number in range(20):
        reply = client.get(f"/kv/{key}/{number}")
        assert reply.status == 404 or reply.json["data"] == "x" * 100_000


def test_a_reset_in_an_answer_is_no_error(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", bytes(8_000_000), Content_Type="text/plain")
    for _ in repeat(None, 5):
        with Wire(client.address, receive_bytes=4096) as wire:
            wire.write(request("GET", f"/kv/{key}") * 3)
            assert wire.take(10_000)
            wire.reset()
    assert client.get("/health").status == 200
