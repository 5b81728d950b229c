"""What holds for slow, stalled and vanishing clients holds over TLS as well."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from threading import Thread
from unittest.mock import patch

import pytest

from tests.api.client import request
from tests.api.tls_site import Site
from tests.api.wire import Wire

SHORT_S = 0.3
SOON_S = 5.0
LARGE = bytes(range(256)) * 4 * 1024 * 16
"""16 MiB: more than the kernel takes off the node's hands."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def tls(site: Site) -> ssl.SSLContext:
    """For clients of the node, which runs."""
    site.start()
    return site.authority.client()


@pytest.fixture
def wire(site: Site, tls: ssl.SSLContext) -> Iterator[Wire]:
    with Wire(site.address, tls=tls) as made:
        yield made


def put(wire: Wire, key: str, body: bytes) -> None:
    wire.write(request("PUT", f"/kv/{key}", body, {"Content-Type": "text/plain"}))
    reply = wire.reply()
    assert reply is not None
    assert reply.status in (200, 201)


def test_large_bodies_come_and_go(wire: Wire) -> None:
    put(wire, "a", LARGE)
    for _ in range(2):
        wire.write(request("GET", "/kv/a"))
        reply = wire.reply()
        assert reply is not None
        assert reply.body == LARGE


def test_a_header_that_does_not_end_is_cut_off(site: Site, tls: ssl.SSLContext) -> None:
    with patch("kvs.server.connection.HEADER_TIMEOUT_S", SHORT_S):
        for sent in (b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: a\r\n"):
            with Wire(site.address, tls=tls) as wire:
                wire.write(sent)
                started_s = time.monotonic()
                assert wire.replies() == []
                assert SHORT_S * 0.8 < time.monotonic() - started_s < SOON_S


def test_a_header_that_does_not_end_frees_its_place_at_once(site: Site, tls: ssl.SSLContext) -> None:
    """The client takes no part in ending the connection, and TLS waits for nothing."""
    with patch("kvs.server.connection.HEADER_TIMEOUT_S", SHORT_S), ExitStack() as ends:
        for _ in range(5):
            ends.enter_context(Wire(site.address, tls=tls)).write(b"GET ")
        with patch("kvs.server.tls_listener.CONNECTIONS_MAX", 5):
            deadline_s = time.monotonic() + SOON_S
            while not is_served(site):
                assert time.monotonic() < deadline_s


def is_served(site: Site) -> bool:
    try:
        return site.status("/health") == 200
    except OSError:
        return False


def test_a_body_that_trickles_is_refused(wire: Wire) -> None:
    with patch("kvs.server.body.BODY_TIMEOUT_S", SHORT_S):
        wire.write(b"PUT /kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1")
        reply = wire.reply()
        assert reply is not None
        assert (reply.status, reply.is_last) == (408, True)
    assert wire.reply() is None


def test_the_answer_reaches_a_client_whose_body_is_too_large(wire: Wire) -> None:
    """Though it goes on sending."""
    wire.write(b"PUT /kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 900000000\r\n\r\n" + bytes(1_000_000))
    reply = wire.reply()
    assert reply is not None
    assert (reply.status, reply.is_last) == (413, True)


def test_an_idle_connection_is_closed(site: Site) -> None:
    with patch("kvs.server.connection.KEEPALIVE_TIMEOUT_S", SHORT_S):
        site.start()
    with Wire(site.address, tls=site.authority.client()) as wire:
        wire.write(HEALTH)
        assert wire.reply()
        started_s = time.monotonic()
        assert wire.reply() is None
        assert SHORT_S * 0.8 < time.monotonic() - started_s < SOON_S


@pytest.mark.parametrize("extra", [{}, {"Connection": "close"}], ids=["stays", "closes"])
def test_a_client_that_reads_nothing_is_cut_off(site: Site, tls: ssl.SSLContext, extra: dict[str, str]) -> None:
    with Wire(site.address, tls=tls) as wire:
        put(wire, "a", LARGE)
    with (
        patch("kvs.server.connection.RESPONSE_STALL_TIMEOUT_S", SHORT_S),
        Wire(site.address, tls=tls, receive_bytes=4096) as wire,
    ):
        started_s = time.monotonic()
        wire.write(request("GET", "/kv/a", headers=extra))
        assert wire.is_aborted()
        assert SHORT_S * 0.8 < time.monotonic() - started_s < SOON_S
    assert site.status("/health") == 200


def test_a_client_that_reads_slowly_gets_all(site: Site, tls: ssl.SSLContext) -> None:
    with Wire(site.address, tls=tls) as wire:
        put(wire, "a", LARGE)
    with (
        patch("kvs.server.connection.RESPONSE_STALL_TIMEOUT_S", SHORT_S),
        Wire(site.address, tls=tls, receive_bytes=64 * 1024) as wire,
    ):
        wire.write(request("GET", "/kv/a"))
        started_s, got = time.monotonic(), 0
        while part := wire.take(min(len(LARGE) // 50, len(LARGE) - got)):
            got += len(part)
            until_s = started_s + 4 * SHORT_S * got / len(LARGE)
            while time.monotonic() < until_s:
                assert site.status("/health") == 200
        assert got == len(LARGE)


def test_small_answers_that_nobody_reads_do_not_pile_up(site: Site, tls: ssl.SSLContext) -> None:
    """Each read is followed by a write, which tells how far the node has come."""
    count = 1_000
    with Wire(site.address, tls=tls) as wire:
        put(wire, "a", b"x" * 60_000)
    asked = b"".join(request("GET", "/kv/a") + request("PUT", f"/kv/n/{number:04}", b"1") for number in range(count))
    with (
        patch("kvs.server.connection.RESPONSE_STALL_TIMEOUT_S", 3 * SHORT_S),
        Wire(site.address, tls=tls, receive_bytes=4096) as wire,
    ):
        writing = Thread(target=write_all, args=(wire, asked))
        writing.start()
        assert wire.is_aborted()
        writing.join()
    with Wire(site.address, tls=tls) as wire:
        wire.write(request("GET", "/kv/_list?prefix=n/&limit=1000"))
        reply = wire.reply()
        assert reply is not None
        assert 0 < len(reply.json["entries"]) < count / 4


def write_all(wire: Wire, data: bytes) -> None:
    with suppress(OSError):
        wire.write(data)


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    count = 300
    for number in range(count):
        wire.write(request("PUT", "/kv/a", b"%d" % number) + request("GET", "/kv/a"))
    for number in range(count):
        stored, read = wire.reply(), wire.reply()
        assert stored is not None
        assert read is not None
        assert read.json["data"] == number


def test_a_client_that_says_goodbye_leaves_no_error(
    site: Site, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    """TLS has no half of a connection: its end is that of both sides, and what was asked right before may be lost."""
    for sent in (b"", HEALTH, HEALTH * 20, b"PUT /kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1"):
        with socket.create_connection(site.address) as plain:
            connection = tls.wrap_socket(plain, server_hostname="localhost")
            connection.sendall(sent)
            with suppress(OSError):
                connection.unwrap()
            connection.close()
    assert site.status("/health") == 200
    assert not [record for record in caplog.get_records("call") if record.name != "root"]


def test_a_reset_in_an_answer_is_no_error(site: Site, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture) -> None:
    with Wire(site.address, tls=tls) as wire:
        put(wire, "a", LARGE)
    for _ in range(5):
        with Wire(site.address, tls=tls, receive_bytes=4096) as wire:
            wire.write(request("GET", "/kv/a") * 3)
            assert wire.take(10_000)
            wire.reset()
    assert site.status("/health") == 200
    assert not [record for record in caplog.get_records("call") if record.name != "root"]


def test_clients_that_stall_do_not_hold_up_a_stop(site: Site) -> None:
    with patch("kvs.server.server.SHUTDOWN_TIMEOUT_S", 1.0):
        site.start()
    tls = site.authority.client()
    with ExitStack() as ends:
        first = ends.enter_context(Wire(site.address, tls=tls))
        put(first, "a", LARGE)
        idle = [ends.enter_context(Wire(site.address, tls=tls)) for _ in range(5)]
        silent = [ends.enter_context(Wire(site.address)) for _ in range(5)]
        for wire in idle:
            wire.write(HEALTH)
            assert wire.reply()
        stalled = ends.enter_context(Wire(site.address, tls=tls, receive_bytes=4096))
        stalled.write(request("GET", "/kv/a"))
        assert stalled.take(1)
        started_s = time.monotonic()
        site.stop()
        assert time.monotonic() - started_s < 2.5
        assert all(wire.take(1) == b"" for wire in silent)
