"""One comparison with one peer, after which both hold the same: the asking side.

    comparing   ask about ranges, compare the parts of those that differ, ask about these, until what differs is listed
    fetching    ask for records that only the peer has, or whose version differs
    taking      wait until they are on this node's disk
    sending     send what only this node has, or holds in a newer version
    done

One question is under way at a time. Rounds: each answer cuts a range into 16 parts (256 the first time, which asks
about KVS's own records and those of users apart from each other), and ranges of fewer than 32 items are listed, so that
a million keys take four questions, then one to fetch and one to send. It ends: every question is about ranges strictly
within those of the question before, and the late ones are listed whatever their length.

KVS's own records come first, from comparing to sending, and only then those of users: a value must not be there before
the permissions that keep it from others.

A comparison that has found as much as one may move leaves the `rest` to the next one, which begins there. Otherwise
records that a peer does not take, because it has forgotten that they were deleted, could fill each comparison anew, and
nobody would come to what is behind them. What one chain of comparisons proves holds as of the begin of the first.

Absence proves nothing here: a peer that holds nothing is sent everything, and nothing is deleted; only tombstones,
which are records like others, delete.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

from kvs.cluster.diff import mark_of
from kvs.cluster.events import Merge, Merged, Outcome
from kvs.cluster.exchange import (
    CHILDREN,
    ITEMS,
    REFUSED,
    DiffAnswer,
    Difference,
    DiffRequest,
    FetchAnswer,
    FetchRequest,
    RangeAnswer,
    RangeRequest,
    ReplicateAnswer,
    ReplicateRequest,
    Span,
)
from kvs.cluster.ingest import Limits, in_messages, merges_of, sendable
from kvs.cluster.merkle import EMPTY, Tree, items
from kvs.errors import BadMessage, KvsError
from kvs.limits import (
    DIFF_EARLY_ROUNDS,
    DIFF_LIST_BELOW,
    DIFF_LIST_BELOW_LATE,
    DIFF_RANGES_MAX,
    FETCH_KEYS_MAX,
    LEFT_TO_PUSH_MS,
    PRINT_BYTES,
    SESSION_KEYS_MAX,
)
from kvs.storage.codec import encode_record
from kvs.storage.keyspace import SYSTEM
from kvs.storage.store import Reader

_EMPTY_MARK = mark_of(EMPTY)
_UNEQUAL = bytes(PRINT_BYTES)
"""In the place of a mark: as good as never that of a range."""

Request = DiffRequest | FetchRequest | RangeRequest | ReplicateRequest
Answer = DiffAnswer | FetchAnswer | RangeAnswer | ReplicateAnswer


class Ask(NamedTuple):
    """Effect: send this to the peer; its answer is the next thing to hand in."""

    request: Request


class Take(NamedTuple):
    """Effect: submit these commands; say `taken` when they are on the disk."""

    commands: list[Merge]


class Done(NamedTuple):
    """Effect: the comparison is over. `behind`: it moved as much as one may, and there was more."""

    behind: bool


Step = Ask | Take | Done


class Here(NamedTuple):
    """This node's side, as it is when a step is made."""

    tree: Tree
    reader: Reader
    limits: Limits


