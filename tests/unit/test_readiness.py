"""The line by which a daemon says that it serves."""

import os
from collections.abc import Iterator

import pytest

from kvs.daemon.notify import Notifier
from kvs.daemon.readiness import READY_VARIABLE, Answer, Readiness, wait_for_answer


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    os.close(ends[0])


def test_ready(pipe: tuple[int, int]) -> None:
    environ = {READY_VARIABLE: str(pipe[1]), "OTHER": "x"}
    readiness = Readiness.take(environ)
    assert environ == {"OTHER": "x"}
    assert not os.get_inheritable(pipe[1])
    readiness.ready("http://127.0.0.1:1")
    readiness.failed("said too late")
    assert wait_for_answer(pipe[0], 10) == Answer("ready", "http://127.0.0.1:1")


def test_failed_in_several_lines(pipe: tuple[int, int]) -> None:
    Readiness(pipe[1], Notifier("")).failed("one\ntwo \udcff")
    assert wait_for_answer(pipe[0], 10) == Answer("failed", "one\ntwo \\udcff")


def test_died(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"rea")
    os.close(pipe[1])
    assert wait_for_answer(pipe[0], 10) == Answer("died")


def test_timeout(pipe: tuple[int, int]) -> None:
    assert wait_for_answer(pipe[0], 0.01) == Answer("timeout")
    os.close(pipe[1])


@pytest.mark.parametrize("given", [None, "", "x", "-1", "99999"])
def test_without_a_starter_nothing_is_said(given: str | None) -> None:
    readiness = Readiness.take({} if given is None else {READY_VARIABLE: given})
    readiness.ready("http://127.0.0.1:1")


def test_a_starter_that_gave_up() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    Readiness(writer, Notifier("")).ready("http://127.0.0.1:1")
