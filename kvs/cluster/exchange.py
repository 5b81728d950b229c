"""The messages by which two nodes compare what they hold and send each other records.

    POST /merkle_tree/diff   DiffRequest      DiffAnswer        which of these ranges differ, and where in them
    POST /kv_range           FetchRequest     FetchAnswer       records by their keys
                             RangeRequest     RangeAnswer       all records of a range
    POST /members/pairs_by_time
                             RecentRequest    RecentAnswer      records, newest first
    POST /replicate          ReplicateRequest ReplicateAnswer   take these records

All travel as msgpack arrays. Columns of one kind (keys, fingerprints) are one byte string each, because a header for
each element would cost more than the element. Every decoder checks counts and lengths and raises BadMessage.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec

from kvs.cluster.packing import pack_keys, unpack_keys
from kvs.errors import BadMessage
from kvs.limits import DIFF_KEYS_MAX, DIFF_RANGES_MAX, FETCH_KEYS_MAX, PRINT_BYTES

_Message = TypeVar("_Message", bound=msgspec.Struct)

EQUAL, CHILDREN, ITEMS = 0, 1, 2

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no message."""


class Span(NamedTuple):
    """A range of entry keys, `start` inclusive, `stop` exclusive (empty: no end), and the sender's fingerprint."""

    start: bytes
    stop: bytes
    mark: bytes


class DiffRequest(msgspec.Struct, array_like=True, frozen=True):
    """`edges` are the packed starts and stops in turn, `marks` PRINT_BYTES for each range. A range of fewer than
    `list_below` items shall be listed."""

    edges: bytes
    marks: bytes
    list_below: int

    @classmethod
    def of(cls, spans: Sequence[Span], list_below: int) -> "DiffRequest":
        edges = pack_keys(edge for span in spans for edge in (span.start, span.stop))
        return cls(edges, b"".join(span.mark for span in spans), list_below)

    def spans(self) -> list[Span]:
        edges = unpack_keys(self.edges, 2 * DIFF_RANGES_MAX)
        marks = _marks(self.marks)
        if len(edges) != 2 * len(marks):
            raise BadMessage("ranges and fingerprints are not alike in number")
        spans = [Span(*triple) for triple in zip(edges[::2], edges[1::2], marks, strict=True)]
        if any(span.stop and span.stop <= span.start for span in spans):
            raise BadMessage("a range ends before it begins")
        return spans


class Difference(NamedTuple):
    """What a node answers about one range. `cuts` and `marks` belong together: for CHILDREN n cuts make n + 1 parts
    with a mark each; for ITEMS they are the keys with their items."""

    kind: int
    cuts: Sequence[bytes] = ()
    marks: Sequence[bytes] = ()


class DiffAnswer(msgspec.Struct, array_like=True, frozen=True):
    """A kind and a number of cuts for each range that was asked, then all their cuts and marks in a row."""

    kinds: bytes
    sizes: list[int]
    cuts: bytes
    marks: bytes

    @classmethod
    def of(cls, differences: Sequence[Difference]) -> "DiffAnswer":
        return cls(
            bytes(difference.kind for difference in differences),
            [len(difference.cuts) for difference in differences],
            pack_keys(cut for difference in differences for cut in difference.cuts),
            b"".join(mark for difference in differences for mark in difference.marks),
        )

    def differences(self, asked: int) -> list[Difference]:
        """One for each of the `asked` ranges."""
        if not len(self.kinds) == len(self.sizes) == asked:
            raise BadMessage("the answer is not about the ranges that were asked")
        cuts, marks = unpack_keys(self.cuts, DIFF_KEYS_MAX), _marks(self.marks)
        found: list[Difference] = []
        cut_at = mark_at = 0
        for kind, size in zip(self.kinds, self.sizes, strict=True):
            if kind > ITEMS or size < 0 or (kind == EQUAL and size):
                raise BadMessage("the answer has a part of an unknown kind")
            mark_end = mark_at + size + (kind == CHILDREN)
            found.append(Difference(kind, cuts[cut_at : cut_at + size], marks[mark_at:mark_end]))
            cut_at, mark_at = cut_at + size, mark_end
        if cut_at != len(cuts) or mark_at != len(marks):
            raise BadMessage("the answer has parts that belong to no range")
        return found


