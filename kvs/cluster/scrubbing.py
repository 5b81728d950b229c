"""Compares the Merkle tree with the records that it should be made of, a little at a time, and mends it.

Runs and items change together with their records, so they agree unless KVS has a bug or somebody changed the database.
A tree that is wrong hides differences from comparisons, or makes them mend the same for ever. So it is never trusted
unseen:

    an item row             is the item of the record under its key; without a record there is none
    a corrupt record        has no item: other nodes then find it missing here and send theirs
    a run                   is the sum of the item rows from its start to the next run's, in memory and on the disk
    the root                is the sum of all runs

`scrub` is a part of the plan of a `Scrub` command, so nothing is written between looking and mending. `Scrubber` knows
where to go on.
"""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from kvs.cluster.events import Report, Scrub, Scrubbed
from kvs.cluster.merkle import EMPTY, TreeEdit, item_of, run_row, sum_of_items
from kvs.errors import StoreCorrupt
from kvs.limits import SCRUB_MAX_BYTES, SCRUB_MAX_RECORDS, SCRUB_PAUSE_MS
from kvs.storage.codec import decode
from kvs.storage.keyspace import DATA, ITEMS, RUNS, SYSTEM, after, path_of
from kvs.storage.record import value_digest
from kvs.storage.store import Reader

_KEYS_SHOWN_MAX = 5


class ScrubView(NamedTuple):
    """What was looked at since the start: `drifted` items and runs were mended, `corrupt` counts records each time they
    are met. `last_pass` is when the last whole pass ended, Unix ms, 0 for never."""

    records: int = 0
    drifted: int = 0
    corrupt: int = 0
    passes: int = 0
    last_pass: int = 0


class Found(NamedTuple):
    """What a step came to: the rows to write, the outcome, lines for the log."""

    batch: dict[bytes, bytes | None]
    outcome: Scrubbed
    reports: tuple[Report, ...]


def scrub(edit: TreeEdit, view: Reader, start: bytes) -> Found:
    """Look at the records from `start` on that belong to one run, as many as one step takes, and behind the last one,
    or where one is corrupt, at the run."""
    first = edit.run_start(start)
    stop = edit.next_start(first)
    expected, corrupt, end = _expected(view, start, stop)
    rows = dict(_rows(view, ITEMS, start, end))
    wrong = [entry for entry in {**expected, **rows} if expected.get(entry) != rows.get(entry)]
    batch: dict[bytes, bytes | None] = {ITEMS + entry: expected.get(entry) for entry in wrong}
    # The run comes last: while items of it were not looked at, nobody knows what it should come to. But the item of a
    # corrupt record leaves its run at once, or no comparison would miss the record, and a later write of it would count
    # it twice.
    drifted_runs = _mend_run(edit, view, first, stop, batch) if end == stop or corrupt else 0
    if start == b"" and not edit.is_root_right():
        edit.recount = True
        drifted_runs += 1
    reports = [Report("Corrupt record found", {"error": f"{path_of(entry)}: {corrupt[entry]}"}) for entry in corrupt]
    drifted = [entry for entry in wrong if entry not in corrupt]
    if drifted or drifted_runs:
        shown = [path_of(entry) for entry in sorted(drifted)[:_KEYS_SHOWN_MAX]]
        fields = {"items": len(drifted), "runs": drifted_runs, "keys": shown}
        reports.append(Report("The Merkle tree had drifted from the records and was mended", fields, "error"))
    outcome = Scrubbed(end, len(expected), len(drifted) + drifted_runs, len(corrupt))
    return Found(batch, outcome, tuple(reports))


def _expected(
    view: Reader, start: bytes, stop: bytes
) -> tuple[dict[bytes, bytes | None], dict[bytes, StoreCorrupt], bytes]:
    """The items that the records from `start` on should have, None for a corrupt one; why these are corrupt; and where
    to go on: the first record that is too much, or `stop`."""
    expected: dict[bytes, bytes | None] = {}
    corrupt: dict[bytes, StoreCorrupt] = {}
    size_bytes = 0
    spaces = (_rows(view, b"", *_within(space, start, stop)) for space in (DATA, SYSTEM))
    for entry, raw in chain.from_iterable(spaces):
        if len(expected) == SCRUB_MAX_RECORDS or size_bytes > SCRUB_MAX_BYTES:
            return expected, corrupt, entry
        try:
            record = decode(entry, raw).record
            size_bytes += record.size_bytes
            expected[entry] = item_of(entry, record, value_digest(record.data))
        except StoreCorrupt as error:
            expected[entry], corrupt[entry] = None, error
    return expected, corrupt, stop


def _mend_run(edit: TreeEdit, view: Reader, start: bytes, stop: bytes, batch: dict[bytes, bytes | None]) -> int:
    """Bring the run from `start` to `stop` in line with its item rows, once `batch` is laid over them; how many runs
    were wrong beside that."""
    rows = {ITEMS + entry: item for entry, item in _rows(view, ITEMS, start, stop)}
    before = sum_of_items(rows.values())
    behind = sum_of_items(item for item in {**rows, **batch}.values() if item is not None)
    held = edit.run(start)
    stored = run_row(held) if start in edit.changed else view.get(RUNS + start) or run_row(EMPTY)
    if held != behind or stored != run_row(behind):
        edit.mend(start, behind)
    strays = [RUNS + other for other, _ in _rows(view, RUNS, start, stop) if other not in (start, *edit.changed)]
    batch.update(dict.fromkeys(strays))
    return len(strays) + (held not in (before, behind) or stored != run_row(held))


def _within(space: bytes, start: bytes, stop: bytes) -> tuple[bytes, bytes]:
    """The part of a range that lies in a space of entry keys; nothing if it ends before it begins."""
    return max(start, space), min(stop or after(space), after(space))


def _rows(view: Reader, prefix: bytes, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(entry key, value) of the rows with this prefix; an empty `stop` is their end."""
    if stop and start >= stop:
        return
    for row, value in view.scan(prefix + start, prefix + stop if stop else after(prefix)):
        yield row[len(prefix) :], value


class Scrubber:
    """Where the next step begins, and what all steps came to since the start."""

    def __init__(self) -> None:
        self._start = b""
        self._rests_until_ms = 0
        self.view = ScrubView()

    def next(self, now_ms: int) -> Scrub | None:
        """The next step; None while it rests between two passes. Times are Unix ms."""
        if self._start == b"" and 0 <= self._rests_until_ms - now_ms <= SCRUB_PAUSE_MS:
            return None
        return Scrub(start=self._start)

    def done(self, outcome: Scrubbed, now_ms: int) -> None:
        self._start = outcome.end
        view = self.view
        self.view = ScrubView(
            records=view.records + outcome.records,
            drifted=view.drifted + outcome.drifted,
            corrupt=view.corrupt + outcome.corrupt,
            passes=view.passes + (not outcome.end),
            last_pass=view.last_pass if outcome.end else now_ms,
        )
        if not outcome.end:
            self._rests_until_ms = now_ms + SCRUB_PAUSE_MS

    def failed(self, now_ms: int) -> None:
        """The disk could not be read: from the beginning, another time."""
        self._start = b""
        self._rests_until_ms = now_ms + SCRUB_PAUSE_MS
