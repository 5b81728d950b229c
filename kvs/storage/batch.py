"""A batch under construction that can be read: later plans of a group see what earlier ones will write."""

from collections import deque
from collections.abc import Iterator

from kvs.storage.store import Reader


class Overlay:
    """A reader over `base` with the entries of a batch laid upon it. Writes go to the batch only."""

    def __init__(self, base: Reader) -> None:
        self._base = base
        self.batch: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        if key in self.batch:
            return self.batch[key]
        return self._base.get(key)

    def scan(self, start: bytes, stop: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Merges the batch into the base's order, entry by entry: who stops early has read no more than that."""
        laid = sorted((key for key in self.batch if start <= key < stop), reverse=backwards)
        base = self._base.scan(start, stop, backwards=backwards)
        return self._merged(base, deque(laid), backwards=backwards) if laid else base

    def _merged(
        self, base: Iterator[tuple[bytes, bytes]], laid: deque[bytes], *, backwards: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, value in base:
            while laid and (laid[0] > key if backwards else laid[0] < key):
                yield from self._laid(laid.popleft())
            if laid and laid[0] == key:
                yield from self._laid(laid.popleft())
            else:
                yield key, value
        while laid:
            yield from self._laid(laid.popleft())

    def _laid(self, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        value = self.batch[key]
        if value is not None:
            yield key, value

    def write(self, batch: dict[bytes, bytes | None]) -> None:
        self.batch.update(batch)
