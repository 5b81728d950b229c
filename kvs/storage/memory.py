"""The store in memory: a verified fake that can fail on request and forget what was not synced."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from functools import partial
from threading import Lock

from kvs.errors import StoreClosed, StoreFailed
from kvs.storage.store import Batch


class MemoryStore:
    """See `store.Store`. With `sync=False` a `crash` loses what was committed since the last `sync`."""

    def __init__(self, *, sync: bool = True) -> None:
        self._sync = sync
        self._entries: dict[bytes, bytes] = {}
        self._order: list[bytes] = []
        self._durable: dict[bytes, bytes] = {}
        self._failing: str | None = None
        self._failed = False
        self._closed = False
        self._openings = 0
        self._committing = Lock()

    def get(self, key: bytes) -> bytes | None:
        self.check_open()
        return self._entries.get(key)

    def scan(self, start: bytes, stop: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self.check_open()
        keys = self._order[bisect_left(self._order, start) : bisect_left(self._order, stop)]
        if backwards:
            keys.reverse()
        return iter([(key, self._entries[key]) for key in keys])

    def snapshot(self) -> "MemorySnapshot":
        with self._committing:
            self.check_open()
            return MemorySnapshot(self, dict(self._entries), self._openings)

    def commit(self, batch: Batch) -> None:
        if self._failing is not None:
            self._failed = True
        if self._failed:
            raise StoreFailed(self._failing or "an earlier write failed")
        self.check_open()
        with self._committing:
            for key, value in batch.items():
                if value is None:
                    if self._entries.pop(key, None) is not None:
                        del self._order[bisect_left(self._order, key)]
                else:
                    if key not in self._entries:
                        insort(self._order, key)
                    self._entries[key] = value
        if self._sync:
            self.sync()

    def stage(self, batch: Batch) -> Callable[[], None]:
        return partial(self.commit, batch)

    def probe(self) -> None:
        if self._failing is not None:
            raise StoreFailed(self._failing)

    def reopen(self) -> None:
        self.probe()
        self._failed = False
        self._openings += 1

    def close(self) -> None:
        self._closed = True

    # --- what only the fake can do ---

    def sync(self) -> None:
        """Make everything durable, as the operating system does in its own time."""
        self._durable = dict(self._entries)

    def crash(self) -> "MemoryStore":
        """What a power cut leaves behind, opened again."""
        self._closed = True
        survivor = MemoryStore(sync=self._sync)
        survivor._entries = dict(self._durable)
        survivor._order = sorted(self._durable)
        survivor._durable = dict(self._durable)
        return survivor

    def fail_writes(self, reason: str | None) -> None:
        """Let every commit and recovery fail with `reason` from now on; None mends the disk."""
        self._failing = reason

    def check_open(self, opening: int | None = None) -> None:
        """Raises StoreClosed; with `opening` also if the store was reopened since."""
        if self._closed or opening not in (None, self._openings):
            raise StoreClosed("the store is closed")


class MemorySnapshot:
    """See `store.Snapshot`."""

    def __init__(self, store: MemoryStore, entries: dict[bytes, bytes], opening: int) -> None:
        self._store = store
        self._entries = entries
        self._opening = opening
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        self._check_open()
        return self._entries.get(key)

    def scan(self, start: bytes, stop: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self._check_open()
        for key in sorted((key for key in self._entries if start <= key < stop), reverse=backwards):
            self._check_open()
            yield key, self._entries[key]

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        self._store.check_open(self._opening)
        if self._closed:
            raise StoreClosed("the snapshot is closed")
