"""Stopping a daemon and waiting for its end."""

import signal
from collections.abc import Callable

from kvs.daemon.failure import Failed
from kvs.daemon.home import Home
from kvs.daemon.instances import Instance, State, clean_stale, inspect
from kvs.daemon.pidfile import PidInfo
from kvs.daemon.process import Handle

_KILL_TIMEOUT_S = 10.0


def stop(home: Home, instance: Instance, timeout_s: float, note: Callable[[str], None], *, force: bool = False) -> str:
    """End the daemon: SIGTERM, and with `force` SIGKILL after `timeout_s`. Returns a sentence once it has ended. `note`
    takes remarks on the way.

    Raises Failed if it was not running or did not end in time.
    """
    info = instance.running
    if info is None:
        cleaned = f"; {clean_stale(home, instance)}" if instance.state is State.STALE else ""
        raise Failed(f"not running{cleaned}")
    with Handle(info.pid, info.started) as handle:
        handle.signal(signal.SIGTERM)
        if handle.ended_within(timeout_s):
            return _ended(home, instance, info, note)
        if not force:
            raise Failed(
                f"still running {timeout_s:g} s after SIGTERM (pid {info.pid}); wait longer with --timeout, or kill "
                "it with --force"
            )
        handle.signal(signal.SIGKILL)
        if not handle.ended_within(_KILL_TIMEOUT_S):
            raise Failed(f"still there {_KILL_TIMEOUT_S:g} s after SIGKILL (pid {info.pid}); the host's disk may hang")
    _is_cleaned(home, inspect(home, instance.config), note)
    return f"killed (pid {info.pid}): it did not end within {timeout_s:g} s"


def _ended(home: Home, instance: Instance, info: PidInfo, note: Callable[[str], None]) -> str:
    after = inspect(home, instance.config)
    # A clean end removes the file, if it can be removed.
    if after.state is State.STALE and _is_cleaned(home, after, note):
        raise Failed(f"it ended (pid {info.pid}), but not cleanly; see {home.log_file(instance.config)}")
    return f"stopped (pid {info.pid})"


def _is_cleaned(home: Home, instance: Instance, note: Callable[[str], None]) -> bool:
    """Whether the file that the daemon left could be removed. The daemon has ended in any case."""
    try:
        clean_stale(home, instance)
    except Failed as problem:
        note(f"warning: {problem}")
        return False
    return True
