"""The hybrid logical clock that stamps versions.

Kulkarni et al., "Logical Physical Clocks" (2014): a version is the wall clock's millisecond where that is ahead of
everything known, else the last known millisecond with a counter above. So versions made here only ever rise, also
when the wall clock jumps back, and stay close to it otherwise.
"""

from kvs.errors import Conflict
from kvs.limits import TIMESTAMP_MAX

COUNTER_MAX = (1 << 32) - 1
"""The counter has four bytes in a stored record."""


class Clock:
    """Knows the highest version issued or seen. Takes the time as an argument."""

    def __init__(self, timestamp: int, counter: int, ahead_max_ms: int) -> None:
        """Start above this version, the floor that was stored. A version that is further ahead of the wall clock than
        `ahead_max_ms` is written over without being taken for the time."""
        self.last = (timestamp, counter)
        self._ahead_max_ms = ahead_max_ms

    def tick(self, now_ms: int, above: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        """A version (Unix ms, counter) above `above` and above all before; above `above` only where that lies in the
        future of a clock that is wrong: it is not to be handed on to every other key. Raises Conflict when there is
        none that other nodes would take."""
        if above > self.last and above[0] > now_ms + self._ahead_max_ms:
            return _next(above, now_ms)
        self.last = _next(max(self.last, above), now_ms)
        return self.last


def _next(version: tuple[int, int], now_ms: int) -> tuple[int, int]:
    timestamp, counter = version
    if now_ms > timestamp:
        return now_ms, 0
    if counter < COUNTER_MAX:
        return timestamp, counter + 1
    if timestamp >= TIMESTAMP_MAX:
        raise Conflict("the version under this key is the last that there can be", code="last_version")
    return timestamp + 1, 0
