"""How a daemon tells that it serves, or why it does not: the `kvs start` that waits for it, and a service manager.

The starter makes a pipe and hands its writing end down. The daemon writes one line, `ready URL` or `failed SENTENCE`,
and closes it. An end without a line means that it died; the kernel closes the pipe whatever the daemon died of.
"""

import contextlib
import os
import select
import time
from collections.abc import MutableMapping
from typing import NamedTuple

from kvs.config import INTERNAL_PREFIX
from kvs.daemon.notify import Notifier

READY_VARIABLE = f"{INTERNAL_PREFIX}READY_FD"
_LINE_MAX_BYTES = 64 * 1024


class Answer(NamedTuple):
    """`word` is ready, failed, died or timeout."""

    word: str
    text: str = ""


class Readiness:
    """The daemon's side. Without a starter and a service manager it says nothing."""

    def __init__(self, descriptor: int | None, notifier: Notifier) -> None:
        self._fd = descriptor
        self._notifier = notifier

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> "Readiness":
        """From the environment, which is cleared of it: children of the daemon have no part in this."""
        given = environ.pop(READY_VARIABLE, "")
        notifier = Notifier.take(environ)
        if not given.isdecimal():
            return cls(None, notifier)
        try:
            os.set_inheritable(int(given), False)
        except OSError:
            return cls(None, notifier)
        return cls(int(given), notifier)

    def ready(self, url: str) -> None:
        """It serves; also again, behind `reloading`."""
        self._say(f"ready {url}")
        self._notifier.ready(url)

    def failed(self, sentence: str) -> None:
        self._say(f"failed {sentence}")
        self._notifier.failed(sentence)

    def reloading(self) -> None:
        self._notifier.reloading()

    def stopping(self) -> None:
        self._notifier.stopping()

    def _say(self, line: str) -> None:
        if self._fd is None:
            return
        with contextlib.suppress(OSError):  # the starter may have given up
            os.write(self._fd, line.encode(errors="backslashreplace").replace(b"\n", b"\v") + b"\n")
        os.close(self._fd)
        self._fd = None


def wait_for_answer(descriptor: int, timeout_s: float) -> Answer:
    """The starter's side: the daemon's line, its end, or the end of patience."""
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    received = b""
    while not received.endswith(b"\n"):
        if not poll.poll(max(0, int((deadline - time.monotonic()) * 1000))):
            return Answer("timeout")
        chunk = os.read(descriptor, _LINE_MAX_BYTES)
        if not chunk:
            return Answer("died")
        received += chunk
    word, _, text = received.decode(errors="replace").rstrip("\n").partition(" ")
    return Answer(word, text.replace("\v", "\n"))
