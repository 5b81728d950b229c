"""The standard streams of a command: one that is closed fails when it is used, and a failure says which one it was.

standard input     closed: reading it fails
standard output    what cannot be written ends the command; what cannot be encoded is shown as an escape
standard error     words that nobody can take are no failure
"""

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_MODES = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)
"""Of the null device in the place of a closed descriptor: the first two fail when they are used, as a closed one does,
and no file that is opened later gets their numbers."""


def set_up() -> None:
    """To be called once, at the start of the process."""
    for number, mode in enumerate(_MODES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_Input(0, "r", closefd=False)))
    sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Words(2, "w", closefd=False), sys.stderr)


class _Input(io.FileIO):
    """One that was closed."""

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise _named(error, "standard input") from None

    def readall(self) -> bytes:
        try:
            return super().readall()
        except OSError as error:
            raise _named(error, "standard input") from None


class _Output(io.FileIO):
    """After its first failure it takes what is written and forgets it: Python flushes once more at its end."""

    _has_failed = False

    def write(self, data: "ReadableBuffer", /) -> int:
        if self._has_failed:
            return len(memoryview(data).cast("B"))
        try:
            return super().write(data)
        except OSError as error:
            self._has_failed = True
            raise _named(error, "standard output") from None


class _Words(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data).cast("B"))


def _named(error: OSError, name: str) -> OSError:
    return OSError(error.errno, error.strerror, name)


def _text(raw: io.FileIO, former: TextIO | None) -> io.TextIOWrapper:
    encoding = getattr(former, "encoding", None) or "utf-8"
    is_terminal = raw.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=is_terminal or raw.fileno() == 2
    )
