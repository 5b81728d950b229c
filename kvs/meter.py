"""Counting on the paths of requests and writes: plain numbers, read when somebody asks for them.

The counters of prometheus-client take a lock and cost more than a microsecond each; these cost a tenth. Each is added
to from one thread only; others may read it.
"""

from bisect import bisect_left

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for durations of requests and of commits."""
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds for what lags behind."""
WRITES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)
"""Bounds for how many writes are in a commit."""


class Histogram:
    """`counts[i]` is how many values were above `bounds[i - 1]` and at most `bounds[i]`; the last one is of those above
    all bounds. `total` is the sum of all values."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class CommitMeter:
    """Commits that are on the disk: how many writes they had, and how long writing and forcing them took."""

    def __init__(self) -> None:
        self.writes = Histogram(WRITES)
        self.seconds = Histogram(SECONDS)
