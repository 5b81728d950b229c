"""Which process a PID means, and waiting for its end.

A PID alone means little: it is used again. A process is known by its PID and the time it was started, counted from the
host's boot, because the same time by the wall clock changes when the clock is set.
"""

import contextlib
import os
import select
import signal
import time
from typing import Self

import psutil

from kvs.daemon.failure import Failed


def started_s(pid: int) -> float | None:
    """Seconds from the host's boot to the start of process `pid`, or None if there is no such living process."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None  # it ended, and whoever started it has not noticed yet
        return round(process.create_time() - psutil.boot_time(), 2)
    except (psutil.Error, ValueError, OverflowError):
        return None


def uptime_s(pid: int) -> float | None:
    """How long process `pid` has run, or None."""
    try:
        return max(0.0, time.time() - psutil.Process(pid).create_time())
    except psutil.Error:
        return None


class Handle:
    """A hold on one process: what is signalled and waited for is this process, never a later one with its PID."""

    def __init__(self, pid: int, started: float) -> None:
        """Raises Failed if `pid` is no longer the process that was started at `started` (see `started_s`)."""
        self.pid = pid
        self._fd = -1
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise Failed(f"process {pid} is gone") from None
        except OSError as error:
            raise Failed(f"cannot take hold of process {pid}: {error.strerror}") from None
        if started_s(pid) != started:  # asked after the hold was taken, so that the answer is about what is held
            self.close()
            raise Failed(f"process {pid} is not the daemon any more; it is left alone")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            signal.pidfd_send_signal(self._fd, number)

    def ended_within(self, timeout_s: float) -> bool:
        """Wait for the end, at most `timeout_s`. A zombie has ended."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(max(0, int(timeout_s * 1000))))
