"""What waits for the cluster's cores: one task for each call, and the timers that wake them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


class Tasks:
    """Everything that is under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def wait_for(self, name: str) -> None:
        """Until none of this name is under way."""
        while found := [task for task in self._tasks if task.get_name() == name]:
            await asyncio.wait(found)

    async def end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("A task of the cluster failed", task=task.get_name(), exc_info=task.exception())


class Timer:
    """Wakes a core when it wants to be. Times are those of the clock that never goes back, in ms."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._is_over = False

    def set(self, at_ms: int | None) -> None:
        """Instead of any time before; None: not until something else happens."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None if at_ms is None or self._is_over else self._loop.call_at(at_ms / 1000, self._wake)

    def end(self) -> None:
        """It wakes nobody any more."""
        self._is_over = True
        self.set(None)
