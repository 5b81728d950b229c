"""Counting what each client does in a window of time that slides, in bounded memory.

Two counters a client: of the running window and of the one before, the latter weighted by how much of it the sliding
window still covers. That estimate errs only when requests within the earlier window were uneven, and never beyond the
moment when the last of them has slid out. A client's first window begins with its first request and is exact.

    clients tracked          a new client
    fewer than may be        gets a window of its own
    as many as may be        gets the place of one for whom nothing counts any more
    all of them count        shares a window with other new ones, chosen by hash; gets one of its own, with what was
                             counted in the shared one, when there is a place

So nobody is ever counted too low: no window that still counts is dropped, or a client could have his own forgotten by
asking under many names. Under such a flood some new clients are counted too high; those who were there before are not.
"""

import math
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from kvs.errors import TooManyRequests
from kvs.limits import RATE_ADDRESSES_TRACKED_MAX, RATE_LOOKED_AT, RATE_SHARED_WINDOWS, RATE_USERS_TRACKED_MAX


class _Window:
    """`last_ms` is when the last one was counted, `before_last_ms` the same for the window before."""

    __slots__ = ("before", "before_last_ms", "last_ms", "start_ms", "used")

    def __init__(self, now_ms: float) -> None:
        self.start_ms = self.last_ms = self.before_last_ms = now_ms
        self.used = self.before = 0

    def copy(self) -> "_Window":
        other = _Window(self.start_ms)
        other.used, other.before = self.used, self.before
        other.last_ms, other.before_last_ms = self.last_ms, self.before_last_ms
        return other

    def slide(self, window_ms: int, now_ms: float) -> None:
        """Up to now. A clock that was set back forgives nothing: what was counted counts as if it just happened."""
        gone = (now_ms - self.start_ms) // window_ms
        if gone < 0:
            self.start_ms = now_ms
        elif gone > 0:
            self.start_ms += gone * window_ms
            self.used, self.before, self.before_last_ms = 0, self.used if gone == 1 else 0, self.last_ms
        self.last_ms, self.before_last_ms = min(self.last_ms, now_ms), min(self.before_last_ms, now_ms)
        if now_ms - self.before_last_ms >= window_ms:
            self.before = 0

    def counts(self, window_ms: int, now_ms: float) -> bool:
        """Whether anything of it still does."""
        self.last_ms = min(self.last_ms, now_ms)
        return now_ms - self.last_ms < window_ms


class SlidingWindow:
    """At most `limit` hits a client in any `window_ms`. Times are any clock's milliseconds. A clock that is set back
    forgives nothing and locks nobody out."""

    def __init__(self, limit: int, window_ms: int, tracked_max: int) -> None:
        """`tracked_max`: clients that have a window of their own."""
        self._limit = limit
        self._window_ms = window_ms
        self._tracked_max = tracked_max
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._shared: dict[int, _Window] = {}

    def configure(self, limit: int, window_ms: int) -> None:
        """What was counted goes on counting, unless the window has another length now."""
        if window_ms != self._window_ms:
            self._windows.clear()
            self._shared.clear()
        self._limit = limit
        self._window_ms = window_ms

    def hit(self, client: str, now_ms: float) -> int:
        """Count one, unless it is over the limit. 0 when it was counted, else after how many whole seconds another one
        is worth a try."""
        window = self._windows.get(client)
        if window is None:
            window = self._enter(client, now_ms)
        elif 0 <= now_ms - window.start_ms < self._window_ms and window.used + window.before < self._limit:
            # There is room however much of the window before still counts: nearly every request ends here.
            window.used += 1
            window.last_ms = now_ms
            return 0
        window.slide(self._window_ms, now_ms)
        # Multiplied by the window, as a quotient would be rounded: at the moment that a client was told it has to fit.
        left_ms = self._window_ms - (now_ms - window.start_ms)
        if window.before * left_ms <= (self._limit - 1 - window.used) * self._window_ms:
            window.used += 1
            window.last_ms = now_ms
            return 0
        return max(1, math.ceil(self._wait_ms(window, now_ms) / 1000))

    def _enter(self, client: str, now_ms: float) -> _Window:
        """The window of a client that has none of his own yet."""
        place = hash(client) % RATE_SHARED_WINDOWS
        shared = self._shared.get(place)
        for _ in range(RATE_LOOKED_AT):
            if len(self._windows) < self._tracked_max:
                break
            oldest, window = next(iter(self._windows.items()))
            if window.counts(self._window_ms, now_ms):
                self._windows.move_to_end(oldest)
            else:
                del self._windows[oldest]
        if len(self._windows) >= self._tracked_max:
            return self._shared.setdefault(place, _Window(now_ms))
        counts = shared is not None and shared.counts(self._window_ms, now_ms)
        self._windows[client] = window = shared.copy() if shared is not None and counts else _Window(now_ms)
        return window

    def _wait_ms(self, window: _Window, now_ms: float) -> float:
        """Until one more fits, if nothing else is counted meanwhile."""
        passed_ms = now_ms - window.start_ms
        room = self._limit - 1 - window.used
        if room >= 0:  # enough of the window before slides out
            most_ms, last_ms = self._window_ms * (window.before - room) / window.before, window.before_last_ms
        else:  # in the next window, when this one is the one before
            most_ms, last_ms = self._window_ms * (2 * window.used - self._limit + 1) / window.used, window.last_ms
        return min(most_ms - passed_ms, last_ms + self._window_ms - now_ms)


class RequestLimit:
    """How many requests a user may make, or an address where nobody knows who asks. Users do not count for the
    addresses they ask from, nor do those who ask from one address keep its users out."""

    def __init__(self, *, enabled: bool, limit: int, window_ms: int) -> None:
        self._users = SlidingWindow(limit, window_ms, RATE_USERS_TRACKED_MAX)
        self._addresses = SlidingWindow(limit, window_ms, RATE_ADDRESSES_TRACKED_MAX)
        self.configure(enabled=enabled, limit=limit, window_ms=window_ms)

    def configure(self, *, enabled: bool, limit: int, window_ms: int) -> None:
        self._enabled = enabled
        self._limit = limit
        self._window_ms = window_ms
        self._users.configure(limit, window_ms)
        self._addresses.configure(limit, window_ms)

    def count(self, user: str, client: str, now_ms: float) -> None:
        """One request of `user`; if that is empty, of whoever asks from the network `client`. Raises
        TooManyRequests."""
        if self._enabled:
            wait_s = self._users.hit(user, now_ms) if user else self._addresses.hit(client, now_ms)
            if wait_s:
                window_s = math.ceil(self._window_ms / 1000)
                counted_by = "user" if user else "address"
                raise TooManyRequests(
                    f"too many requests of this {counted_by}; at most {self._limit} are answered in {window_s} seconds",
                    counted_by=counted_by,
                    limit=self._limit,
                    window_s=window_s,
                    retry_after_s=wait_s,
                )


def network_of(address: str) -> str:
    """The client as one: an IPv6 host has a whole /64 to itself, but for addresses of the own link, where a /64 is all
    hosts. Other text than addresses stays as it is."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    assert isinstance(parsed, IPv6Address)
    if parsed.is_link_local:
        return address
    return str(parsed.ipv4_mapped or parsed.exploded[:19])
