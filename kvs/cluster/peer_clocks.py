"""How wrong this node's wall clock is, judged by those of its peers.

What a peer's clock shows is remembered against this node's steady clock, which nobody sets. So a jump of its own wall
clock shows at once, and not only when peers were heard again: until then it would stamp writes with a wrong time and
find everything expired that ever expires.
"""

from statistics import median

from kvs.cluster.time_of import Now


class PeerClocks:
    """Times are Unix ms, offsets ms by which others are ahead of this node."""

    def __init__(self, drift_max_ms: int) -> None:
        """`drift_max_ms` is by how much clocks that count as right may differ."""
        self._drift_max_ms = drift_max_ms
        self._ahead_ms: dict[str, int] = {}
        """By how much each peer's wall clock is ahead of this node's steady clock."""
        self._median_ms: int | None = None
        """Of these."""
        self.heard_count = 0
        """Moves with everything that is heard of the others' clocks."""

    def heard(self, peer: str, unix_ms: int, now: Now) -> None:
        """The peer's clock shows this. 0 is unknown: a peer that does not tell it does not make this one wrong."""
        if unix_ms:
            self._ahead_ms[peer] = unix_ms - now.mono_ms
            self._note()

    def lost(self, peer: str) -> None:
        self._ahead_ms.pop(peer, None)
        self._note()

    def _note(self) -> None:
        self._median_ms = round(median(self._ahead_ms.values())) if self._ahead_ms else None
        self.heard_count += 1

    def is_right(self, now: Now) -> bool:
        """Whether this node's clock is near those of its peers, as far as they were heard."""
        return abs(self.median_ms(now) or 0) <= self._drift_max_ms

    def offset_ms(self, peer: str, now: Now) -> int | None:
        """By how much this peer is ahead; None while it was not heard."""
        ahead_ms = self._ahead_ms.get(peer)
        return None if ahead_ms is None else ahead_ms + now.mono_ms - now.unix_ms

    def median_ms(self, now: Now) -> int | None:
        """By how much peers are ahead, as most of them see it; None without peers."""
        return None if self._median_ms is None else self._median_ms + now.mono_ms - now.unix_ms
