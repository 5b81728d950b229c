"""Requests that begin in the call that brings them: when their answers go out, and what ends a connection."""

import asyncio
from collections.abc import Callable
from unittest.mock import Mock

import pytest
from aiohttp import web

from kvs.server.connection import Connection, HttpServer
from kvs.server.response import Response

GET = b"GET /%b HTTP/1.1\r\nHost: kvs\r\n%b\r\n"


class Wire(asyncio.Transport):
    """A client's end of a connection."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "socket": Mock()})
        self.received = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.received += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    @property
    def answers(self) -> list[bytes]:
        return [part.rpartition(b"\r\n\r\n")[2] for part in self.received.split(b"HTTP/1.1 200 OK")[1:]]


class Place:
    """A server whose handler answers with the path, behind `gate` if that begins with "wait"."""

    def __init__(self) -> None:
        self.server = HttpServer(self.handle)
        self.gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.cancelled = 0

    async def handle(self, request: web.BaseRequest) -> Response:
        try:
            if request.path.startswith("/wait"):
                await self.gate
            elif request.path == "/turns":
                await asyncio.sleep(0)
                async with asyncio.timeout(10):
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Response(200, request.path.encode())

    async def connect(self) -> tuple[Connection, Wire]:
        """Ready for a request: its task waits."""
        connection, wire = self.server(), Wire()
        connection.connection_made(wire)
        await until(lambda: connection._waiter is not None)
        return connection, wire


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(100):
        if is_so():
            return
        await asyncio.sleep(0)
    assert is_so()


@pytest.fixture
async def place() -> Place:
    return Place()


async def test_a_handler_that_waits_for_nothing_has_answered_when_the_call_returns(place: Place) -> None:
    connection, wire = await place.connect()
    for name in (b"a", b"b"):
        connection.data_received(GET % (name, b""))
    assert wire.answers == [b"/a", b"/b"]
    assert not wire.closed
    assert place.server.requests_count == 2


async def test_a_handler_that_waits_goes_on_when_it_may(place: Place) -> None:
    connection, wire = await place.connect()
    connection.data_received(GET % (b"wait", b""))
    assert wire.answers == []
    place.gate.set_result(None)
    await until(lambda: wire.answers == [b"/wait"])
    connection.data_received(GET % (b"turns", b""))
    await until(lambda: wire.answers == [b"/wait", b"/turns"])
    connection.data_received(GET % (b"a", b""))
    assert wire.answers == [b"/wait", b"/turns", b"/a"]


async def test_requests_behind_one_that_waits_are_answered_behind_it(place: Place) -> None:
    connection, wire = await place.connect()
    connection.data_received(GET % (b"wait", b""))
    connection.data_received(GET % (b"a", b"") + GET % (b"b", b""))
    await asyncio.sleep(0)
    assert wire.answers == []
    place.gate.set_result(None)
    await until(lambda: wire.answers == [b"/wait", b"/a", b"/b"])
    await until(lambda: connection._waiter is not None)
    connection.data_received(GET % (b"c", b""))
    assert wire.answers[3:] == [b"/c"]


async def test_the_connection_ends_behind_an_answer_when_the_client_wants_that(place: Place) -> None:
    connection, wire = await place.connect()
    task = connection._task_handler
    assert task is not None
    connection.data_received(GET % (b"a", b"Connection: close\r\n"))
    assert (wire.answers, wire.closed) == ([b"/a"], True)
    await until(task.done)


async def test_a_client_that_leaves_leaves_nothing_behind(place: Place) -> None:
    connection, wire = await place.connect()
    task = connection._task_handler
    assert task is not None
    connection.data_received(GET % (b"wait", b""))
    connection.connection_lost(None)
    place.gate.set_result(None)
    await until(task.done)
    await until(lambda: not connection._request_in_progress)
    assert wire.answers == []
    await until(lambda: not place.server.connections)


async def test_a_stop_waits_for_what_is_under_way(place: Place) -> None:
    connection, wire = await place.connect()
    connection.data_received(GET % (b"wait", b""))
    stopping = asyncio.create_task(place.server.shutdown(10))
    await asyncio.sleep(0)
    assert not stopping.done()
    place.gate.set_result(None)
    await stopping
    assert wire.answers == [b"/wait"]
    assert wire.closed


async def test_a_stop_does_not_wait_for_ever(place: Place) -> None:
    connection, wire = await place.connect()
    connection.data_received(GET % (b"wait", b""))
    await place.server.shutdown(0.01)
    await until(lambda: place.cancelled == 1)
    assert wire.answers == []
    assert wire.closed
