"""Counts what peers say about records that cannot be, and cuts off who keeps saying such things.

    strike     a message that cannot be decoded, or one with records that cannot be taken
    cut off    NONSENSE_MAX strikes within NONSENSE_WINDOW_MS: for CUT_OFF_MS nothing of it is answered

Whoever has the secret may give himself any id, so a peer is known by its id and by the host that it asks from: nobody
can have another node cut off from another host. It still counts as alive, is pushed to and compared with; only what it
asks and brings of its own accord is left, so that one that is broken does not keep all others busy.
"""

from kvs.errors import Forbidden
from kvs.limits import CUT_OFF_MS, MEMBERS_MAX, NONSENSE_MAX, NONSENSE_WINDOW_MS


class _Peer:
    __slots__ = ("began_ms", "cut_off_until_ms", "strikes")

    def __init__(self, now_ms: int) -> None:
        self.began_ms = now_ms
        self.strikes = 0
        self.cut_off_until_ms: int | None = None


class Conduct:
    """Times are those of the clock that never goes back."""

    def __init__(self) -> None:
        self._peers: dict[tuple[str, str], _Peer] = {}
        self._refused: dict[str, int] = {}

    def check(self, peer: str, host: str, now_ms: int) -> None:
        """Raises Forbidden when this peer, asking from this host, is cut off."""
        known = self._peers.get((peer, host))
        if known is None or known.cut_off_until_ms is None:
            return
        if now_ms < known.cut_off_until_ms:
            raise Forbidden(
                "this node sent too much that cannot be, and is not listened to for a while", code="cut_off"
            )
        del self._peers[peer, host]

    def strike(self, peer: str, host: str, now_ms: int) -> bool:
        """It sent a message that cannot be. Whether it is cut off from now on."""
        known = self._peers.get((peer, host))
        if known is None or now_ms - known.began_ms > NONSENSE_WINDOW_MS:
            self._peers.pop((peer, host), None)
            if len(self._peers) >= MEMBERS_MAX:
                del self._peers[next(iter(self._peers))]
            known = self._peers[peer, host] = _Peer(now_ms)
        known.strikes += 1
        if known.strikes < NONSENSE_MAX or known.cut_off_until_ms is not None:
            return False
        known.cut_off_until_ms = now_ms + CUT_OFF_MS
        return True

    def refuse(self, peer: str, count: int) -> None:
        """So many of its records or messages were not taken."""
        if peer not in self._refused and len(self._refused) >= MEMBERS_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[peer] = self._refused.get(peer, 0) + count

    def refused(self, peer: str) -> int:
        """How much of it was not taken since the start."""
        return self._refused.get(peer, 0)

    def is_cut_off(self, peer: str, now_ms: int) -> bool:
        """From whichever host."""
        return any(
            known.cut_off_until_ms is not None and now_ms < known.cut_off_until_ms
            for (name, _), known in self._peers.items()
            if name == peer
        )
