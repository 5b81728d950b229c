"""Counting what each client does in a window of time that slides, in bounded memory.

Two counters a client: of the running window and of the one before, the latter weighted by how much of it the sliding
window still covers. That estimate errs only when requests within the earlier window were uneven, and never beyond the
moment when the last of them has slid out. A client's first window begins with its first request and is exact.
"""

import math
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple


class Verdict(NamedTuple):
    """`retry_after_s` is whole seconds, 0 when allowed."""

    allowed: bool
    remaining: int
    retry_after_s: int


class _Window(NamedTuple):
    """`last_ms` is when the last one was counted, `before_last_ms` the same for the window before."""

    start_ms: int
    used: int
    before: int
    last_ms: int
    before_last_ms: int


class SlidingWindow:
    """At most `limit` hits a client in any `window_ms`. Times are any clock's milliseconds. A clock that is set back
    forgives nothing and locks nobody out: what was counted counts as if it had just happened."""

    def __init__(self, limit: int, window_ms: int, tracked_max: int) -> None:
        """`tracked_max`: clients remembered; those that came first are forgotten first."""
        self._limit = limit
        self._window_ms = window_ms
        self._tracked_max = tracked_max
        self._windows: dict[str, _Window] = {}

    def hit(self, client: str, now_ms: int) -> Verdict:
        """Count one, unless it is over the limit."""
        window = self._slide(self._windows.get(client), now_ms)
        passed = (now_ms - window.start_ms) / self._window_ms
        weight = window.used + window.before * (1 - passed)
        allowed = weight + 1 <= self._limit
        if allowed:
            window = window._replace(used=window.used + 1, last_ms=now_ms)
            weight += 1
        if client not in self._windows and len(self._windows) >= self._tracked_max:
            del self._windows[next(iter(self._windows))]
        self._windows[client] = window
        if allowed:
            return Verdict(True, int(self._limit - weight), 0)
        return Verdict(False, 0, max(1, math.ceil(self._wait_ms(window, now_ms) / 1000)))

    def _slide(self, window: _Window | None, now_ms: int) -> _Window:
        if window is None:
            return _Window(now_ms, 0, 0, now_ms, now_ms)
        gone = (now_ms - window.start_ms) // self._window_ms
        start_ms, used, before, last_ms, before_last_ms = window
        if gone < 0:
            start_ms = now_ms
        elif gone > 0:
            start_ms += gone * self._window_ms
            used, before, before_last_ms = 0, used if gone == 1 else 0, last_ms
        last_ms, before_last_ms = min(last_ms, now_ms), min(before_last_ms, now_ms)
        return _Window(
            start_ms, used, before if now_ms - before_last_ms < self._window_ms else 0, last_ms, before_last_ms
        )

    def _wait_ms(self, window: _Window, now_ms: int) -> float:
        """Until one more fits, if nothing else is counted meanwhile."""
        passed_ms = now_ms - window.start_ms
        room = self._limit - 1 - window.used
        if room >= 0:  # enough of the window before slides out
            wait_ms, last_ms = self._window_ms * (1 - room / window.before) - passed_ms, window.before_last_ms
        else:
            after = 1 - (self._limit - 1) / window.used  # of the next window, when this one is the one before
            wait_ms, last_ms = self._window_ms * (1 + after) - passed_ms, window.last_ms
        return min(wait_ms, last_ms + self._window_ms - now_ms)


def network(address: str) -> str:
    """The client as one: an IPv6 host has a whole /64 to itself."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return parsed.exploded[:19]
    return address
