"""Passwords that wait for their turn."""

import asyncio
from threading import Event
from unittest.mock import patch

import pytest

from kvs.errors import Unavailable
from kvs.server import passwords as module
from kvs.server.passwords import Passwords


async def test_so_many_wait_and_no_more() -> None:
    go = Event()
    passwords = Passwords()
    with (
        patch.object(module, "PASSWORD_CHECKS_WAITING_MAX", 3),
        patch.object(module, "check_password", lambda stored, password: go.wait(20)),
        patch.object(module, "hash_password", lambda password: password),
    ):
        waiting = [asyncio.create_task(passwords.check(None, "a")) for _ in range(3)]
        await asyncio.sleep(0)
        for late in (passwords.check(None, "b"), passwords.hash("b")):
            with pytest.raises(Unavailable) as refused:
                await late
            assert (refused.value.code, refused.value.headers["Retry-After"]) == ("overloaded", "1")
        go.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await passwords.hash("c") == "c"
    passwords.close()