class _Work:
    """What is known to differ among KVS's own records, or among those of users."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.spans: deque[Span] = deque()
        self.deeper: list[Span] = []
        self.wanted: deque[tuple[bytes, tuple[int, int]]] = deque()
        self.ranges: deque[tuple[bytes, bytes]] = deque()
        self.surplus: list[bytes] = []
        self.surplus_ranges: deque[tuple[bytes, bytes]] = deque()
        self.outgoing: Iterator[list[tuple[bytes, bytes]]] | None = None

    def give_up(self) -> list[Span]:
        """All that is known as ranges only: it is not looked into, and not moved."""
        whole = (Span(start, stop, _UNEQUAL) for start, stop in chain(self.ranges, self.surplus_ranges))
        left = [*self.spans, *self.deeper, *whole]
        for ranges in (self.spans, self.deeper, self.ranges, self.surplus_ranges):
            ranges.clear()
        return left


class Session:
    """The state of one comparison. Every method returns what is to be done next; BadMessage ends it."""

    def __init__(
        self, peer: str, now_ms: int, forgotten_ms: int = 0, before: "Session | None" = None, mark: int = 0
    ) -> None:
        """`now_ms` is Unix ms. `forgotten_ms`: what only this node has, in versions from before this moment (Unix ms),
        may have been deleted and forgotten elsewhere. It is not sent; it is set aside. `before` is a comparison with
        the same peer that left a rest. `mark` is that of `Push` now."""
        self._peer = peer
        self.forgotten_ms = forgotten_ms
        self.began_ms: int = now_ms if before is None else before.began_ms
        """As of when this proves something."""
        self.mark: int = mark if before is None else before.mark
        """The same by the count of `Push`."""
        self._left: list[Span] = [] if before is None else before.rest
        self._asked: list[Span] = []
        self._asked_keys: list[tuple[bytes, tuple[int, int]]] = []
        self._own, self._users = _Work(rounds=0), _Work(rounds=1)
        self._work = self._own
        self._keys = 0
        self.rounds = 0
        self.questions = 0
        self.compared = 0
        """Records that were compared one by one."""
        self.fetched = 0
        self.sent = 0
        self.rest: list[Span] = []
        """Ranges that differ and were not looked into, as enough is to be moved. Their marks may be old when they are
        asked about: if the peer holds that now, the two held the same."""
        self.set_aside: list[bytes] = []
        self.refused = 0
        """Records of the peer that cannot be taken."""
        self.refusal = ""
        """Why the first of these cannot."""
        self.untaken = 0
        """Records that could have been taken, and were not: by this node's disk, or by the peer."""
        self.failure = ""
        """Why the first of these was not."""
        self._lacked_before: bool = before is not None and before.lacks_any
        self.withheld_ms: int | None = None if before is None else before.withheld_ms
        """The timestamp of the earliest record that the peer did not get because it is too young. So far, and no
        further, the two hold the same."""
        self.withheld: set[bytes] = set() if before is None else before.withheld
        """The entry keys of all such records."""
        self._portion: list[tuple[bytes, bytes]] = []
        self.brought: list[tuple[bytes, bytes]] = []
        """Of what was sent last, what is on the peer's disk now, in that version or a later one."""

    @property
    def lacks_any(self) -> bool:
        """Whether any record was not taken, by either side, in this comparison or those before it."""
        return self._lacked_before or self.refused > 0 or self.untaken > 0

    def start(self, here: Here) -> Step:
        if not self._left:
            for start, stop in ((b"", SYSTEM), (SYSTEM, b"")):
                mark = mark_of(here.tree.sum_of(here.reader, start, stop))
                self._own.spans.append(Span(start, stop, mark))
        for span in self._left:
            self._work_of(span.start).spans.append(span)
        return self._next(here)

    def answered(self, answer: Answer, here: Here) -> Step:
        """The peer's answer to the last question. Raises BadMessage when it cannot be one."""
        match answer:
            case DiffAnswer():
                found = list(zip(self._asked, answer.differences(len(self._asked)), strict=True))
                for span, difference in sorted(found, key=lambda each: each[0].start < SYSTEM):
                    self._compare(span, difference, here)
            case FetchAnswer():
                return self._take_fetched(answer)
            case RangeAnswer():
                return self._take_range(answer)
            case ReplicateAnswer(outcomes):
                self._note_brought(outcomes)
        return self._next(here)

    def taken(self, commands: Sequence[Merge], outcomes: Sequence[Outcome], here: Here) -> Step:
        """What was to be taken is on the disk, as far as it won; the peer gets what it lost to."""
        for command, outcome in zip(commands, outcomes, strict=True):
            if isinstance(outcome, Merged) and outcome.verdict.kind == "loses":
                self._work.surplus.append(command.entry)
            elif isinstance(outcome, BadMessage):
                self._refuse(1, outcome.detail)
            elif isinstance(outcome, KvsError):
                self._leave_untaken(1, outcome.detail)
        return self._next(here)

    def _work_of(self, start: bytes) -> _Work:
        return self._own if start >= SYSTEM else self._users

    # --- comparing ---

    def _compare(self, span: Span, difference: Difference, here: Here) -> None:
        kind, cuts, marks = difference
        edges = [span.start, *cuts, *([span.stop] if span.stop else ())]
        if kind == ITEMS:
            edges = edges[1:]
            if any(cut < span.start for cut in cuts[:1]):
                raise BadMessage("a listed key lies outside its range")
        if any(a >= b for a, b in pairwise(edges)):
            raise BadMessage("the parts of a range are not in order")
        if kind == ITEMS:
            self._compare_items(span, dict(zip(cuts, marks, strict=True)), here)
        elif kind == CHILDREN:
            if not cuts:
                raise BadMessage("a range was not cut")
            self._compare_parts([span.start, *cuts, span.stop], marks, here)

    def _compare_parts(self, edges: list[bytes], marks: Sequence[bytes], here: Here) -> None:
        mine = here.tree.sums(here.reader, edges)
        for (start, stop), theirs, held in zip(pairwise(edges), marks, mine, strict=True):
            mark, work = mark_of(held), self._work_of(start)
            if mark == theirs:
                continue
            if held == EMPTY:
                _join(work.ranges, start, stop)
            elif theirs == _EMPTY_MARK:
                _join(work.surplus_ranges, start, stop)
            else:
                work.deeper.append(Span(start, stop, mark))

    def _compare_items(self, span: Span, theirs: dict[bytes, bytes], here: Here) -> None:
        mine = {key: item[:PRINT_BYTES] for key, item in items(here.reader, span.start, span.stop)}
        for key in sorted(mine.keys() | theirs.keys()):
            if self._keys > SESSION_KEYS_MAX:
                self.rest.append(Span(key, span.stop, _UNEQUAL))
                return
            self.compared += 1
            if key not in theirs:
                self._work_of(key).surplus.append(key)
                self._keys += 1
            elif mine.get(key) != theirs[key]:
                self._want(key, here)

    def _want(self, key: bytes, here: Here) -> None:
        record = sendable(here.reader, key, here.limits)
        version = (0, 0) if record is None else (record.timestamp, record.counter)
        self._work_of(key).wanted.append((key, version))
        self._keys += 1

    # --- what comes next ---

    def _next(self, here: Here) -> Step:
        step = self._go_on(here)
        if step is None and self._work is self._own:
            self._work = self._users
            step = self._go_on(here)
        return Done(bool(self.rest)) if step is None else step

    def _go_on(self, here: Here) -> Step | None:
        """With KVS's own records, or with those of users. None: there is nothing left to do."""
        work = self._work
        if self._keys > SESSION_KEYS_MAX:
            self._leave_rest()
        if not work.spans and work.deeper:
            work.spans.extend(work.deeper)
            work.deeper.clear()
        if work.spans:
            return self._ask_about_ranges()
        if work.wanted:
            self._asked_keys = [work.wanted.popleft() for _ in range(min(len(work.wanted), FETCH_KEYS_MAX))]
            return self._ask(FetchRequest.of(self._asked_keys))
        if work.ranges:
            return self._ask(RangeRequest(*work.ranges[0]))
        if work.outgoing is None:
            work.outgoing = in_messages(self._records_to_send(here))
        portion = next(work.outgoing, None)
        if portion is None:
            return None
        self.sent += len(portion)
        self._portion = portion
        return self._ask(ReplicateRequest(portion))

    def _leave_rest(self) -> None:
        """Enough was found: what was not looked into, and whole ranges, are left."""
        for work in (self._own, self._users):
            self.rest += work.give_up()

    def _ask(self, request: Request) -> Ask:
        self.questions += 1
        return Ask(request)

    def _ask_about_ranges(self) -> Ask:
        work = self._work
        self.rounds += 1
        work.rounds += 1
        self._asked = [work.spans.popleft() for _ in range(min(len(work.spans), DIFF_RANGES_MAX))]
        late = work.rounds > DIFF_EARLY_ROUNDS
        return self._ask(DiffRequest.of(self._asked, DIFF_LIST_BELOW_LATE if late else DIFF_LIST_BELOW))

    # --- fetching and sending ---

    def _take_fetched(self, answer: FetchAnswer) -> Take:
        if not 0 < answer.done <= len(self._asked_keys):
            raise BadMessage("the answer is not about the keys that were asked")
        asked, rest = self._asked_keys[: answer.done], self._asked_keys[answer.done :]
        self._work.wanted.extendleft(reversed(rest))
        found = dict(answer.records)
        if any(not 0 <= place < len(asked) for place in found):
            raise BadMessage("the answer has records that were not asked for")
        lacked = (key for place, (key, version) in enumerate(asked) if place not in found and version != (0, 0))
        self._work.surplus += lacked
        return self._take((asked[place][0], raw) for place, raw in found.items())

    def _take_range(self, answer: RangeAnswer) -> Take:
        start, stop = self._work.ranges.popleft()
        keys = [start, *(entry for entry, _ in answer.records)]
        if any(a >= b for a, b in pairwise(keys[1:])) or min(keys) < start or (stop and keys[-1] >= stop):
            raise BadMessage("the answer has records that were not asked for")
        if answer.rest:
            if answer.rest <= keys[-1] or (stop and answer.rest >= stop):
                raise BadMessage("the rest of a range begins outside it")
            self._work.ranges.appendleft((answer.rest, stop))
        self._keys += len(answer.records)
        return self._take(answer.records)

    def _take(self, records: Iterable[tuple[bytes, bytes]]) -> Take:
        commands, refused, reason = merges_of(records, self._peer)
        self.fetched += len(commands)
        self._refuse(refused, reason)
        return Take(commands)

    def _refuse(self, count: int, reason: str) -> None:
        self.refused += count
        self.refusal = self.refusal or reason

    def _leave_untaken(self, count: int, reason: str) -> None:
        self.untaken += count
        if count:
            self.failure = self.failure or reason

    def _note_brought(self, outcomes: bytes) -> None:
        if len(outcomes) != len(self._portion):
            raise BadMessage("the answer is not about the records that were sent")
        self.brought = [each for each, outcome in zip(self._portion, outcomes, strict=True) if outcome != REFUSED]
        self._leave_untaken(len(outcomes) - len(self.brought), "the peer did not take it")

    def _records_to_send(self, here: Here) -> Iterator[tuple[bytes, bytes]]:
        for entry in chain(self._work.surplus, self._whole_ranges(here)):
            record = sendable(here.reader, entry, here.limits)
            if record is None:
                continue
            if record.timestamp < self.forgotten_ms:
                self.set_aside.append(entry)
            elif record.timestamp > here.limits.now_ms - LEFT_TO_PUSH_MS:
                self.withheld_ms = min(self.withheld_ms or record.timestamp, record.timestamp)
                self.withheld.add(entry)
            else:
                yield entry, encode_record(record)

    def _whole_ranges(self, here: Here) -> Iterator[bytes]:
        """The entry keys of ranges that only this node holds, until that is enough."""
        ranges = self._work.surplus_ranges
        while ranges:
            start, stop = ranges.popleft()
            for entry, _ in items(here.reader, start, stop):
                if self._keys > SESSION_KEYS_MAX:
                    ranges.appendleft((entry, stop))
                    self._leave_rest()
                    return
                self._keys += 1
                yield entry


def _join(ranges: deque[tuple[bytes, bytes]], start: bytes, stop: bytes) -> None:
    """Add a range, or make the last one longer."""
    if ranges and ranges[-1][1] == start:
        start = ranges.pop()[0]
    ranges.append((start, stop))
