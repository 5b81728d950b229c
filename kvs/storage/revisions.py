"""How many of a key's versions are kept, and which rows that means.

A key's versions are counted on this node: `generation` numbers the current record, and `kept` says how many of the
generations just below it are still stored as revisions. So a write knows which rows to drop without looking for them.
"""

from collections.abc import Iterator


def kept_after(kept: int, versions_max: int) -> int:
    """How many revisions stay beside a new current record that has replaced one with `kept` revisions."""
    return kept + 1 if kept + 1 < versions_max else versions_max - 1


def dropped(generation: int, kept: int, kept_new: int) -> Iterator[int]:
    """Generations whose rows go when the record of `generation`, with `kept` revisions, is replaced by the next one
    that keeps `kept_new`."""
    return iter(range(generation - kept, generation + 1 - kept_new))
