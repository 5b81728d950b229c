"""A room is never fuller than it may be, whoever waits gets in in turn, and only who is slow is put out for others."""

import asyncio
from collections.abc import Iterator
from unittest.mock import patch

import pytest
import structlog

from kvs.errors import Unavailable
from kvs.server.room import Room

RATE = 1_000
TICK_S = 0.01


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with (
        patch("kvs.server.room.PRESS_INTERVAL_S", TICK_S),
        patch("kvs.server.room.PRESSED_MIN_BYTES_PER_S", RATE / TICK_S),
    ):
        yield


class Client:
    """Moves `rate` bytes each time it is looked at."""

    def __init__(self, room: Room, rate: int = 0) -> None:
        self._room = room
        self._rate = rate
        self._moved = 0
        self.is_out = False

    def moved_bytes(self) -> int:
        self._moved += self._rate
        return self._moved

    def put_out(self) -> None:
        self.is_out = True

    def leave(self) -> None:
        self._room.leave(self)


def inside(room: Room, size_bytes: int, rate: int = 0) -> Client:
    client = Client(room, rate)
    room.occupy(client, size_bytes)
    return client


def room(limit_bytes: int = 100, waiting_max: int = 10) -> Room:
    return Room("test", limit_bytes, waiting_max)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_fits_does_not_wait() -> None:
    made = room()
    await made.place(60)
    inside(made, 60)
    await made.place(40)
    inside(made, 40)
    assert made.is_full


async def test_one_that_is_too_large_for_the_room_gets_in_when_it_is_empty() -> None:
    made = room()
    await made.place(1_000)
    alone = inside(made, 1_000, RATE)
    waiting = asyncio.create_task(made.place(1))
    await turns()
    assert not waiting.done()
    alone.leave()
    await waiting


async def test_who_waits_gets_in_in_turn_and_one_at_a_time() -> None:
    made = room()
    first = inside(made, 100, RATE)
    entered: list[int] = []

    async def enter(number: int) -> None:
        await made.place(60)
        entered.append(number)
        inside(made, 60, RATE)

    tasks = [asyncio.create_task(enter(number)) for number in range(3)]
    await turns()
    assert entered == []
    first.leave()
    await turns()
    assert entered == [0], "the second does not fit beside the first"
    for task in tasks:
        task.cancel()


async def test_a_small_one_does_not_overtake() -> None:
    """Else a large one would wait for ever."""
    made = room()
    first = inside(made, 90, RATE)
    large, small = asyncio.create_task(made.place(50)), asyncio.create_task(made.place(5))
    await turns()
    assert not large.done()
    assert not small.done()
    first.leave()
    await asyncio.gather(large, small)


async def test_too_many_that_wait_are_refused() -> None:
    made = room(waiting_max=2)
    inside(made, 100, RATE)
    waiting = [asyncio.create_task(made.place(1)) for _ in range(2)]
    await turns()
    with pytest.raises(Unavailable) as refused:
        await made.place(1)
    assert refused.value.code == "overloaded"
    for task in waiting:
        task.cancel()


async def test_who_waits_too_long_is_refused_and_forgotten() -> None:
    made = room()
    first = inside(made, 100, 2 * RATE)
    with patch("kvs.server.room.ROOM_TIMEOUT_S", 3 * TICK_S), pytest.raises(Unavailable):
        await made.place(1)
    assert not first.is_out
    first.leave()
    await made.place(100)


async def test_one_that_gave_up_waiting_is_in_nobodys_way() -> None:
    made = room()
    first = inside(made, 100, RATE)
    gone, waiting = asyncio.create_task(made.place(100)), asyncio.create_task(made.place(50))
    await turns()
    gone.cancel()
    await turns()
    first.leave()
    await waiting


async def test_the_slowest_go_and_only_as_many_as_are_in_the_way() -> None:
    made = room()
    rates = [RATE // 2, 0, RATE, RATE // 4, 5 * RATE]
    clients = [inside(made, 20, rate) for rate in rates]
    with structlog.testing.capture_logs() as entries:
        await made.place(30)
    assert [client.is_out for client in clients] == [False, True, False, True, False]
    assert [(entry["kind"], entry["clients"]) for entry in entries] == [("test", 2)]
    for client in clients:
        client.leave()
    assert not made.is_full


async def test_nobody_is_put_out_while_nobody_waits() -> None:
    made = room()
    slow = inside(made, 1_000)
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(5 * TICK_S, done.set_result, None)
    await done
    assert not slow.is_out
    assert made.is_full


async def test_who_has_just_come_in_has_time_to_show_how_fast_it_is() -> None:
    made = room()
    early = inside(made, 50)
    waiting = asyncio.create_task(made.place(60))
    while not early.is_out:
        late = inside(made, 0)
        await asyncio.sleep(0)
        late.leave()
    await waiting
    assert not late.is_out
