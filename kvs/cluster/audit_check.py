"""Finds what was done to an audit log: reads it as it stands, entry by entry, and names what does not fit.

    what was done                     how it shows
    an entry changed                  its signature is not that of its text and the entry before
    an entry taken out, or cut out    the numbers have a gap
    an entry put in, or moved         its number is not the next one
    all made anew from some entry on  a signed head does not fit: its root, or the signature of its last entry
    the end cut off                   the tip, or a head, goes further than the log
    entries put behind the end        the tip is before them
    the whole log replaced            a head that is kept elsewhere is of another log

Entries are taken in the order of their rows, one at a time: a log of any length needs little memory. The number that
counts is the one in the text of an entry, because it is signed; the one in its row says where the row stands.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from kvs.cluster.audit_heads import NO_HEAD, Head, decode_head
from kvs.cluster.audit_run import Frontier
from kvs.errors import BadMessage
from kvs.limits import AUDIT_FINDINGS_MAX
from kvs.storage.audit import SIGNATURE_BYTES, Tip, decode, genesis, sign, split


class Row(NamedTuple):
    """A stored entry or head. `place` is the number in its key, None where the key is none of the kind."""

    place: int | None
    raw: bytes


class Tips(NamedTuple):
    """What the log's tip was before its entries were read, and what asks for it behind them: a node that runs writes on
    meanwhile."""

    before: Tip
    behind: Callable[[], Tip]


class Anchor(NamedTuple):
    """What the log was once, as somebody else knows it: `source` says who. `head` is the number of a head, 0 for none;
    `chain` the signature of the entry `last`."""

    source: str
    log: str
    head: int
    last: int
    chain: str


class Finding(NamedTuple):
    """`first` and `last` are entries, or heads where `of` is `head`."""

    of: str
    first: int
    last: int
    text: str

    def __str__(self) -> str:
        if self.of == "log":
            return f"log: {self.text}"
        many = "entries" if self.of == "entry" else "heads"
        named = f"{self.of} {self.first}" if self.first == self.last else f"{many} {self.first} to {self.last}"
        return f"{named}: {self.text}"


class Report(NamedTuple):
    """`findings` are the first of them, `found` is how many there are; none for a log that is sound. `last` and `chain`
    are the end of it."""

    entries: int
    heads: int
    signed: int
    last: int
    chain: str
    findings: list[Finding]
    found: int


def anchor_of(head: Head, source: str) -> Anchor:
    return Anchor(source, head.log, head.number, head.last, head.chain)


def check(
    log: str,
    entries: Iterable[Row],
    heads: Iterable[Row],
    tips: Tips,
    anchors: Sequence[Anchor] = (),
    keys: Iterable[str] | None = None,
) -> Report:
    """Check a whole log. `log` is the instance id of its data directory; `entries` and `heads` come in the order of
    their rows. `keys` are those that may have signed the newest head, None when they are not known."""
    found = _Findings()
    entry_checks = _Entries(log, found, anchors, tips)
    head_checks = _Heads(log, heads, found, anchors)
    for number, raw in entry_checks.in_order(entries):
        head_checks.take(number, raw)
    head_checks.end(entry_checks.last, keys)
    entry_checks.end()
    return Report(
        entry_checks.count,
        head_checks.count,
        head_checks.signed,
        entry_checks.last,
        entry_checks.chain.hex(),
        found.kept,
        found.count,
    )


class _Findings:
    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.count = 0
        self.greatest_entry = 0
        """The last entry that something was found of."""

    def add(self, of: str, first: int, last: int, text: str) -> None:
        self.count += 1
        if of == "entry":
            self.greatest_entry = max(self.greatest_entry, last)
        if len(self.kept) < AUDIT_FINDINGS_MAX:
            self.kept.append(Finding(of, first, last, text))

    def entry(self, number: int, text: str) -> None:
        self.add("entry", number, number, text)

    def entries(self, first: int, last: int, text: str) -> None:
        self.add("entry", first, last, text)

    def head(self, number: int, text: str) -> None:
        self.add("head", number, number, text)


class _Entries:
    """`last` is the greatest number in sequence, `chain` its signature."""

    def __init__(self, log: str, found: _Findings, anchors: Sequence[Anchor], tips: Tips) -> None:
        self._log = log
        self._found = found
        self._tips = tips
        tip = tips.before
        own = [Anchor("the log's tip", log, 0, tip.number, tip.signature.hex())] if self._is_tip(tip) else []
        self._anchors = [*own, *anchors]
        self._signatures: dict[int, str] = {0: genesis(log).hex()}
        self._wanted = {anchor.last for anchor in self._anchors if anchor.log == log}
        self._before: tuple[bytes, ...] = (genesis(log),)
        """What the next entry may rest on. More than one: a signature was changed, or there are two of a number."""
        self._shift = 0
        self.count = 0
        self.last = 0
        self.chain = genesis(log)

    def in_order(self, rows: Iterable[Row]) -> Iterator[tuple[int, bytes]]:
        """The entries that stand in sequence, each with its number."""
        pending: tuple[Row, int | None] | None = None
        for row in chain(rows, (None,)):
            following = None if row is None else _number(row.raw)
            if pending is not None:
                number = self._take(*pending, following)
                if number is not None:
                    yield number, pending[0].raw
            pending = None if row is None else (row, following)

    def _take(self, row: Row, number: int | None, following: int | None) -> int | None:
        """The number of an entry that stands in sequence, else None. `number` is what its text says, None when it is no
        entry; `following` the same of the row behind, by which a stranger is told from a gap."""
        self.count += 1
        expected = self.last + 1
        if row.place is None:
            self._stranger(expected, following, "a row that is none of the log")
            return None
        if number is None:
            self._found.entry(expected, "it was changed: its bytes are no entry")
            return self._accept(expected, row, ())
        if number == expected:
            if row.place - number != self._shift:
                self._found.entry(number, f"it stands under the number {row.place}")
                self._shift = row.place - number
            return self._accept(number, row, self._check(number, row.raw))
        if following == expected + 1:
            self._found.entry(expected, f"in its place stands an entry {number}")
            return self._accept(expected, row, ())
        if number > expected and following != expected:
            self._found.entries(expected, number - 1, "missing")
            self._shift = row.place - number
            return self._accept(number, row, (split(row.raw)[0],))
        self._shift = row.place + 1 - expected
        if number == self.last:
            self._before += (split(row.raw)[0],)
        self._stranger(expected, following, f"an entry {number}")
        return None

    def _stranger(self, expected: int, following: int | None, what: str) -> None:
        if following is None and self.last:
            self._found.entry(self.last, f"behind it stands {what}")
        else:
            self._found.entry(expected, f"before it stands {what}")

    def _check(self, number: int, raw: bytes) -> tuple[bytes, ...]:
        """What the next entry may rest on."""
        signature, text = split(raw)
        expected = [sign(before, text) for before in self._before]
        if not expected or signature in expected:
            return (signature,)
        self._found.entry(number, "it was changed, or what stood before it")
        return (signature, *expected)

    def _accept(self, number: int, row: Row, before: tuple[bytes, ...]) -> int:
        signature = split(row.raw)[0].ljust(SIGNATURE_BYTES, b"\0")
        self._before = before
        self.last, self.chain = number, signature
        if number in self._wanted:
            self._signatures[number] = signature.hex()
        return number

    def end(self) -> None:
        """Compare with what the tip says, and with what others know."""
        behind = self._tips.behind()
        if not (self._is_tip(self._tips.before) and self._is_tip(behind)):
            self._found.add("log", 0, 0, "its tip is missing or was changed: nothing says where it ends")
        elif behind.number < self.last:
            self._found.entries(behind.number + 1, self.last, "behind the log's tip")
        for anchor in self._anchors:
            if anchor.log != self._log:
                text = f"it was replaced, or its beginning lost: {anchor.source} knows another one, of {anchor.log}"
                self._found.add("log", 0, 0, f"{text}, with {anchor.last} entries")
            elif anchor.last > self.last:
                self._found.entries(self.last + 1, anchor.last, f"cut off: {anchor.source} knows them")
            elif self._signatures.get(anchor.last) != anchor.chain:
                self._found.entry(anchor.last, f"it, or one before it, is not the one that {anchor.source} knows")

    def _is_tip(self, tip: Tip) -> bool:
        return tip.number > 0 or tip.signature == genesis(self._log)


class _Heads:
    def __init__(self, log: str, rows: Iterable[Row], found: _Findings, anchors: Sequence[Anchor]) -> None:
        self._log = log
        self._rows = iter(rows)
        self._found = found
        self._wanted = {anchor.head: anchor.source for anchor in anchors if anchor.log == log and anchor.head}
        self._frontier = Frontier()
        self._chain = genesis(log).hex()
        self._newest: Head | None = None
        self.count = 0
        self._next = self._read()

    @property
    def signed(self) -> int:
        """The last entry under a head."""
        return 0 if self._newest is None else self._newest.last

    def take(self, number: int, raw: bytes) -> None:
        """The next entry. Heads are compared with their runs when the last entry of each has come."""
        while self._next is not None and (number > self._next.last or self._next.last < self._next.first):
            self._compare()
        if self._next is not None and number >= self._next.first:
            self._frontier.append(raw)
        self._chain = split(raw)[0].ljust(SIGNATURE_BYTES, b"\0").hex()
        if self._next is not None and number == self._next.last:
            self._compare()

    def end(self, last: int, keys: Iterable[str] | None) -> None:
        """`last` is the last entry of the log."""
        while self._next is not None:
            if self._next.last > last:
                self._found.entries(last + 1, self._next.last, f"cut off: head {self._next.number} covers them")
                self._advance(self._next)
            else:
                self._compare()
        if self._newest is not None and keys is not None and self._newest.key not in set(keys):
            self._found.head(self._newest.number, "it is not signed by a key of this cluster or data directory")
        for number, source in self._wanted.items():
            if number > (0 if self._newest is None else self._newest.number):
                self._found.head(number, f"missing: {source} knows it")

    def _compare(self) -> None:
        """The head that is due, with what was gathered."""
        head = self._next
        assert head is not None
        fits = self._frontier.root.hex() == head.root and self._chain == head.chain
        if not fits and self._found.greatest_entry < head.first:
            text = f"not what head {head.number} was signed for"
            self._found.entries(head.first, max(head.first, head.last), text)
        self._advance(head)

    def _advance(self, head: Head) -> None:
        self._frontier = Frontier()
        self._newest = head
        self._next = self._read()

    def _read(self) -> Head | None:
        """The next head that is one and stands where it belongs; what does not is found."""
        for place, raw in self._rows:
            self.count += 1
            number = 0 if self._newest is None else self._newest.number
            try:
                head = decode_head(raw)
            except BadMessage:
                self._found.head(number + 1, "it was changed: its bytes are no head")
                continue
            if self._is_next(head, place):
                return head
        return None

    def _is_next(self, head: Head, place: int | None) -> bool:
        before = self._newest
        number, last = (0, 0) if before is None else (before.number, before.last)
        if head.number > number + 1:
            self._found.add("head", number + 1, head.number - 1, "missing")
        elif head.number <= number:
            self._found.head(head.number, f"it stands behind head {number}")
            return False
        elif head.previous != (NO_HEAD if before is None else before.id) or head.first != last + 1:
            self._found.head(head.number, f"it does not go on from head {number}" if number else "it is not the first")
        if place != head.number:
            self._found.head(head.number, "it stands under another number")
        if head.log != self._log:
            self._found.head(head.number, "it is of another log")
        if not head.is_signed:
            self._found.head(head.number, "it was changed: its signature does not fit")
        return True


def _number(raw: bytes) -> int | None:
    try:
        return decode(raw).number
    except ValueError:
        return None
