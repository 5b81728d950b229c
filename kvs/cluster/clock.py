"""The hybrid logical clock that stamps versions.

Kulkarni et al., "Logical Physical Clocks" (2014): a version is the wall clock's millisecond where that is ahead of
everything known, else the last known millisecond with a counter above. So versions made here only ever rise, also
when the wall clock jumps back, and stay close to it otherwise.
"""

COUNTER_MAX = (1 << 32) - 1
"""The counter has four bytes in a stored record."""


class Clock:
    """Knows the highest version issued or seen. Takes the time as an argument."""

    def __init__(self, timestamp: int, counter: int) -> None:
        """Start above this version, the floor that was stored."""
        self.last = (timestamp, counter)

    def tick(self, now_ms: int, above: tuple[int, int] = (0, 0)) -> tuple[int, int]:
        """A version (Unix ms, counter) above `above` and above all before."""
        timestamp, counter = max(self.last, above)
        if now_ms > timestamp:
            self.last = (now_ms, 0)
        elif counter < COUNTER_MAX:
            self.last = (timestamp, counter + 1)
        else:
            self.last = (timestamp + 1, 0)
        return self.last
