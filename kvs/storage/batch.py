"""A batch under construction that can be read: later plans of a group see what earlier ones will write."""

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
        """Merges the batch into the base's order; for the short ranges of a plan, not for a whole store."""
        merged: dict[bytes, bytes | None] = dict(self._base.scan(start, stop))
        merged.update((key, value) for key, value in self.batch.items() if start <= key < stop)
        found = ((key, value) for key, value in merged.items() if value is not None)
        return iter(sorted(found, reverse=backwards))

    def write(self, batch: dict[bytes, bytes | None]) -> None:
        self.batch.update(batch)
