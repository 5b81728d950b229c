import os
from pathlib import Path

import pytest

from kvs.daemon.failure import Failed
from kvs.daemon.logfile import last_lines, lines_after
from kvs.daemon.reopen import LOG_VARIABLE, take_log_path


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        (b"", 5, b""),
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc\n", 3, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 9, b"a\nb\nc\n"),
        (b"a\nb\nhalf", 2, b"b\nhalf"),
        (b"a\nb\n", 0, b""),
        (b"a\rb\nc\n", 1, b"c\n"),
        (b"x" * 200_000 + b"\nlast\n", 1, b"last\n"),
        (b"line\n" * 100_000, 50_000, b"line\n" * 50_000),
    ],
)
def test_last_lines(tmp_path: Path, text: bytes, count: int, expected: bytes) -> None:
    file = tmp_path / "log"
    file.write_bytes(text)
    assert last_lines(file, count) == expected


def test_lines_after(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"old\n" + b"one\n\ntwo\x1b[31m\nthree\n")
    assert lines_after(file, 4, 2) == ["two [31m", "three"]
    assert lines_after(file, 4, 9) == ["one", "two [31m", "three"]
    assert lines_after(file, 10_000, 9) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/etc/hostname")
    with pytest.raises(Failed, match="symbolic link"):
        last_lines(tmp_path / "log", 1)


def test_the_log_path_is_taken_from_the_environment() -> None:
    environ = {LOG_VARIABLE: "/x/log", "PATH": os.defpath}
    assert take_log_path(environ) == Path("/x/log")
    assert environ == {"PATH": os.defpath}
    assert take_log_path(environ) is None
