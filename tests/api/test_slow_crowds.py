"""Many slow clients together hold no more memory than they may, and keep nobody out for long."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from unittest.mock import patch

import pytest

from kvs.server.room import Room, Rooms
from tests.api.client import Client, Reply, request
from tests.api.peers import Peer, sent
from tests.api.wire import Wire

PLACES = 3
SIZE = 4 * 1024 * 1024
SOON_S = 10.0


@pytest.fixture
def small_rooms() -> Iterator[Rooms]:
    """A node that is made now has a place for three bodies and three answers of the size above; two may wait."""
    rooms = Rooms(Room("bodies", PLACES * SIZE, 2), Room("answers", PLACES * SIZE, 100))
    with (
        patch("kvs.server.server.Rooms.make", lambda: rooms),
        patch("kvs.server.room.PRESS_INTERVAL_S", 0.1),
    ):
        yield rooms


@pytest.fixture
def client(small_rooms: Rooms, make_client: Callable[..., Client]) -> Client:
    del small_rooms
    return make_client()


def begin_put(wire: Wire, key: str, size: int = SIZE, *, expect: bool = False) -> None:
    fields = b"Expect: 100-continue\r\n" if expect else b""
    head = b"PUT /kv/%b HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n%bContent-Length: %d\r\n\r\n"
    wire.write(head % (key.encode(), fields, size))


def answer(wire: Wire) -> Reply:
    found = wire.reply()
    assert found is not None
    return found


# --- bodies ---


def test_bodies_that_stand_still_make_room_for_others(client: Client) -> None:
    with ExitStack() as ends:
        stalled = [ends.enter_context(Wire(client.address)) for _ in range(PLACES)]
        for number, wire in enumerate(stalled):
            begin_put(wire, f"stalled{number}")
            wire.write(bytes(1_000_000))
        started_s = time.monotonic()
        assert client.put("/kv/a", bytes(SIZE), Content_Type="text/plain").status == 201
        assert time.monotonic() - started_s < SOON_S
        (put_out, *_) = [wire for wire in stalled if not wire.is_quiet(1)]
        reply = answer(put_out)
        assert (reply.status, reply.code, reply.is_last) == (503, "overloaded", True)
        assert int(reply.headers["retry-after"]) > 0


def test_small_bodies_need_no_place(client: Client) -> None:
    with ExitStack() as ends, patch("kvs.server.room.PRESSED_MIN_BYTES_PER_S", 0):
        for number in range(PLACES + 2):
            wire = ends.enter_context(Wire(client.address))
            begin_put(wire, f"stalled{number}")
            wire.write(b"1")
        client.put("/kv/b", b"1")
        with Wire(client.address) as wire:
            begin_put(wire, "a", 9_000)
            wire.write(bytes(8_000))
            assert wire.is_quiet(0.05)
            wire.write(bytes(1_000))
            assert answer(wire).status == 201


def test_whoever_is_one_too_many_is_told_at_once(client: Client) -> None:
    with ExitStack() as ends, patch("kvs.server.room.PRESSED_MIN_BYTES_PER_S", 0):
        for number in range(PLACES + 2):
            wire = ends.enter_context(Wire(client.address))
            begin_put(wire, f"stalled{number}")
            wire.write(b"1")
        deadline_s = time.monotonic() + SOON_S
        reply = None
        while reply is None:
            assert time.monotonic() < deadline_s
            with Wire(client.address) as wire:
                begin_put(wire, "a")
                wire.write(b"1")
                if not wire.is_quiet(0.5):
                    reply = answer(wire)
        assert (reply.status, reply.code) == (503, "overloaded")


def test_who_asks_before_it_sends_hears_when_there_is_a_place(client: Client) -> None:
    with ExitStack() as ends:
        begun = [ends.enter_context(Wire(client.address)) for _ in range(PLACES)]
        with patch("kvs.server.room.PRESSED_MIN_BYTES_PER_S", 0):
            for number, wire in enumerate(begun):
                begin_put(wire, f"begun{number}")
                wire.write(bytes(SIZE - 1))
            asking = ends.enter_context(Wire(client.address))
            begin_put(asking, "a", expect=True)
            assert asking.is_quiet(0.3)
            begun[0].write(b"1")
            assert answer(begun[0]).status == 201
            assert asking.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            asking.write(bytes(SIZE))
            assert answer(asking).status == 201


def test_peers_need_no_place(make_peer: Callable[..., Peer]) -> None:
    """They are trusted to send what they say, and must not be kept out by clients."""
    rooms = Rooms(Room("bodies", 1, 0), Room("answers", PLACES * SIZE, 100))
    with patch("kvs.server.server.Rooms.make", lambda: rooms):
        peer = make_peer()
    documents = [json.dumps({"records": [sent(key, 1, "x" * 100_000)]}).encode() for key in ("a", "b")]
    other = Client(peer.address)
    with ExitStack() as ends, patch("kvs.server.room.PRESSED_MIN_BYTES_PER_S", 0):
        stalled = ends.enter_context(Wire(peer.address))
        begin_put(stalled, "stalled")
        stalled.write(b"1")
        deadline_s = time.monotonic() + SOON_S
        while not rooms.bodies.is_full:
            assert time.monotonic() < deadline_s
            other.get("/health")
        for document in documents:
            wire = ends.enter_context(Wire(peer.address))
            whole = request("POST", "/replicate", document, peer.credentials)
            wire.write(whole[:50_000])
            assert wire.is_quiet(0.05)
            wire.write(whole[50_000:])
            assert answer(wire).json == {"outcomes": ["taken"]}
    other.close()


# --- answers ---


def put_large(client: Client, key: str) -> None:
    assert client.put(f"/kv/{key}", bytes(SIZE), Content_Type="text/plain").status == 201


def stall(ends: ExitStack, client: Client, count: int) -> list[Wire]:
    """Readers of nothing."""
    wires = [ends.enter_context(Wire(client.address, receive_bytes=4096)) for _ in range(count)]
    for wire in wires:
        wire.write(request("GET", "/kv/large"))
    return wires


def test_readers_that_stand_still_make_room_for_others(client: Client, small_rooms: Rooms) -> None:
    put_large(client, "large")
    with ExitStack() as ends:
        stall(ends, client, PLACES + 5)
        deadline_s = time.monotonic() + SOON_S
        while not small_rooms.answers.is_full:
            assert time.monotonic() < deadline_s
            client.get("/health")
        started_s = time.monotonic()
        assert len(client.get("/kv/large").body) == SIZE
        assert time.monotonic() - started_s < SOON_S


def test_small_answers_do_not_wait_behind_large_ones(client: Client, small_rooms: Rooms) -> None:
    put_large(client, "large")
    client.put("/kv/small", b"1")
    with ExitStack() as ends, patch("kvs.server.room.PRESSED_MIN_BYTES_PER_S", 0):
        stall(ends, client, PLACES + 5)
        deadline_s = time.monotonic() + SOON_S
        while not small_rooms.answers.is_full:
            assert time.monotonic() < deadline_s
            client.get("/health")
        for _ in range(50):
            assert client.get("/kv/small").json["data"] == 1
            assert client.put("/kv/small", b"1").status == 200
            assert client.send("HEAD", "/kv/large").status == 200


def test_a_reader_that_is_gone_leaves_its_place(client: Client, small_rooms: Rooms) -> None:
    put_large(client, "large")
    for _ in range(3):
        with ExitStack() as ends:
            for wire in stall(ends, client, PLACES):
                with suppress(OSError):
                    wire.take(1)
                    wire.reset()
        deadline_s = time.monotonic() + SOON_S
        while small_rooms.answers.is_full:
            assert time.monotonic() < deadline_s
            client.get("/health")
    assert len(client.get("/kv/large").body) == SIZE
