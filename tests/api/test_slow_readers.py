"""Clients that ask for much and read little. None may hold a node's memory, its places for clients, or its stop."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from unittest.mock import patch

import pytest

from tests.api.client import Client, request
from tests.api.running import RunningNode
from tests.api.wire import Wire

SHORT_S = 0.3
SMALL_BUFFER = 4096
READING_BUFFER = 64 * 1024
"""For those that do read: with a smaller one the kernel's own timers decide how fast."""
LARGE = bytes(range(256)) * 4 * 1024 * 16
"""16 MiB: more than the kernel takes off the node's hands."""


@pytest.fixture
def short_deadline() -> Iterator[None]:
    with patch("kvs.server.connection.RESPONSE_STALL_TIMEOUT_S", SHORT_S):
        yield


def put_large(client: Client, key: str) -> None:
    assert client.put(f"/kv/{key}", LARGE, Content_Type="text/plain").status == 201


@pytest.mark.parametrize("extra", [{}, {"Connection": "close"}], ids=["stays", "closes"])
@pytest.mark.usefixtures("short_deadline")
def test_a_client_that_reads_nothing_is_cut_off(client: Client, key: str, extra: dict[str, str]) -> None:
    put_large(client, key)
    with Wire(client.address, receive_bytes=SMALL_BUFFER) as wire:
        started_s = time.monotonic()
        wire.write(request("GET", f"/kv/{key}", headers=extra))
        assert wire.is_aborted()
        assert time.monotonic() - started_s > SHORT_S * 0.9
    assert client.get("/health").status == 200


@pytest.mark.usefixtures("short_deadline")
def test_a_client_that_reads_slowly_gets_all(client: Client, key: str) -> None:
    put_large(client, key)
    with Wire(client.address, receive_bytes=READING_BUFFER) as wire:
        wire.write(request("GET", f"/kv/{key}"))
        started_s = time.monotonic()
        got = bytearray()
        while part := wire.take(min(len(LARGE) // 50, len(LARGE) - len(got))):
            got += part
            # Others are served while it takes its time, which lasts for several deadlines.
            until_s = started_s + 4 * SHORT_S * len(got) / len(LARGE)
            while time.monotonic() < until_s:
                assert client.get("/health").status == 200
        head, _, body = bytes(got).partition(b"\r\n\r\n")
        body += wire.take(len(LARGE) - len(body))
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == LARGE
        assert time.monotonic() - started_s > 3 * SHORT_S


@pytest.mark.usefixtures("short_deadline")
def test_a_client_that_reads_a_little_now_and_then_is_cut_off(client: Client, key: str) -> None:
    put_large(client, key)
    with (
        patch("kvs.server.connection.RESPONSE_MIN_BYTES_PER_S", 1_000_000_000),
        Wire(client.address, receive_bytes=READING_BUFFER) as wire,
    ):
        wire.write(request("GET", f"/kv/{key}"))
        started_s, taken = time.monotonic(), 0
        with suppress(ConnectionError):
            while taken < len(LARGE) / 2:
                taken += len(wire.take(1_000))
                client.get("/health")
        assert taken < len(LARGE) / 2
        assert time.monotonic() - started_s > SHORT_S * 0.9


def test_small_answers_that_nobody_reads_do_not_pile_up(client: Client, key: str) -> None:
    """Each read is followed by a write, which tells how far the node has come."""
    count = 1_000
    client.put(f"/kv/{key}", b'"%b"' % (b"x" * 60_000))
    asked = b"".join(
        request("GET", f"/kv/{key}") + request("PUT", f"/kv/{key}/{number:04}", b"1") for number in range(count)
    )
    with (
        patch("kvs.server.connection.RESPONSE_STALL_TIMEOUT_S", 3 * SHORT_S),
        Wire(client.address, receive_bytes=SMALL_BUFFER) as wire,
    ):
        writing = Thread(target=wire.write, args=(asked,))
        writing.start()
        assert wire.is_aborted()
        writing.join()
    carried_out = len(client.get(f"/kv/_list?prefix={key}/&limit=1000").json["entries"])
    # What the kernel's buffers hold is answered, some MiB; all together would be 60.
    assert 0 < carried_out < count / 4


def test_stalled_clients_do_not_keep_others_out(make_client: Callable[..., Client]) -> None:
    """However little is left of an answer: even a last byte that nobody takes must not hold a place for ever."""
    client = make_client()
    client.put("/kv/a", b'"%b"' % (b"x" * 50_000))
    with (
        patch("kvs.server.connection.RESPONSE_STALL_TIMEOUT_S", SHORT_S),
        patch("kvs.server.connection.CONNECTIONS_MAX", 20),
        ExitStack() as ends,
    ):
        for number in range(19):
            wire = ends.enter_context(Wire(client.address, receive_bytes=SMALL_BUFFER))
            closing = request("GET", "/kv/a", headers={"Connection": "close"})
            wire.write(request("GET", "/kv/a") * (20 + 3 * number) + closing)
        deadline_s = time.monotonic() + 10
        while not are_taken_in(client, 19):
            assert time.monotonic() < deadline_s


def are_taken_in(client: Client, count: int) -> bool:
    """Whether so many further clients are served at once."""
    with ExitStack() as ends:
        for _ in range(count):
            wire = ends.enter_context(Wire(client.address))
            wire.write(request("GET", "/health"))
            reply = wire.reply()
            assert reply is not None
            if reply.status != 200:
                return False
    return True


# --- stopping ---


def test_a_stalled_client_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    with patch("kvs.server.server.SHUTDOWN_TIMEOUT_S", 1.0):
        node = RunningNode(tmp_path / "data")
    client = Client(node.address)
    put_large(client, "a")
    with Wire(node.address, receive_bytes=SMALL_BUFFER) as wire:
        wire.write(request("GET", "/kv/a"))
        assert wire.take(1)
        started_s = time.monotonic()
        node.stop()
        assert time.monotonic() - started_s < 1.8
    client.close()


def test_an_answer_under_way_is_finished_before_a_stop(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "data")
    client = Client(node.address)
    put_large(client, "a")
    with Wire(node.address, receive_bytes=SMALL_BUFFER) as wire:
        wire.write(request("GET", "/kv/a"))
        wire.wait()
        stopping = Thread(target=node.stop)
        stopping.start()
        (reply,) = wire.replies()
        assert reply.body == LARGE
        stopping.join()
    client.close()
