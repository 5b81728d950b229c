"""Passwords: slow to guess, and as slow for an account that does not exist."""

import asyncio
import threading
import unicodedata
from typing import Any

import pytest
from argon2 import PasswordHasher, Type, extract_parameters

from kvs.auth import passwords
from kvs.auth.passwords import check_password, hash_password
from kvs.limits import PASSWORD_CHECKS_MAX
from kvs.server import passwords as server_passwords
from kvs.server.passwords import Passwords

PASSWORD = "correct horse"
STORED = hash_password(PASSWORD)


class Counted:
    """In the place of the hasher: does its work, and remembers which hashes it was done for."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self.asked: list[str] = []

    def verify(self, stored: str, password: str) -> bool:
        self.asked.append(stored)
        return self._hasher.verify(stored, password)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    made = Counted()
    monkeypatch.setattr(passwords, "_hasher", made)
    return made


def test_only_the_password_itself_is_right() -> None:
    assert check_password(STORED, PASSWORD)
    for wrong in ("", PASSWORD + " ", STORED):
        assert not check_password(STORED, wrong), wrong


def test_what_is_kept_is_argon2id_at_the_cost_of_rfc_9106() -> None:
    kept = extract_parameters(STORED)
    assert (kept.type, kept.version) == (Type.ID, 19)
    assert (kept.memory_cost, kept.time_cost, kept.parallelism) == (64 * 1024, 3, 4)
    assert (kept.salt_len, kept.hash_len) == (16, 32)
    assert PASSWORD not in STORED


def test_one_password_is_kept_differently_each_time() -> None:
    assert hash_password(PASSWORD) != STORED


def test_nobody_has_a_password_but_it_costs_as_much(counted: Counted) -> None:
    assert not check_password(None, PASSWORD)
    assert not check_password(None, "")
    assert not check_password(STORED, "wrong")
    for_nobody, again, for_somebody = counted.asked
    assert for_nobody == again
    assert extract_parameters(for_nobody) == extract_parameters(for_somebody)


def test_an_account_without_a_password_has_no_right_one(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the one that the stand-in was made of."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_NOBODY", cheap.hash(PASSWORD))
    assert not check_password(None, PASSWORD)
    assert len(counted.asked) == 1


def test_a_hash_of_another_cost_is_still_checked(counted: Counted) -> None:
    older = PasswordHasher(time_cost=1, memory_cost=16, parallelism=1, type=Type.I).hash(PASSWORD)
    assert check_password(older, PASSWORD)
    assert not check_password(older, "wrong")


SPOILT = ["x", PASSWORD, STORED[:-1], STORED[:40], "$argon2id$", "$2b$12$abc", "\0", "é"]


@pytest.mark.parametrize("stored", SPOILT, ids=range(len(SPOILT)))
def test_a_spoilt_hash_fits_no_password(counted: Counted, stored: str) -> None:
    assert not check_password(stored, PASSWORD)


def test_passwords_are_bytes_and_never_tidied_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap: Any = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", cheap)
    composed, split = (unicodedata.normalize(form, "pässwörd") for form in ("NFC", "NFD"))
    stored = hash_password(composed)
    assert check_password(stored, composed)
    assert not check_password(stored, split)
    assert not check_password(stored, "\ud800")
    with_nul = hash_password("abc\0def")
    assert not check_password(with_nul, "abc\0xyz")
    assert not check_password(with_nul, "abc")
    long = hash_password("x" * 1024)
    assert not check_password(long, "x" * 1023 + "y")


# --- off the event loop ---


class Slow:
    """A check that lasts until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.running = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, stored: str | None, password: str) -> bool:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.begun.release()
        assert self.go.wait(30)
        with self._lock:
            self.running -= 1
        return stored == password


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    made = Slow()
    monkeypatch.setattr(server_passwords, "check_password", made)
    return made


async def test_the_loop_goes_on_while_few_passwords_are_checked(slow: Slow) -> None:
    pool = Passwords()
    checks = [asyncio.create_task(pool.check("right", "right" if number % 2 else "wrong")) for number in range(6)]
    for _ in range(PASSWORD_CHECKS_MAX):
        await asyncio.to_thread(slow.begun.acquire)
    assert not any(check.done() for check in checks)
    slow.go.set()
    assert await asyncio.gather(*checks) == [False, True] * 3
    assert slow.most == PASSWORD_CHECKS_MAX
    pool.close()


async def test_what_waits_when_the_node_stops_is_not_checked(slow: Slow) -> None:
    pool = Passwords()
    checks = [asyncio.create_task(pool.check("a", "a")) for _ in range(PASSWORD_CHECKS_MAX + 1)]
    for _ in range(PASSWORD_CHECKS_MAX):
        await asyncio.to_thread(slow.begun.acquire)
    *under_way, waiting = checks
    closing = asyncio.create_task(asyncio.to_thread(pool.close))
    await asyncio.wait((waiting,))
    assert waiting.cancelled()
    assert not closing.done()
    slow.go.set()
    await closing
    assert await asyncio.gather(*under_way) == [True] * PASSWORD_CHECKS_MAX
    with pytest.raises(RuntimeError):
        await pool.check("a", "a")


async def test_a_made_hash_is_one_that_is_checked() -> None:
    pool = Passwords()
    stored = await pool.hash(PASSWORD)
    assert await pool.check(stored, PASSWORD)
    assert not await pool.check(stored, "wrong")
    pool.close()
