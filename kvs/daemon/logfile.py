"""Reading a daemon's log from its end."""

import os
from pathlib import Path

from kvs.daemon.files import open_own

_BLOCK_BYTES = 64 * 1024
_LAST_MAX_BYTES = 64 * 1024 * 1024


def last_lines(path: Path, count: int) -> bytes:
    """The last `count` lines, of at most 64 MiB, as they stand. Raises FileNotFoundError, Failed."""
    descriptor = open_own(path, os.O_RDONLY)
    try:
        position = end = os.fstat(descriptor).st_size
        blocks: list[bytes] = []
        newlines = 0
        while position > 0 and newlines <= count and end - position < _LAST_MAX_BYTES:
            size = min(_BLOCK_BYTES, position)
            position -= size
            blocks.append(os.pread(descriptor, size, position))
            newlines += blocks[-1].count(b"\n")
    finally:
        os.close(descriptor)
    lines = b"".join(reversed(blocks)).split(b"\n")
    wanted = count + 1 if lines[-1] == b"" else count
    return b"\n".join(lines[-wanted:])


def lines_after(path: Path, offset: int, count: int) -> list[str]:
    """The last `count` lines written after byte `offset`, fit to be shown."""
    descriptor = open_own(path, os.O_RDONLY)
    try:
        end = os.fstat(descriptor).st_size
        start = max(offset, end - _BLOCK_BYTES)
        data = os.pread(descriptor, max(0, end - start), start)
    finally:
        os.close(descriptor)
    lines = [line for line in data.decode(errors="replace").split("\n") if line.strip()]
    return ["".join(c if c.isprintable() else " " for c in line) for line in lines[-count:]]
