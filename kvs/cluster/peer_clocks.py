"""How wrong this node's wall clock is, judged by those of its peers.

What a peer's clock shows is remembered against this node's steady clock, which nobody sets. So a jump of its own wall
clock shows at once, and not only when peers were heard again: until then it would stamp writes with a wrong time and
find everything expired that ever expires.

The peer in the middle decides. Of two in the middle it is the one nearer to this node, whose own clock is a voice too:
so one wrong clock of three stops only the node that has it, and not those that are right.
"""

from kvs.cluster.membership_events import Report
from kvs.cluster.time_of import Now


class PeerClocks:
    """Times are Unix ms, offsets ms by which others are ahead of this node."""

    def __init__(self, drift_max_ms: int) -> None:
        """`drift_max_ms` is by how much clocks that count as right may differ."""
        self._drift_max_ms = drift_max_ms
        self._ahead_ms: dict[str, int] = {}
        """By how much each peer's wall clock is ahead of this node's steady clock."""
        self._middle_ms: tuple[int, int] | None = None
        """Of these, the lower and the upper one; the same of an odd number."""
        self._was_right = True
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
        ahead_ms = sorted(self._ahead_ms.values())
        count = len(ahead_ms)
        self._middle_ms = (ahead_ms[(count - 1) // 2], ahead_ms[count // 2]) if ahead_ms else None
        self.heard_count += 1

    def is_right(self, now: Now) -> bool:
        """Whether this node's clock is near those of its peers, as far as they were heard."""
        return abs(self.median_ms(now) or 0) <= self._drift_max_ms

    def turned(self, now: Now) -> Report | None:
        """What is to be logged when this node's clock became wrong, or right again, since the last call."""
        is_right = self.is_right(now)
        if is_right == self._was_right:
            return None
        self._was_right = is_right
        offset_ms = self.median_ms(now)
        if is_right:
            return Report("This node's clock no longer differs too much from its peers'", {"offset_ms": offset_ms})
        fields = {"offset_ms": offset_ms, "max_clock_drift_ms": self._drift_max_ms}
        return Report("This node's clock differs too much from its peers': it refuses writes", fields, "warning")

    def offset_ms(self, peer: str, now: Now) -> int | None:
        """By how much this peer is ahead; None while it was not heard."""
        ahead_ms = self._ahead_ms.get(peer)
        return None if ahead_ms is None else ahead_ms + now.mono_ms - now.unix_ms

    def median_ms(self, now: Now) -> int | None:
        """By how much the peer in the middle is ahead of this node; None without peers."""
        if self._middle_ms is None:
            return None
        shown_ms = now.unix_ms - now.mono_ms
        lower_ms, upper_ms = self._middle_ms
        return min(lower_ms - shown_ms, upper_ms - shown_ms, key=abs)
