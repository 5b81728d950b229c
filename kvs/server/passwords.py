"""Passwords off the event loop: few at a time, because each takes 64 MiB for tens of milliseconds."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kvs.auth.passwords import check_password, hash_password
from kvs.errors import Unavailable
from kvs.limits import PASSWORD_CHECKS_MAX, PASSWORD_CHECKS_WAITING_MAX

_Result = TypeVar("_Result")


class Passwords:
    """See `kvs.auth.passwords`. Both raise Unavailable when too many wait."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(PASSWORD_CHECKS_MAX, thread_name_prefix="password")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        return await self._run(lambda: hash_password(password))

    async def check(self, stored: str | None, password: str) -> bool:
        return await self._run(lambda: check_password(stored, password))

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        if self._waiting >= PASSWORD_CHECKS_WAITING_MAX:
            raise Unavailable("too many passwords wait to be looked at; try again", code="overloaded")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
