"""Requests that begin in the very call that brings their bytes.

aiohttp wakes the task of a connection for each request, and that makes another task for the handler, which begins one
turn of the loop later (before Python 3.12) and wakes the first one again when it ends. Most requests here come whole
and alone, and most handlers wait for nothing or once. So a handler begins at once: one that never waits is answered
within the call, one that waits once goes on in the callback of what it waits for, one that waits again goes on in a
task. Up to there a handler has no task of its own, so it uses nothing that needs one, such as `asyncio.timeout`. All
others take aiohttp's way: requests behind others, with a body still on its way, with errors, with an upgrade.

What is put off meanwhile is the waking of the connection's task: `_waiter`, the future that it waits for between two
requests, is put back when the request has its answer.
"""

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage, StreamWriter

log = structlog.get_logger()


class EagerHandler(web.RequestHandler):
    """aiohttp's end of a connection, whose handler returns responses with `prepare`, `write_eof` and `keep_alive`, and
    raises nothing."""

    __slots__ = ("_going_on", "_idle", "_unfinished")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._going_on: asyncio.Future[Any] | None = None
        """What the request under way waits for, or its task."""
        self._unfinished: Coroutine[Any, Any, None] | None = None
        """The answer to the request under way, while it has no task."""
        self._idle: asyncio.Future[None] | None = None
        """Meanwhile put off: what the connection's task waits for."""

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            super().data_received(data)
            return
        self._waiter = None
        super().data_received(data)
        if not (len(self._messages) == 1 and self._begin(waiter)):
            self._wait_for_next(waiter)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp asks for it with every piece of a body that is taken, parses nothing then, and tells the transport,
        for 2 µs of a PUT; it is meant for a stream that was too full."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  # the signature is aiohttp's
        try:
            await super().shutdown(timeout)
        finally:
            if self._going_on is not None:
                self._going_on.cancel()

    def _begin(self, waiter: asyncio.Future[None]) -> bool:
        """Answer the one request that is there, or go on with that in a task; false for one that is not for here."""
        message, payload = self._messages[0]
        if not isinstance(message, RawRequestMessage) or message.upgrade or not payload.is_eof():
            return False
        if self._parser is None or self._manager is None or self._request_factory is None:
            return False
        self._messages.popleft()
        self._parser.message_consumed()
        self._manager.requests_count += 1
        assert self._task_handler is not None
        request = self._request_factory(message, payload, self, StreamWriter(self, self._loop), self._task_handler)
        self._current_request = request
        self._request_in_progress = True
        answering = self._answer(request)
        try:
            waits_for = answering.send(None)
        except StopIteration:
            self._end(waiter)
            return True
        if getattr(waits_for, "_asyncio_future_blocking", None):
            waits_for._asyncio_future_blocking = False  # what a task does that waits for it
            self._unfinished, self._idle, self._going_on = answering, waiter, waits_for
            waits_for.add_done_callback(self._go_on)
        else:
            self._going_on = self._loop.create_task(self._go_on_in_task(answering, waits_for, waiter))
        return True

    def _go_on(self, _: asyncio.Future[Any]) -> None:
        answering, waiter = self._unfinished, self._idle
        assert answering is not None
        assert waiter is not None
        self._unfinished = self._idle = self._going_on = None
        try:
            waits_for = answering.send(None)
        except (StopIteration, asyncio.CancelledError):
            self._end(waiter)
        else:
            self._going_on = self._loop.create_task(self._go_on_in_task(answering, waits_for, waiter))

    async def _go_on_in_task(
        self, answering: Coroutine[Any, Any, None], waits_for: Any, waiter: asyncio.Future[None]
    ) -> None:
        try:
            await _rest(answering, waits_for)
        finally:
            self._going_on = None
            self._end(waiter)

    async def _answer(self, request: web.BaseRequest) -> None:
        assert self._request_handler is not None
        self._keepalive = False
        try:
            response = await self._request_handler(request)
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            log.debug("A client left before its answer")
        except Exception:
            log.exception("A request failed beyond its handler")
        else:
            self._keepalive = bool(response.keep_alive)

    def _end(self, waiter: asyncio.Future[None]) -> None:
        """The request has its answer."""
        self._current_request = None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if self._keepalive and not (self._close or self._force_close):
            self._next_keepalive_close_time = close_time = self._loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)
            self._wait_for_next(waiter)
            return
        waiter.cancel()  # that ends the connection's task
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    def _wait_for_next(self, waiter: asyncio.Future[None]) -> None:
        self._waiter = waiter
        if self._messages and not waiter.done():
            waiter.set_result(None)


@coroutine
def _rest(begun: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """A coroutine that has begun, from where it waits for `waits_for` on."""
    try:
        while True:
            try:
                value = yield waits_for
            except BaseException as error:
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(value)
    except StopIteration:
        return
