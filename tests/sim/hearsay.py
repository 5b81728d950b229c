"""What each host may have heard of each other one, by whatever way: from when on nothing of it can have come here.

Vector clocks in simulated time (Fidge, Mattern, 1988): a message tells of everything that its sender had heard when it
was sent. What a host has lost with its disk counts as heard.
"""

from collections.abc import Mapping

Heard = Mapping[str, int]
"""By host, the latest moment of it (ms) that anything is known of."""


class Hearsay:
    def __init__(self) -> None:
        self._heard: dict[str, dict[str, int]] = {}

    def of(self, host: str) -> Heard:
        """What this host may have heard until now."""
        return dict(self._heard.get(host, {}))

    def sent(self, host: str, now_ms: int) -> Heard:
        """What a message tells that this host sends now."""
        return {**self._heard.get(host, {}), host: now_ms}

    def arrived(self, host: str, told: Heard) -> None:
        """A message that tells this comes to a host."""
        mine = self._heard.setdefault(host, {})
        for other, at_ms in told.items():
            mine[other] = max(mine.get(other, 0), at_ms)
