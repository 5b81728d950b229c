"""What KVS asks of a place that keeps ordered entries: an ordered map of bytes with atomic, durable batches.

Start here to see what the rest of the program may rely on. `leveldb.py` is the real store, `memory.py` one for tests;
both pass the same suite (`tests/conformance`).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

Batch = Mapping[bytes, bytes | None]
"""Entries to write in one atomic step: key to value, None to delete."""


class Reader(Protocol):
    """Something entries can be read from."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None. Raises StoreCorrupt when the store cannot vouch for it, StoreClosed."""

    def scan(self, start: bytes, stop: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Entries with start <= key < stop in key order or against it, as they were when the scan began.

        Close the iterator, or exhaust it, soon: it pins old data. Raises as `get` does.
        """


class Snapshot(Reader, Protocol):
    """The entries as they were between two commits, for a long look at all of them.

    May be read in a thread of its own while the store goes on: is written, reopened, closed. Whoever reads after a
    `reopen` or `close` of the store gets StoreClosed.
    """

    def close(self) -> None:
        """Let go of the old entries. May be called twice."""


class Store(Reader, Protocol):
    """Commits and `probe` come from one thread at a time; they may run while others read."""

    def snapshot(self) -> Snapshot:
        """What was committed until now: of each batch all or nothing. From any thread; close it in the end, because
        what it shows stays on the disk. Raises StoreClosed."""

    def commit(self, batch: Batch) -> None:
        """Write all entries or none, and return when they are as durable as the store was opened for.

        Raises StoreFailed when the outcome is unknown. From then on every commit raises it until `reopen` returned:
        going on could lose later writes (a torn record in the middle of LevelDB's log hides what follows it).
        Reads go on.
        """

    def stage(self, batch: Batch) -> Callable[[], None]:
        """Get a batch ready, where nobody else wants the interpreter's lock: calling what is returned, in any thread
        and before anything else is committed, does and raises what `commit` does. Raises StoreFailed as `commit`."""

    def probe(self) -> None:
        """After StoreFailed: see whether the disk takes what `reopen` will write. Raises StoreFailed when not."""

    def reopen(self) -> None:
        """After `probe`: close, open again, check that the last acknowledged batch is there. Then commits work again.

        Raises StoreFailed; reads may then raise StoreClosed until a later `reopen` succeeds. To be called where the
        reads are made: none may be under way.
        """

    def close(self) -> None:
        """Close for good. Everything acknowledged stays. May be called twice."""
