"""Who waits until enough peers hold a write (`w=k`).

A peer holds it when it has answered that it took it, from a push or from a comparison, or when it is found to hold the
same as this node. What it holds may be a later version of the key.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from kvs.cluster.unsent import Version


class Reached(NamedTuple):
    """Effect: enough nodes hold what was watched under this ticket."""

    ticket: int


class _Watch:
    """Somebody waits until `missing` more peers hold this version of a key."""

    def __init__(self, entry: bytes, version: Version, missing: int, mark: int) -> None:
        self.entry = entry
        self.version = version
        self.missing = missing
        self.mark = mark
        self.by: set[str] = set()


class Copies:
    """By ticket, what is waited for."""

    def __init__(self) -> None:
        self._watches: dict[int, _Watch] = {}
        self._watched: dict[bytes, set[int]] = {}

    def watch(self, ticket: int, entry: bytes, version: Version, missing: int, mark: int) -> None:
        """`mark` rises from one to the next."""
        self._watches[ticket] = _Watch(entry, version, missing, mark)
        self._watched.setdefault(entry, set()).add(ticket)

    def forget(self, ticket: int) -> int:
        """Nobody waits any more; how many peers have it."""
        watch = self._watches.pop(ticket)
        tickets = self._watched[watch.entry]
        tickets.discard(ticket)
        if not tickets:
            del self._watched[watch.entry]
        return len(watch.by)

    def is_watched(self, entry: bytes) -> bool:
        return entry in self._watched

    def held(self, peer: str, entry: bytes, version: Version) -> Iterator[Reached]:
        """The peer has this version of a key on its disk, or a later one."""
        for ticket in sorted(self._watched.get(entry, ())):
            if version >= self._watches[ticket].version:
                yield from self._count(peer, ticket)

    def equal(self, peer: str, mark: int, but: Collection[bytes]) -> Iterator[Reached]:
        """The peer holds all that is watched since this mark or before, but for these entry keys."""
        for ticket, watch in sorted(self._watches.items()):
            if watch.mark <= mark and watch.entry not in but:
                yield from self._count(peer, ticket)

    def _count(self, peer: str, ticket: int) -> Iterator[Reached]:
        watch = self._watches[ticket]
        if peer not in watch.by:
            watch.by.add(peer)
            if len(watch.by) == watch.missing:
                yield Reached(ticket)
