"""Fingerprints over ranges of keys, kept up with every write.

Every current record is an item: a 256-bit hash of its key, its version and its content. The fingerprint of a range is a
hash of how many items it holds and of their sum modulo 2^256. Equal fingerprints mean equal records; sums add up, so
that no two nodes need to agree on the shape of a tree, and one write changes one sum. (Range-based set reconciliation:
Meyer, "Range-Based Set Reconciliation", 2023; additive hashes instead of XOR, whose collisions can be solved for.)

    i <entry key>    item row: the item, 32 bytes
    m <entry key>    run row: count:u32 sum:32, the items from this entry key up to the next run's

A run begins where the hash of an entry key is divisible by RUN_ITEMS_MEAN, so that nodes cut alike whatever the order
of their writes, and where a run would grow beyond RUN_ITEMS_MAX, so that nobody can choose keys that make one endless.
The first run begins at the empty key and is always there. Runs are held in memory, some 60 bytes for RUN_ITEMS_MEAN
records; their rows and the items' are written in the batch of the record, so that nothing is rebuilt after a crash.

`Tree` is what the disk holds. `TreeEdit` is what a group of writes will make of it: thrown away if the commit fails.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise
from struct import Struct

import msgspec

from kvs.cluster.packing import separator
from kvs.errors import StoreCorrupt
from kvs.limits import RUN_ITEMS_MAX, RUN_ITEMS_MEAN, RUNS_FOR_A_COARSE_SPLIT
from kvs.storage.keyspace import ITEMS, RUNS, after
from kvs.storage.record import Record, hash_256
from kvs.storage.store import Reader

ITEM_BYTES = 32
FINGERPRINT_BYTES = 32
_MODULUS = 1 << 256
_SIZES = 1 << 64
_number = int.from_bytes
"""Big-endian, as everything that is stored."""
_VERSION = Struct(">HQIQQI?QBBB")
_RUN = Struct(">I32s")


class Sum(msgspec.Struct, frozen=True, gc=False):
    """How many items, and their sum modulo 2^256."""

    size: int
    total: int

    def plus(self, other: "Sum") -> "Sum":
        return Sum(self.size + other.size, (self.total + other.total) % _MODULUS)

    def minus(self, other: "Sum") -> "Sum":
        return Sum(self.size - other.size, (self.total - other.total) % _MODULUS)

    @property
    def fingerprint(self) -> bytes:
        """What nodes compare, 32 bytes.

        A batch is on the disk a moment before the runs in memory know of it. A part of a range that is asked for then
        is the difference of two states, and may hold less than nothing: it counts as different, as any other does that
        is not the peer's.
        """
        data = self.total.to_bytes(32, "big") + (self.size % _SIZES).to_bytes(8, "big")
        return hash_256(data)


EMPTY = Sum(0, 0)


def item_of(entry: bytes, record: Record, digest: bytes) -> bytes:
    """The item of a record under this entry key. `digest` is the `value_digest` of its value.

    Everything that another node would store is in it, nothing of how it is stored: not the codec.
    """
    origin, owner, content_type = record.origin.encode(), record.owner.encode(), record.content_type.encode()
    base_timestamp, base_counter = record.base
    head = _VERSION.pack(
        len(entry),
        record.timestamp,
        record.counter,
        record.origin_joined,
        base_timestamp,
        base_counter,
        record.deleted,
        record.expires_at,
        len(origin),
        len(owner),
        len(content_type),
    )
    return hash_256(b"".join((head, entry, record.uuid, origin, owner, content_type, digest)))


def read_tree(reader: Reader) -> "Tree":
    """The tree whose rows are in the store. Raises StoreCorrupt when a row is none."""
    runs = {}
    for row, raw in reader.scan(RUNS, after(RUNS)):
        if len(raw) != _RUN.size:
            raise StoreCorrupt("a run of the Merkle tree is unreadable")
        count, total = _RUN.unpack(raw)
        runs[row[1:]] = Sum(count, _number(total))
    return Tree(runs)


def run_row(run: Sum) -> bytes:
    """What stands in the row of a run."""
    return _RUN.pack(run.size, run.total.to_bytes(32, "big"))


class Tree:
    """The runs. Raises nothing; what it reads through a reader must be the state that it was read from."""

    def __init__(self, runs: dict[bytes, Sum]) -> None:
        self._runs = {b"": EMPTY, **runs}
        self._starts = sorted(self._runs)
        self.root = self._sum_of_runs()
        self._before: tuple[list[int], list[int]] | None = None

    def edit(self) -> "TreeEdit":
        return TreeEdit(self)

    def apply(self, edit: "TreeEdit") -> None:
        """Take over what a committed group changed."""
        size, total = self.root.size, self.root.total
        for start, run in edit.changed.items():
            old = self._runs.pop(start, None)
            if old is not None:
                size, total = size - old.size, total - old.total
            if run is not None:
                self._runs[start] = run
                size, total = size + run.size, total + run.total
            if old is None and run is not None:
                insort(self._starts, start)
            elif old is not None and run is None:
                del self._starts[bisect_left(self._starts, start)]
        self.root = Sum(size, total % _MODULUS)
        if edit.recount:
            self.root = self._sum_of_runs()
        if edit.changed:
            self._before = None

    def is_root_right(self) -> bool:
        """Whether the root is the sum of all runs, as it should always be."""
        return self.root == self._sum_of_runs()

    def _sum_of_runs(self) -> Sum:
        runs = self._runs.values()
        return Sum(sum(run.size for run in runs), sum(run.total for run in runs) % _MODULUS)

    def run(self, start: bytes) -> Sum:
        return self._runs[start]

    def run_start(self, entry: bytes) -> bytes:
        """Where the run that holds this entry key begins."""
        return self._starts[bisect_right(self._starts, entry) - 1]

    def start_before(self, start: bytes) -> bytes:
        """Where the run in front of the one at `start` begins."""
        return self._starts[bisect_left(self._starts, start) - 1]

    def start_behind(self, start: bytes) -> bytes:
        """Where the first run behind this entry key begins; empty when there is none."""
        at = bisect_right(self._starts, start)
        return self._starts[at] if at < len(self._starts) else b""

    def sum_of(self, reader: Reader, start: bytes, stop: bytes) -> Sum:
        """The items from `start` (inclusive) to `stop` (exclusive; empty: no end), which is not before `start`."""
        end = self._sum_before(reader, stop) if stop else self.root
        return end.minus(self._sum_before(reader, start))

    def cut(self, reader: Reader, start: bytes, stop: bytes, parts: int) -> tuple[list[bytes], list[Sum]]:
        """Up to `parts` parts of like size that cover a range: where they meet, in order, and their sums.

        Long ranges are cut between runs, where both sides of a comparison need no look at items; their parts are less
        alike. Short ones are cut between items, at the shortest bytes that tell them apart.
        """
        low, high = self._runs_within(start, stop)
        if high - low >= RUNS_FOR_A_COARSE_SPLIT:
            cuts = self._cuts_between_runs(low, high, parts)
            return cuts, self.sums(reader, [start, *cuts, stop])
        found = list(items(reader, start, stop))
        places = range(len(found)) if len(found) < parts else [len(found) * part // parts for part in range(parts)]
        cuts = [separator(found[at - 1][0], found[at][0]) for at in places[1:]]
        return cuts, [_sum_of(found[a:b]) for a, b in pairwise([*places, len(found)])] or [EMPTY]

    def sums(self, reader: Reader, edges: Sequence[bytes]) -> list[Sum]:
        """The sums of the ranges between each edge and the next; the last edge may be empty for no end."""
        low, high = self._runs_within(edges[0], edges[-1])
        if high - low >= RUNS_FOR_A_COARSE_SPLIT:
            return [self.sum_of(reader, start, stop) for start, stop in pairwise(edges)]
        found = list(items(reader, edges[0], edges[-1]))
        keys = [key for key, _ in found]
        places = [0, *(bisect_left(keys, edge) for edge in edges[1:-1]), len(found)]
        return [_sum_of(found[a:b]) for a, b in pairwise(places)]

    def _runs_within(self, start: bytes, stop: bytes) -> tuple[int, int]:
        """The runs that begin within a range, as places in `_starts`: first, and one behind the last."""
        return bisect_right(self._starts, start), bisect_left(self._starts, stop) if stop else len(self._starts)

    def _cuts_between_runs(self, low: int, high: int, parts: int) -> list[bytes]:
        counts, _ = self._sums_before()
        first, last = counts[low], counts[high - 1]
        cuts = {bisect_left(counts, first + (last - first) * part // parts, low, high - 1) for part in range(1, parts)}
        return [self._starts[at] for at in sorted(cuts)]

    def _sum_before(self, reader: Reader, entry: bytes) -> Sum:
        """All items in front of an entry key."""
        at = bisect_right(self._starts, entry) - 1
        counts, totals = self._sums_before()
        sum_ = Sum(counts[at], totals[at] % _MODULUS)
        if self._starts[at] == entry:
            return sum_
        return sum_.plus(sum_items(reader, self._starts[at], entry))

    def _sums_before(self) -> tuple[list[int], list[int]]:
        """Counts and sums of all items in front of each run; made once after a change, when somebody asks."""
        if self._before is None:
            runs = [self._runs[start] for start in self._starts]
            self._before = (
                list(accumulate((run.size for run in runs), initial=0)),
                list(accumulate((run.total for run in runs), initial=0)),
            )
        return self._before


class TreeEdit:
    """What a group of writes changes. `changed` maps the start of a run to its new sum, None when the run is gone."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.changed: dict[bytes, Sum | None] = {}
        self.recount = False
        """Whether the root is to be summed up anew."""
        self._made: list[bytes] = []

    def is_root_right(self) -> bool:
        return self._tree.is_root_right()

    def put(
        self, batch: dict[bytes, bytes | None], view: Reader, entry: bytes, item: bytes, *, is_new: bool = False
    ) -> None:
        """The record under `entry` becomes `item`; its row goes into the batch. `view` does not hold that yet. `is_new`
        says that nothing stands under `entry`, which saves looking for its old item."""
        row = ITEMS + entry
        old = None if is_new else view.get(row)
        start = self.run_start(entry)
        run = self.run(start)
        if old is not None:
            self.changed[start] = Sum(run.size, (run.total + _number(item) - _number(old)) % _MODULUS)
        elif _is_cut(entry):
            self._cut(view, start, entry, _sum(item))
        else:
            if run.size >= RUN_ITEMS_MAX:
                keys = [key for key, _ in items(view, start, self.next_start(start))]
                self._cut(view, start, keys[len(keys) // 2], EMPTY)
                start = self.run_start(entry)
                run = self.run(start)
            self.changed[start] = Sum(run.size + 1, (run.total + _number(item)) % _MODULUS)
        batch[row] = item

    def remove(self, view: Reader, entry: bytes) -> dict[bytes, bytes | None]:
        """The record under `entry` goes; returns the rows to write with that."""
        row = ITEMS + entry
        old = view.get(row)
        if old is None:
            return {}
        start = self.run_start(entry)
        rest = self.run(start).minus(_sum(old))
        if start == entry:
            self.changed[start] = None
            if start in self._made:
                self._made.remove(start)
            start = self.run_start(entry)
            rest = rest.plus(self.run(start))
        self.changed[start] = rest
        return {row: None}

    def mend(self, start: bytes, run: Sum) -> None:
        """The run that begins here comes to this, whatever was thought before."""
        self.changed[start] = run

    def copy(self) -> "TreeEdit":
        """As it is now: to go back to when what comes next fails halfway."""
        made = TreeEdit(self._tree)
        made.changed, made._made, made.recount = dict(self.changed), list(self._made), self.recount
        return made

    def rows(self) -> dict[bytes, bytes | None]:
        """The rows of all changed runs."""
        return {RUNS + start: None if run is None else run_row(run) for start, run in self.changed.items()}

    def _cut(self, view: Reader, start: bytes, entry: bytes, new: Sum) -> None:
        """Make a run that begins at `entry` of the end of the run at `start` and of `new`."""
        tail = sum_items(view, entry, self.next_start(start))
        self.changed[start] = self.run(start).minus(tail)
        self.changed[entry] = tail.plus(new)
        insort(self._made, entry)

    def run(self, start: bytes) -> Sum:
        """The sum of the run that begins here."""
        changed = self.changed.get(start)
        return self._tree.run(start) if changed is None else changed

    def run_start(self, entry: bytes) -> bytes:
        """Where the run that holds this entry key begins."""
        start = self._tree.run_start(entry)
        while self.changed.get(start, EMPTY) is None:
            start = self._tree.start_before(start)
        if self._made:
            at = bisect_right(self._made, entry)
            if at and self._made[at - 1] > start:
                return self._made[at - 1]
        return start

    def next_start(self, start: bytes) -> bytes:
        """Where the run behind the one at `start` begins; empty when there is none."""
        stop = self._tree.start_behind(start)
        while stop and self.changed.get(stop, EMPTY) is None:
            stop = self._tree.start_behind(stop)
        at = bisect_right(self._made, start)
        if at < len(self._made) and (not stop or self._made[at] < stop):
            return self._made[at]
        return stop


def items(reader: Reader, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(entry key, item) from `start` (inclusive) to `stop` (exclusive; empty: no end), in order."""
    for row, item in reader.scan(ITEMS + start, ITEMS + stop if stop else after(ITEMS)):
        if len(item) != ITEM_BYTES:
            raise StoreCorrupt("an item of the Merkle tree is unreadable")
        yield row[1:], item


def sum_items(reader: Reader, start: bytes, stop: bytes) -> Sum:
    """The items of a range, read one by one."""
    return _sum_of(list(items(reader, start, stop)))


def sum_of_items(found: Iterable[bytes]) -> Sum:
    numbers = [_number(item) for item in found]
    return Sum(len(numbers), sum(numbers) % _MODULUS)


def _sum_of(found: Sequence[tuple[bytes, bytes]]) -> Sum:
    return sum_of_items(item for _, item in found)


def _sum(item: bytes) -> Sum:
    return Sum(1, _number(item))


def _is_cut(entry: bytes) -> bool:
    return _number(blake2b(entry, digest_size=4).digest()) % RUN_ITEMS_MEAN == 0
