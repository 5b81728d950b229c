"""Counting what each client does in a window of time that slides, in bounded memory.

The hits of a client are kept in groups of one size, at most RATE_GROUPS_MAX of them, each with the time of its last
hit, which is when the group counts from. So never more than the limit pass in any window, and a limit up to
RATE_GROUPS_MAX is exact to the hit. Of a greater one the hits of one group count a little longer than they must: a
client with a steady pace has the limit less one group, and who was quiet for a window has all of it.

    clients tracked          a new client
    fewer than may be        gets a window of its own
    as many as may be        gets the place of one for whom nothing counts any more
    all of them count        shares a window with other new ones, chosen by hash; gets one of its own, with what was
                             counted in the shared one, when there is a place

So nobody is ever counted too low: no window that still counts is dropped, or a client could have his own forgotten by
asking under many names. Under such a flood some new clients are counted too high; those who were there before are not.
"""

import math
from array import array
from bisect import bisect_right
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from kvs.errors import TooManyRequests
from kvs.limits import (
    RATE_ADDRESSES_TRACKED_MAX,
    RATE_GROUPS_MAX,
    RATE_LOOKED_AT,
    RATE_SHARED_WINDOWS,
    RATE_USERS_TRACKED_MAX,
)


class _Window:
    """`ends` are the times of the last hits of the full groups, in order, and `last_ms` that of the last hit of all.
    `used` is how many hits are kept; what is over the full groups is the one that is being filled."""

    __slots__ = ("ends", "last_ms", "used")

    def __init__(self, now_ms: float) -> None:
        self.ends = array("d")
        self.last_ms = now_ms
        self.used = 0

    def copy(self) -> "_Window":
        other = _Window(self.last_ms)
        other.ends, other.used = self.ends[:], self.used
        return other

    def slide(self, window_ms: int, group: int, now_ms: float) -> None:
        """Up to now. A clock that was set back forgives nothing: what was counted counts as if it just happened."""
        if now_ms < self.last_ms:
            self.last_ms = now_ms
            self.ends = array("d", [min(end_ms, now_ms) for end_ms in self.ends])
        elif now_ms - self.last_ms >= window_ms:
            self.used = 0
            del self.ends[:]
        else:
            gone = bisect_right(self.ends, now_ms - window_ms)
            self.used -= gone * group
            del self.ends[:gone]

    def wait_ms(self, over: int, window_ms: int, group: int, now_ms: float) -> float:
        """Until so many hits do not count any more, if nothing else is counted meanwhile."""
        groups = -(-over // group)
        end_ms = self.ends[groups - 1] if groups <= len(self.ends) else self.last_ms
        return end_ms + window_ms - now_ms

    def regroup(self, old: int, new: int, limit: int) -> None:
        """Groups of another size, of the last hits up to the limit. None counts shorter than it did."""
        first = max(0, self.used - limit)
        places = (at // old for at in range(first + new - 1, self.used, new))
        self.ends = array("d", [self.ends[at] if at < len(self.ends) else self.last_ms for at in places])
        self.used -= first


class SlidingWindow:
    """At most `limit` hits a client in any `window_ms`. Times are any clock's milliseconds. A clock that is set back
    forgives nothing and locks nobody out."""

    def __init__(self, limit: int, window_ms: int, tracked_max: int) -> None:
        """`tracked_max`: clients that have a window of their own."""
        self._limit = limit
        self._group = _group(limit)
        self._window_ms = window_ms
        self._tracked_max = tracked_max
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._shared: dict[int, _Window] = {}

    def configure(self, limit: int, window_ms: int) -> None:
        """What was counted goes on counting, unless the window has another length now."""
        group = _group(limit)
        if window_ms != self._window_ms:
            self._windows.clear()
            self._shared.clear()
        elif group != self._group:
            for window in (*self._windows.values(), *self._shared.values()):
                window.regroup(self._group, group, limit)
        self._limit = limit
        self._group = group
        self._window_ms = window_ms

    def hit(self, client: str, now_ms: float) -> int:
        """Count one, unless it is over the limit. 0 when it was counted, else after how many whole seconds another one
        is worth a try."""
        window = self._windows.get(client)
        if window is None:
            window = self._enter(client, now_ms)
        # Nearly every request finds room without a look at what has left the window.
        if window.used >= self._limit or not 0 <= now_ms - window.last_ms < self._window_ms:
            window.slide(self._window_ms, self._group, now_ms)
            over = window.used - self._limit + 1
            if over > 0:
                return max(1, math.ceil(window.wait_ms(over, self._window_ms, self._group, now_ms) / 1000))
        window.used += 1
        window.last_ms = now_ms
        if window.used % self._group == 0:
            window.ends.append(now_ms)
        return 0

    def _enter(self, client: str, now_ms: float) -> _Window:
        """The window of a client that has none of his own yet."""
        place = hash(client) % RATE_SHARED_WINDOWS
        shared = self._shared.get(place)
        for _ in range(RATE_LOOKED_AT):
            if len(self._windows) < self._tracked_max:
                break
            oldest, window = next(iter(self._windows.items()))
            window.slide(self._window_ms, self._group, now_ms)
            if window.used:
                self._windows.move_to_end(oldest)
            else:
                del self._windows[oldest]
        if len(self._windows) >= self._tracked_max:
            return self._shared.setdefault(place, _Window(now_ms))
        self._windows[client] = window = _Window(now_ms) if shared is None else shared.copy()
        return window


def _group(limit: int) -> int:
    """How many hits are kept as one."""
    return -(-limit // RATE_GROUPS_MAX)


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
