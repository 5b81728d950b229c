"""Stopping a daemon and waiting for its end."""

import signal

from kvs.daemon.failure import Failed
from kvs.daemon.home import Home
from kvs.daemon.instances import Instance, State, clean_stale, inspect
from kvs.daemon.pidfile import PidInfo
from kvs.daemon.process import Handle

_KILL_TIMEOUT_S = 10.0


def stop(home: Home, instance: Instance, timeout_s: float, *, force: bool) -> str:
    """End the daemon: SIGTERM, and with `force` SIGKILL after `timeout_s`. Returns a sentence once it has ended.

    Raises Failed if it was not running or did not end in time.
    """
    info = instance.running
    if info is None:
        cleaned = f"; {clean_stale(home, instance)}" if instance.state is State.STALE else ""
        raise Failed(f"not running{cleaned}")
    with Handle(info.pid, info.started) as handle:
        handle.signal(signal.SIGTERM)
        if handle.ended_within(timeout_s):
            return _ended(home, instance, info)
        if not force:
            raise Failed(
                f"still running {timeout_s:g} s after SIGTERM (pid {info.pid}); wait longer with --timeout, or kill "
                "it with --force"
            )
        handle.signal(signal.SIGKILL)
        if not handle.ended_within(_KILL_TIMEOUT_S):
            raise Failed(f"still there {_KILL_TIMEOUT_S:g} s after SIGKILL (pid {info.pid}); the host's disk may hang")
    clean_stale(home, inspect(home, instance.config))
    return f"killed (pid {info.pid}): it did not end within {timeout_s:g} s"


def _ended(home: Home, instance: Instance, info: PidInfo) -> str:
    after = inspect(home, instance.config)
    if after.state is State.STALE:  # a clean end removes the file
        clean_stale(home, after)
        raise Failed(f"it ended (pid {info.pid}), but not cleanly; see {home.log_file(instance.config)}")
    return f"stopped (pid {info.pid})"
