"""What the audit log says of requests that were refused, so that nobody who is refused can fill the disk.

The first one of an address and user is written at once; those that follow are counted, and written as one number when
the window is over. While they go on that is one entry a window. Only so many addresses and users are told apart; all
others are one.
"""

from typing import NamedTuple

from kvs.cluster.events import Act
from kvs.limits import AUDIT_PATH_MAX_CHARS

_OTHERS = "many addresses"


class _Window(NamedTuple):
    start_ms: int
    more: int
    last: str


class Refusals:
    """Times are Unix ms. Bounded; what is counted and not yet written is lost with the process."""

    def __init__(self, window_ms: int, tracked_max: int) -> None:
        self._window_ms = window_ms
        self._tracked_max = tracked_max
        self._windows: dict[tuple[str, str, str], _Window] = {}

    def count(self, action: str, source: str, user: str, request: str, now_ms: int, times: int = 1) -> Act | None:
        """So many more; what is to be written of it now. `source` is an address, `request` a method and a path."""
        request = bounded(request)
        if (action, source, user) not in self._windows and len(self._windows) >= self._tracked_max:
            source, user = _OTHERS, ""
        key = (action, source, user)
        window = self._windows.get(key)
        if window is None:
            self._windows[key] = _Window(now_ms, times - 1, request)
            return Act(action, user, f"{source} {request}")
        self._windows[key] = _Window(window.start_ms, window.more + times, request)
        return None

    def due(self, now_ms: int) -> list[Act]:
        """What is to be written of windows that are over. A clock that was set back ends them too."""
        over = [key for key, window in self._windows.items() if not 0 <= now_ms - window.start_ms < self._window_ms]
        return self._sums(over, now_ms)

    def rest(self, now_ms: int) -> list[Act]:
        """What is to be written at the end."""
        return self._sums(list(self._windows), now_ms)

    def _sums(self, keys: list[tuple[str, str, str]], now_ms: int) -> list[Act]:
        acts = []
        for key in keys:
            action, source, user = key
            window = self._windows.pop(key)
            if window.more:
                acts.append(Act(action, user, f"{source} {window.more} more, the last {window.last}"))
                self._windows[key] = _Window(now_ms, 0, "")
        return acts


def bounded(text: str) -> str:
    """Text of a client, as it may stand in the log: what does not print is escaped, what is too long is cut."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:AUDIT_PATH_MAX_CHARS])
    is_whole = len(text) <= AUDIT_PATH_MAX_CHARS >= len(shown)
    return shown if is_whole else shown[: AUDIT_PATH_MAX_CHARS - 1] + "…"