class FetchRequest(msgspec.Struct, array_like=True, frozen=True, tag="keys"):
    """Send the records under these keys. `versions` are (timestamp, counter) of what the asker holds, (0, 0) for
    nothing: a record that is older stays where it is."""

    keys: bytes
    versions: list[tuple[int, int]]

    @classmethod
    def of(cls, wanted: Sequence[tuple[bytes, tuple[int, int]]]) -> "FetchRequest":
        return cls(pack_keys(key for key, _ in wanted), [version for _, version in wanted])

    def wanted(self) -> list[tuple[bytes, tuple[int, int]]]:
        keys = unpack_keys(self.keys, FETCH_KEYS_MAX)
        if len(keys) != len(self.versions):
            raise BadMessage("keys and versions are not alike in number")
        return list(zip(keys, self.versions, strict=True))


class FetchAnswer(msgspec.Struct, array_like=True, frozen=True):
    """`done` of the keys were looked at; the records found, each with the place of its key in the request. Keys beyond
    `done` may be asked for again."""

    done: int
    records: list[tuple[int, bytes]]


class RangeRequest(msgspec.Struct, array_like=True, frozen=True, tag="range"):
    """Send all records from `start` (inclusive) to `stop` (exclusive; empty: no end)."""

    start: bytes
    stop: bytes


class RangeAnswer(msgspec.Struct, array_like=True, frozen=True):
    """Records as (entry key, record), in order. `rest` is where to go on, empty when that was all."""

    records: list[tuple[bytes, bytes]]
    rest: bytes


class RecentRequest(msgspec.Struct, array_like=True, frozen=True):
    """Send all of KVS's own records, and behind these those of users whose timestamp is `since_ms` (Unix ms) or later,
    newest first. `before` is where to go on: from what was answered; empty for the begin."""

    before: bytes
    since_ms: int


class RecentAnswer(msgspec.Struct, array_like=True, frozen=True):
    """Records as (entry key, record), in that order. `before` is where to go on, empty when that was all; less in
    every answer. `filling`: who answers is being filled itself, and sends nothing, as it does not have all;
    `has_source` is then whether anybody who was filled has answered it."""

    records: list[tuple[bytes, bytes]]
    before: bytes
    filling: bool = False
    has_source: bool = True


class ReplicateRequest(msgspec.Struct, array_like=True, frozen=True):
    """Records as (entry key, record)."""

    records: list[tuple[bytes, bytes]]


class ReplicateAnswer(msgspec.Struct, array_like=True, frozen=True):
    """What became of each record, after it was on the disk: one byte each."""

    outcomes: bytes


TAKEN, KNOWN, OLDER, REFUSED = 0, 1, 2, 3


def encode(message: msgspec.Struct) -> bytes:
    return msgspec.msgpack.encode(message)


def decode(data: bytes, kind: type[_Message]) -> _Message:
    """Raises BadMessage. What is in the columns is checked by the message's own methods."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except _UNREADABLE:
        raise BadMessage("the message is none of the kind that belongs here") from None


def decode_wanted(data: bytes) -> FetchRequest | RangeRequest:
    """Which of the two questions about records it is. Raises BadMessage."""
    try:
        wanted: FetchRequest | RangeRequest = _wanted_decoder.decode(data)
    except _UNREADABLE:
        raise BadMessage("the message asks for no records") from None
    return wanted


_wanted_decoder = msgspec.msgpack.Decoder(FetchRequest | RangeRequest)


def _marks(column: bytes) -> list[bytes]:
    if len(column) % PRINT_BYTES:
        raise BadMessage("a fingerprint is cut off")
    return [column[at : at + PRINT_BYTES] for at in range(0, len(column), PRINT_BYTES)]
