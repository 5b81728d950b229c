"""Which of several nodes is asked next. Pure: the time and chance are arguments.

The node that answered last is asked again, because it is the one that surely has what was written there. One that
failed is left alone for a pause that grows with each failure in a row; when all have failed, the pause that ends first
is waited for.
"""

from collections.abc import Sequence
from typing import NamedTuple

PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0


class Choice(NamedTuple):
    """Ask `url` after `wait_s`."""

    url: str
    wait_s: float


class Endpoints:
    """Several nodes of one cluster. Times are of a monotonic clock, in seconds."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = tuple(dict.fromkeys(urls))
        self._current = 0
        self._failures = dict.fromkeys(self.urls, 0)
        self._rested_s = dict.fromkeys(self.urls, 0.0)

    @property
    def current(self) -> str:
        return self.urls[self._current]

    def choose(self, now_s: float) -> Choice:
        order = [*self.urls[self._current :], *self.urls[: self._current]]
        url = next((one for one in order if self._rested_s[one] <= now_s), None)
        if url is None:
            url = min(order, key=lambda one: self._rested_s[one])
        self._current = self.urls.index(url)
        return Choice(url, self.rest_s(url, now_s))

    def rest_s(self, url: str, now_s: float) -> float:
        """How long the node is still to be left alone."""
        return max(0.0, self._rested_s[url] - now_s)

    def answered(self, url: str) -> None:
        self._failures[url] = 0
        self._rested_s[url] = 0.0

    def failed(self, url: str, now_s: float, chance: float, pause_s: float = 0.0) -> None:
        """Leave the node alone, at least for `pause_s`. `chance` is from 0 to 1: clients that lost one node together do
        not come back to it together."""
        grown_s = min(PAUSE_MAX_S, PAUSE_MIN_S * 2 ** self._failures[url])
        self._failures[url] += 1
        self._rested_s[url] = now_s + max(pause_s, grown_s * (0.5 + chance / 2))
