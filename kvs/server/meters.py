"""What the parts of the server count for `/metrics`. A node without metrics has no Meters, and counts nothing here.

What other parts know anyway is asked of them when somebody looks (see kvs/server/metrics.py).
"""

from bisect import bisect_left

from kvs.errors import KvsError, TooManyRequests, Unauthorized
from kvs.meter import LAG_SECONDS, SECONDS, CommitMeter, Histogram
from kvs.server.router import Route


class Meters:
    """Plain numbers. Nothing that a client sends becomes a name here."""

    def __init__(self) -> None:
        self.connections = 0
        """Open ones."""
        self.requests: dict[Route | None, dict[int, Histogram]] = {}
        """Seconds of requests by route, None for those that no route took, and status."""
        self.problems: dict[str, int] = {}
        """Answers that are problem documents, by code."""
        self.auth_failures = dict.fromkeys(("token", "password", "cluster_secret"), 0)
        self.rate_limited = dict.fromkeys(("user", "address", "login"), 0)
        self.drift_refused = 0
        """Writes that were refused because this node's clock is wrong."""
        self.commits = CommitMeter()
        self.replication_lag = Histogram(LAG_SECONDS)
        """Seconds from a write on another node until it was on this one's disk, for what peers hand over."""
        self.sync_bytes = dict.fromkeys(("fill", "compare", "fetch", "send"), 0)
        """Bodies of calls of comparisons, and of filling, both ways."""
        self.loop_lag = Histogram(LAG_SECONDS)
        self.backups = dict.fromkeys(("success", "failure"), 0)
        self.last_backup_ms: int | None = None
        """When the last good one ended, Unix ms."""

    def request(self, route: Route | None, status: int, seconds: float) -> None:
        """A request was answered."""
        try:
            histogram = self.requests[route][status]
        except KeyError:
            histogram = self.requests.setdefault(route, {}).setdefault(status, Histogram(SECONDS))
        # `Histogram.add`, without the call: each request comes here.
        histogram.counts[bisect_left(SECONDS, seconds)] += 1
        histogram.total += seconds

    def refused(self, error: KvsError, route: Route | None) -> None:
        """A request is answered with this error."""
        self.problems[error.code] = self.problems.get(error.code, 0) + 1
        if isinstance(error, TooManyRequests):
            self.rate_limited[error.counted_by] += 1
        elif isinstance(error, Unauthorized) and route is not None:
            asked_for = "cluster_secret" if route.access.peer else "password" if route.access.open else "token"
            self.auth_failures[asked_for] += 1
        elif error.code == "clock_skew":
            self.drift_refused += 1

    def backup_ended(self, *, success: bool, now_ms: int) -> None:
        self.backups["success" if success else "failure"] += 1
        if success:
            self.last_backup_ms = now_ms
