"""Answers which ranges differ: the asked side of a comparison. It keeps nothing between two questions.

A range whose fingerprint is the asker's is equal. A short one is listed: its keys with their items. Any other is cut
into parts with a fingerprint each, which cover it without a gap, so that keys which only the asker has lie in one of
them too, before the first and behind the last key that is held here.
"""

from collections.abc import Iterator, Sequence

from kvs.cluster.exchange import CHILDREN, EQUAL, ITEMS, Difference, Span
from kvs.cluster.merkle import Sum, Tree, items
from kvs.limits import DIFF_PARTS, DIFF_ROOT_PARTS, PRINT_BYTES
from kvs.storage.store import Reader


def mark_of(part: Sum) -> bytes:
    """What travels of a fingerprint."""
    return part.fingerprint[:PRINT_BYTES]


def differences(
    tree: Tree, reader: Reader, spans: Sequence[Span], list_below: int, parts: int = 0
) -> Iterator[Difference]:
    """One for each range, in order; a generator, because many ranges take their time. `parts` is into how many a range
    is cut; 0: many for each of one or two, as in the first question, few for each of several."""
    parts = parts or (DIFF_ROOT_PARTS if len(spans) <= 2 else DIFF_PARTS)
    for start, stop, mark in spans:
        held = tree.sum_of(reader, start, stop)
        if mark_of(held) == mark:
            yield Difference(EQUAL)
        elif held.size < list_below:
            found = list(items(reader, start, stop))
            yield Difference(ITEMS, [key for key, _ in found], [item[:PRINT_BYTES] for _, item in found])
        else:
            cuts, sums = tree.cut(reader, start, stop, parts)
            yield Difference(CHILDREN, cuts, [mark_of(part) for part in sums])
