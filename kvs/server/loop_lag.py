"""How late the event loop is: everything a node does waits for it."""

import asyncio
from time import monotonic

from kvs.limits import LOOP_LAG_INTERVAL_S
from kvs.meter import Histogram


class LoopLag:
    """A timer that notes by how much it comes too late."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """On the loop that is measured."""
        self._loop = asyncio.get_running_loop()
        self._plan()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> None:
        # Not the loop's own time, which stands still while it does its work and counts whole milliseconds.
        self._due_s = monotonic() + LOOP_LAG_INTERVAL_S
        self._timer = self._loop.call_later(LOOP_LAG_INTERVAL_S, self._ring)

    def _ring(self) -> None:
        self._histogram.add(max(0.0, monotonic() - self._due_s))
        self._plan()
