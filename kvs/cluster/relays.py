"""To whom a node hands a write on in a large cluster.

All members in the order of their ids, this one included, are the corners of a graph, another one for every write: the
node at place i sends to the `fanout` places from fanout * i + c on, around the circle, where c comes from what is
written. These are the generalized de Bruijn graphs (Imase and Itoh, "Design to Minimize Diameter on Building-Block
Network", 1981; Reddy, Pradhan and Kuhl, 1980), turned by c. Each of n nodes is sent `fanout` copies at most, by that
many others, and all are reached within ceil(log n / log fanout) hops, wherever the write was made. Sent to members at
random, three copies would leave out one node in seventeen, and eight one in three thousand.

With three copies any one node may be down unnoticed; with a tenth of them down some 99.7 % of the others are reached,
on the average. Where a write is made it goes to two more, or all that it goes to might be among those that are down.
Nodes that do not agree on who is up choose as if at random. What is left out is mended by comparisons.
"""

from collections.abc import Iterable
from zlib import crc32

from kvs.limits import PUSH_FIRST_MORE


class Relays:
    """The places of all members that are up."""

    def __init__(self, me: str, others: Iterable[str], fanout: int) -> None:
        """A `fanout` of 1 would make circles that reach few: it counts as 2."""
        self._members = sorted({me, *others})
        self._count = max(2, fanout)
        self._first = self._count * self._members.index(me)
        self._me = me

    def of(self, entry: bytes, version: tuple[int, int], *, is_first: bool) -> list[str]:
        """The peers that get this version of a key from this node: `fanout` of them, or one less; two more where the
        write is made (`is_first`)."""
        timestamp, counter = version
        first = self._first + crc32(entry, (timestamp + counter) & 0xFFFFFFFF)
        members = self._members
        count = min(self._count + (PUSH_FIRST_MORE if is_first else 0), len(members))
        found = [members[(first + more) % len(members)] for more in range(count)]
        return [peer for peer in found if peer != self._me]
