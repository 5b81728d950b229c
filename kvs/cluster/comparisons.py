"""Decides when this node compares what it holds with which peer.

    why                                         when                                      with
    by and by                                   every `sync_interval`                     any living peer
    the peer is new, is back, or settled by now   at once                                 that one
    a push to it failed or its outbox overflowed  after COMPARE_SOON_MS                   that one
    pings show the same two unequal roots twice at once: neither side is writing          that one
    the last comparison moved all it may        after `throttle_delay_ms`                 that one
    the last comparison failed                  after a pause that doubles up to `catchup_interval`   that one

One comparison runs at a time. A ping that shows equal roots stands for a comparison that found nothing, and calls off
what was due with that peer. One that failed is not made up for by any other reason before its pause is over: a peer
that answers nonsense, or has what cannot be taken, would be asked the same for ever.
"""

from typing import NamedTuple

from kvs.cluster.chance import Chance, some
from kvs.limits import COMPARE_RETRY_MIN_MS, COMPARE_SOON_MS


class Pace(NamedTuple):
    """Pauses in ms."""

    sync_interval_ms: int
    catchup_interval_ms: int
    throttle_delay_ms: int


class _Peer:
    def __init__(self) -> None:
        self.due_ms: int | None = None
        self.rests_until_ms: int | None = None
        self.retry_ms = COMPARE_RETRY_MIN_MS
        self.roots: tuple[str, str] | None = None
        self.is_equal: bool | None = None


class Comparisons:
    """All times are those of the clock that never goes back."""

    def __init__(self, pace: Pace, chance: Chance, now_ms: int) -> None:
        self._pace = pace
        self._chance = chance
        self._peers: dict[str, _Peer] = {}
        self._next_ms = now_ms + pace.sync_interval_ms
        self._none_before_ms: int | None = None
        """No peer is due earlier; None: none is due at all. With it what happens often need not look at all peers."""
        self._running: str | None = None

    def up(self, peer: str, now_ms: int) -> None:
        self._peers.setdefault(peer, _Peer())
        self.ready(peer, now_ms)

    def ready(self, peer: str, now_ms: int) -> None:
        """What stood in the way of a comparison with this peer is over."""
        known = self._peers.get(peer)
        if known is not None:
            known.due_ms = known.rests_until_ms = None
            known.retry_ms = COMPARE_RETRY_MIN_MS
            self._due(known, now_ms)

    def down(self, peer: str) -> None:
        self._peers.pop(peer, None)

    def behind(self, peer: str, now_ms: int) -> None:
        """The peer missed something that was to be pushed to it."""
        if peer in self._peers:
            self._due(self._peers[peer], now_ms + COMPARE_SOON_MS)

    def roots(self, peer: str, mine: str, theirs: str, now_ms: int) -> None:
        """What a ping told."""
        known = self._peers.get(peer)
        if known is None:
            return
        known.is_equal = mine == theirs
        if known.is_equal:
            known.due_ms, known.roots, known.rests_until_ms = None, None, None
        elif known.roots == (mine, theirs):
            self._due(known, now_ms)
        else:
            known.roots = (mine, theirs)

    def is_equal(self, peer: str) -> bool | None:
        """Whether the last ping showed equal roots; None while there was none since the peer is up."""
        known = self._peers.get(peer)
        return None if known is None else known.is_equal

    def next(self, now_ms: int) -> str | None:
        """The peer to compare with now, if it is time and none is under way."""
        wake_at_ms = self.wake_at_ms()
        if wake_at_ms is None or now_ms < wake_at_ms:
            return None
        due = [(known.due_ms, peer) for peer, known in self._peers.items() if known.due_ms is not None]
        peer: str | None = None
        if due and min(due)[0] <= now_ms:
            peer = min(due)[1]
        elif self._next_ms <= now_ms:
            self._next_ms = now_ms + self._pace.sync_interval_ms
            awake = [peer for peer, known in self._peers.items() if (known.rests_until_ms or now_ms) <= now_ms]
            peer = some(self._chance, sorted(awake), 1)[0] if awake else None
        self._none_before_ms = min((due_ms for due_ms, other in due if other != peer), default=None)
        if peer is None:
            return None
        self._running = peer
        self._peers[peer].due_ms = self._peers[peer].rests_until_ms = None
        return peer

    def wake_at_ms(self) -> int | None:
        """When `next` is to be asked again, if nothing happens before; None when it would name nobody then either."""
        if self._running is not None or not self._peers:
            return None
        return self._next_ms if self._none_before_ms is None else min(self._next_ms, self._none_before_ms)

    def done(self, now_ms: int, *, behind: bool) -> None:
        """The comparison under way has ended; `behind` says that there is more to move."""
        known = self._end()
        if known is None:
            return
        known.retry_ms = COMPARE_RETRY_MIN_MS
        if behind:
            self._due(known, now_ms + self._pace.throttle_delay_ms)

    def failed(self, now_ms: int) -> None:
        """The peer did not answer, or nonsense."""
        known = self._end()
        if known is not None:
            known.rests_until_ms = now_ms + known.retry_ms
            known.due_ms = None  # whatever was heard while it ran
            self._due(known, known.rests_until_ms)
            known.retry_ms = min(2 * known.retry_ms, self._pace.catchup_interval_ms)

    def _end(self) -> _Peer | None:
        peer, self._running = self._running, None
        return None if peer is None else self._peers.get(peer)

    def _due(self, known: _Peer, at_ms: int) -> None:
        at_ms = max(at_ms, known.rests_until_ms or at_ms)
        known.due_ms = at_ms if known.due_ms is None else min(known.due_ms, at_ms)
        self._none_before_ms = at_ms if self._none_before_ms is None else min(self._none_before_ms, at_ms)
