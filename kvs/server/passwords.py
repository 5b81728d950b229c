"""Passwords off the event loop: few at a time, because each takes 64 MiB for tens of milliseconds."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from kvs.auth.passwords import check_password, hash_password
from kvs.limits import PASSWORD_CHECKS_MAX


class Passwords:
    """See `kvs.auth.passwords`."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(PASSWORD_CHECKS_MAX, thread_name_prefix="password")

    async def hash(self, password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._threads, hash_password, password)

    async def check(self, stored: str | None, password: str) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._threads, check_password, stored, password)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
