"""The PID file: which process runs a configuration.

    pids/<name>.pid     one line of JSON: {"pid", "config", "started", "url", "certificate"}

The daemon holds an exclusive `flock` on the file for its whole life, so a lock that is held proves a living daemon and
a file without one is stale, whatever it says. A clean end removes the file while the lock is still held; whoever
waited for that lock sees that the name now means another file (or none) and starts over.
"""

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from kvs.daemon.failure import Failed
from kvs.daemon.files import open_own
from kvs.daemon.process import started_s

_MAX_BYTES = 16 * 1024
_CLAIM_TRIES = 20
_CLAIM_PAUSE_S = 0.05
"""`kvs status` may hold a stale file's lock for an instant to see whether it is free; a claim waits out a second."""


class PidInfo(NamedTuple):
    """What a PID file says. `started` is as of `kvs.daemon.process.started_s`; `url` is empty until it serves;
    `certificate` is the SHA-256 of the certificate that it shows, in hexadecimal, empty if it speaks plain HTTP."""

    pid: int
    config: Path
    started: float
    url: str
    certificate: str


class PidFile:
    """The daemon's side: claimed at its start, removed at its end."""

    def __init__(self, path: Path, descriptor: int, info: PidInfo) -> None:
        self._path = path
        self._fd = descriptor
        self._info = info

    @classmethod
    def claim(cls, path: Path, config: Path) -> "PidFile":
        """Lock `path` and write this process into it. Raises Failed if a living daemon has it."""
        info = PidInfo(os.getpid(), config, started_s(os.getpid()) or 0.0, "", "")
        for attempt in range(_CLAIM_TRIES):
            descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
            if _try_lock(descriptor, fcntl.LOCK_EX):
                if _is_at(path, descriptor):
                    pid_file = cls(path, descriptor, info)
                    pid_file._write()
                    return pid_file
            else:
                holder = _read(descriptor)
                if attempt and holder is not None and started_s(holder.pid) == holder.started:
                    os.close(descriptor)
                    raise Failed(already_running(holder, config))
                time.sleep(_CLAIM_PAUSE_S)
            os.close(descriptor)
        raise Failed(f"cannot use {path}: another process holds its lock")

    def set_url(self, url: str, certificate: str) -> None:
        self._info = self._info._replace(url=url, certificate=certificate)
        self._write()

    def remove(self) -> None:
        if _is_at(self._path, self._fd):
            with contextlib.suppress(OSError):
                self._path.unlink()
        os.close(self._fd)

    def _write(self) -> None:
        line = json.dumps({**self._info._asdict(), "config": str(self._info.config)}).encode() + b"\n"
        try:
            # Readers take the first line only, so they see the old text or the new one.
            os.pwrite(self._fd, line, 0)
            os.ftruncate(self._fd, len(line))
        except OSError as error:
            raise Failed(f"cannot write {self._path}: {error.strerror}") from None


def already_running(holder: PidInfo, config: Path) -> str:
    """Why `config` cannot be started while `holder` runs."""
    if holder.config != config:
        return other_running(holder, config)
    return f"already running (pid {holder.pid}{', ' + holder.url if holder.url else ''})"


def other_running(holder: PidInfo, config: Path) -> str:
    return f"{holder.config} is running under the same name (pid {holder.pid}); rename it or {config}"


def read_pid_file(path: Path) -> tuple[PidInfo | None, bool] | None:
    """What the file says (None if unreadable) and whether its daemon lives; None if there is no file.

    Raises Failed if the file is not one to trust.
    """
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        info = _read(descriptor)
        lives = (
            info is not None
            and started_s(info.pid) == info.started
            and not _try_lock(descriptor, fcntl.LOCK_SH)  # only then: a free lock must not be touched without need
        )
        return info, lives
    finally:
        os.close(descriptor)


def remove_stale(path: Path) -> bool:
    """Remove the file if no daemon holds it. Raises Failed if the file is not one to trust, or cannot be removed."""
    try:
        descriptor = open_own(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        if not _try_lock(descriptor, fcntl.LOCK_EX):
            return False
        if _is_at(path, descriptor):
            path.unlink()
        return True
    except OSError as error:
        raise Failed(f"cannot remove {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> PidInfo | None:
    line = os.pread(descriptor, _MAX_BYTES, 0).partition(b"\n")[0]
    try:
        data = json.loads(line)
        texts = str(data["url"]), str(data.get("certificate", ""))
        return PidInfo(int(data["pid"]), Path(data["config"]), float(data["started"]), *texts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
