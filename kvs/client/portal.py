"""A thread with an event loop of its own, on which a program without one has coroutines run."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_AHEAD_MAX = 1_000
"""Items that are fetched before somebody takes them."""


class Portal:
    """Runs coroutines for other threads. Starts with the first one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns or raises. An interrupt of the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """The items, fetched ahead: a hop between threads for each would cost more than most of them."""
        pump: _Pump[T] = _Pump(items, self._running_loop())
        try:
            while (ready := pump.take()) is not None:
                yield from ready
        finally:
            pump.stop()

    def close(self) -> None:
        """End the thread; what still runs on it is cancelled."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="kvs-client", daemon=True)
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class _Pump(Generic[T]):
    """Takes items from an iterator on the loop and hands them to one other thread."""

    def __init__(self, items: AsyncGenerator[T, None], loop: asyncio.AbstractEventLoop) -> None:
        self._items = items
        self._loop = loop
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_awaited = False
        """Whether the other thread waits. It says so before it looks whether it has to: so one of both sees the other,
        and not every item costs a lock."""
        self._has_room = asyncio.Event()
        self._is_ended = False
        self._error: BaseException | None = None
        self._done = asyncio.run_coroutine_threadsafe(self._run(), loop)

    def take(self) -> list[T] | None:
        """What is there, at least one item; None behind the last one. Raises what the iterator raised."""
        with self._changed:
            self._is_awaited = True
            while not self._ready and not self._is_ended:
                self._changed.wait()
            self._is_awaited = False
            ready = [self._ready.popleft() for _ in range(len(self._ready))]
        if ready:
            self._loop.call_soon_threadsafe(self._has_room.set)
            return ready
        if self._error is not None:
            raise self._error
        return None

    def stop(self) -> None:
        self._done.cancel()

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            async with aclosing(self._items) as items:
                async for item in items:
                    self._ready.append(item)
                    if self._is_awaited:
                        with self._changed:
                            self._changed.notify()
                    if len(self._ready) >= _AHEAD_MAX:
                        await self._room()
        except BaseException as caught:
            error = caught
        with self._changed:
            self._is_ended, self._error = True, error
            self._changed.notify()

    async def _room(self) -> None:
        """Wait until the other thread has taken what is there."""
        self._has_room.clear()
        if len(self._ready) >= _AHEAD_MAX:
            await self._has_room.wait()
