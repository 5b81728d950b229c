"""The store in memory: a verified fake that can fail on request and forget what was not synced."""

from bisect import bisect_left, insort
from collections.abc import Iterator

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

    def get(self, key: bytes) -> bytes | None:
        self._check_open()
        return self._entries.get(key)

    def scan(self, start: bytes, stop: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self._check_open()
        keys = self._order[bisect_left(self._order, start) : bisect_left(self._order, stop)]
        if backwards:
            keys.reverse()
        return iter([(key, self._entries[key]) for key in keys])

    def commit(self, batch: Batch) -> None:
        if self._failing is not None:
            self._failed = True
        if self._failed:
            raise StoreFailed(self._failing or "an earlier write failed")
        self._check_open()
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

    def probe(self) -> None:
        if self._failing is not None:
            raise StoreFailed(self._failing)

    def reopen(self) -> None:
        self.probe()
        self._failed = False

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

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("the store is closed")
