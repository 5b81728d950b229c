"""What is still to be pushed to one peer: KVS's own records before those of users.

The two wait apart, because a value must not be there before the metadata that keep it from others, and a revocation
must not get lost in a flood of values. Each of the two is bounded alike.

    too many records of users   those that wait are dropped; KVS's own go on waiting
    too many of KVS's own       all that waits is dropped, and nothing more of users is taken until the peer is `equal`
    the peer did not answer     those of users are dropped, KVS's own wait again
"""

from collections.abc import Collection
from itertools import chain

from kvs.cluster.ingest import in_messages
from kvs.limits import OUTBOX_MAX_BYTES, OUTBOX_MAX_RECORDS
from kvs.storage.keyspace import SYSTEM

Version = tuple[int, int]


class _Lane:
    """Records that wait: entry key to (version, record)."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, tuple[Version, bytes]] = {}
        self._size_bytes = 0
        self._largest_bytes = 0

    def put(self, entry: bytes, version: Version, raw: bytes) -> None:
        if entry in self.waiting:
            self.pop(entry)
        self.waiting[entry] = (version, raw)
        size_bytes = len(entry) + len(raw)
        self._size_bytes += size_bytes
        self._largest_bytes = max(self._largest_bytes, size_bytes)

    def pop(self, entry: bytes) -> tuple[Version, bytes]:
        version, raw = self.waiting.pop(entry)
        self._size_bytes -= len(entry) + len(raw)
        if not self.waiting:
            self._largest_bytes = 0
        return version, raw

    def is_full(self) -> bool:
        """The largest record does not count, or one that is larger than the bound would never leave."""
        return len(self.waiting) > OUTBOX_MAX_RECORDS or self._size_bytes - self._largest_bytes > OUTBOX_MAX_BYTES

    def clear(self) -> int:
        """How many records that were."""
        count = len(self.waiting)
        self.waiting.clear()
        self._size_bytes = self._largest_bytes = 0
        return count


class Unsent:
    """The outbox of one peer. Whoever puts in or reports a failure hands in a `mark`, a number that only rises; `equal`
    with a greater or the same one then says that what was dropped at that time has come to the peer."""

    def __init__(self) -> None:
        self._own, self._users = _Lane(), _Lane()
        self._under_way: dict[bytes, tuple[Version, bytes]] | None = None
        self._lacks_own: int | None = None
        """The mark at which records of KVS's own were dropped last; None: the peer lacks none for that reason."""
        self.is_held = True
        """Whether nothing leaves yet."""

    @property
    def unacknowledged(self) -> int:
        """The records that wait, and those under way."""
        return len(self._own.waiting) + len(self._users.waiting) + len(self._under_way or ())

    def brings(self, entry: bytes, version: Version) -> bool:
        """Whether this version, or a later one, waits or is under way."""
        found = self._lane(entry).waiting.get(entry), (self._under_way or {}).get(entry)
        return any(held is not None and held[0] >= version for held in found)

    def put(self, entry: bytes, version: Version, raw: bytes, mark: int) -> int:
        """How many records were dropped, because there are too many."""
        is_own = entry.startswith(SYSTEM)
        if not is_own and self._lacks_own is not None:
            return 1
        lane = self._lane(entry)
        lane.put(entry, version, raw)
        if not lane.is_full():
            return 0
        dropped = lane.clear()
        if is_own:
            self._lacks_own = mark
            dropped += self._users.clear()
        return dropped

    def leave(self) -> list[tuple[bytes, bytes]]:
        """The next message; it is under way then. Empty when there is none, or one is under way already."""
        if self._under_way is not None or self.is_held:
            return []
        waiting = chain(self._own.waiting.items(), self._users.waiting.items())
        portion = next(in_messages((entry, raw) for entry, (_, raw) in waiting), [])
        if portion:
            self._under_way = {entry: self._lane(entry).pop(entry) for entry, _ in portion}
        return portion

    def arrived(self) -> list[tuple[bytes, Version]]:
        """What was under way, in its order; nothing is any more."""
        under_way, self._under_way = self._under_way or {}, None
        return [(entry, version) for entry, (version, _) in under_way.items()]

    def failed(self, mark: int) -> int:
        """What was under way did not arrive. How many records were dropped."""
        under_way, self._under_way = self._under_way or {}, None
        dropped = self._users.clear()
        for entry, (version, raw) in under_way.items():
            if not entry.startswith(SYSTEM):
                dropped += 1
            elif entry not in self._own.waiting:  # else a later version waits
                dropped += self.put(entry, version, raw, mark)
        return dropped

    def equal(self, mark: int, but: Collection[bytes]) -> None:
        """The peer holds all that was written up to this mark, but for these entry keys."""
        lacks_own = self._lacks_own is not None and self._lacks_own > mark
        if not lacks_own and not any(entry.startswith(SYSTEM) for entry in but):
            self._lacks_own = None

    def _lane(self, entry: bytes) -> _Lane:
        return self._own if entry.startswith(SYSTEM) else self._users
