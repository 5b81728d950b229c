"""Memory that slow clients share: bodies that arrive, and answers that are taken, each in a room of its own.

One client may be as slow as the deadlines allow; hundreds who are slow on purpose would fill the memory. So what is
large has its place in a room of bounded size, and who finds it full waits. While somebody waits, those inside are
pressed: who moves less than a certain rate is put out, the slowest first, until there is a place. A client that is slow
and in nobody's way is left alone.
"""

import asyncio
from collections import deque
from typing import NamedTuple, Protocol

import structlog

from kvs.errors import Unavailable
from kvs.limits import (
    ANSWERS_LEAVING_MAX_BYTES,
    BODIES_ARRIVING_MAX_BYTES,
    BODIES_WAITING_MAX,
    CONNECTIONS_MAX,
    PRESS_INTERVAL_S,
    PRESSED_MIN_BYTES_PER_S,
    ROOM_TIMEOUT_S,
)

log = structlog.get_logger()


class Occupant(Protocol):
    """Somebody inside."""

    def moved_bytes(self) -> int:
        """How far it has come, ever growing."""

    def put_out(self) -> None:
        """It has to end now, and leaves by that."""


class Room:
    """To be used on one event loop."""

    def __init__(self, name: str, limit_bytes: int, waiting_max: int) -> None:
        """`name` is for the log; at most `waiting_max` wait."""
        self._name = name
        self._limit_bytes = limit_bytes
        self._waiting_max = waiting_max
        self._held_bytes = 0
        self._inside: dict[Occupant, tuple[int, int]] = {}
        """The size of each, and how far it had come when it was looked at last; -1 for not yet."""
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._pressing: asyncio.TimerHandle | None = None

    @property
    def is_full(self) -> bool:
        return self._held_bytes >= self._limit_bytes

    def occupy(self, occupant: Occupant, size_bytes: int) -> None:
        """Go in, whether there is a place or not."""
        self._inside[occupant] = (size_bytes, -1)
        self._held_bytes += size_bytes

    def leave(self, occupant: Occupant) -> None:
        """No matter if it was put out before."""
        found = self._inside.pop(occupant, None)
        if found is not None:
            self._held_bytes -= found[0]
            self._let_in()

    async def place(self, size_bytes: int) -> None:
        """Wait until so much fits, or until it is the only one. Raises Unavailable when too many wait, or for too
        long."""
        if not self._waiting and self._fits(size_bytes):
            return
        if len(self._waiting) >= self._waiting_max:
            raise _overloaded()
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append((size_bytes, turn))
        self._press_later()
        timer = loop.call_later(ROOM_TIMEOUT_S, _give_up, turn)  # asyncio.timeout needs a task, and may have none yet
        try:
            await turn
        finally:
            timer.cancel()
            if (size_bytes, turn) in self._waiting:
                self._waiting.remove((size_bytes, turn))

    def _fits(self, size_bytes: int) -> bool:
        return not self._inside or self._held_bytes + size_bytes <= self._limit_bytes

    def _let_in(self) -> None:
        """Whoever waits first, one at a time: the next one after this has gone in."""
        if self._waiting and self._fits(self._waiting[0][0]):
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
            asyncio.get_running_loop().call_soon(self._let_in)

    def _press_later(self) -> None:
        if self._pressing is None:
            self._pressing = asyncio.get_running_loop().call_later(PRESS_INTERVAL_S, self._press)

    def _press(self) -> None:
        self._pressing = None
        slow: list[tuple[int, Occupant]] = []
        for occupant, (size_bytes, before) in self._inside.items():
            now = occupant.moved_bytes()
            if before >= 0 and now - before < PRESSED_MIN_BYTES_PER_S * PRESS_INTERVAL_S:
                slow.append((now - before, occupant))
            self._inside[occupant] = (size_bytes, now)
        slow.sort(key=lambda each: each[0], reverse=True)
        put_out = 0
        while slow and self._waiting and not self._fits(self._waiting[0][0]):
            occupant = slow.pop()[1]
            occupant.put_out()
            put_out += 1
            self.leave(occupant)
        if put_out:
            log.warning("Slow clients were cut off: others waited for their place", kind=self._name, clients=put_out)
        if self._waiting:
            self._press_later()


class Rooms(NamedTuple):
    """Of one server."""

    bodies: Room
    answers: Room

    @classmethod
    def make(cls) -> "Rooms":
        return cls(
            Room("bodies", BODIES_ARRIVING_MAX_BYTES, BODIES_WAITING_MAX),
            Room("answers", ANSWERS_LEAVING_MAX_BYTES, CONNECTIONS_MAX),
        )


def _give_up(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(_overloaded())


def _overloaded() -> Unavailable:
    return Unavailable("too much is under way with slow clients", code="overloaded")
