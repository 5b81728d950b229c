"""One comparison with one peer, after which both hold the same: the asking side.

    comparing   ask about ranges, compare the parts of those that differ, ask about these, until what differs is listed
    fetching    ask for records that only the peer has, or whose version differs
    taking      wait until they are on this node's disk
    sending     send what only this node has, or holds in a newer version
    done

One question is under way at a time. Rounds: each answer cuts a range into 16 parts (256 the first time), and ranges of
fewer than 32 items are listed, so that a million keys take four questions, then one to fetch and one to send. It ends:
every question is about ranges strictly within those of the question before, and the late ones are listed whatever
their length.

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
from kvs.errors import BadMessage
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
from kvs.storage.store import Reader

_EMPTY_MARK = mark_of(EMPTY)

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


class Session:
    """The state of one comparison. Every method returns what is to be done next; BadMessage ends it."""

    def __init__(self, peer: str, forgotten_ms: int = 0) -> None:
        """`forgotten_ms`: what only this node has, in versions from before this moment (Unix ms), may have been deleted
        and forgotten elsewhere. It is not sent; it is set aside."""
        self._peer = peer
        self.forgotten_ms = forgotten_ms
        self._asked: list[Span] = []
        self._spans: deque[Span] = deque()
        self._deeper: list[Span] = []
        self._ranges: deque[tuple[bytes, bytes]] = deque()
        self._wanted: deque[tuple[bytes, tuple[int, int]]] = deque()
        self._asked_keys: list[tuple[bytes, tuple[int, int]]] = []
        self._surplus: list[bytes] = []
        self._surplus_ranges: list[tuple[bytes, bytes]] = []
        self._outgoing: Iterator[list[tuple[bytes, bytes]]] | None = None
        self._keys = 0
        self.rounds = 0
        self.questions = 0
        self.compared = 0
        """Records that were compared one by one."""
        self.fetched = 0
        self.sent = 0
        self.behind = False
        self.set_aside: list[bytes] = []
        self.refused = 0
        """Records of the peer that cannot be taken."""
        self.refusal = ""
        """Why the first of these cannot."""
        self.withheld_ms: int | None = None
        """The timestamp of the earliest record that the peer did not get because it is too young. So far, and no
        further, the two hold the same."""

    def start(self, here: Here) -> Step:
        self._spans.append(Span(b"", b"", mark_of(here.tree.root)))
        return self._next(here)

    def answered(self, answer: Answer, here: Here) -> Step:
        """The peer's answer to the last question. Raises BadMessage when it cannot be one."""
        match answer:
            case DiffAnswer():
                for span, difference in zip(self._asked, answer.differences(len(self._asked)), strict=True):
                    self._compare(span, difference, here)
            case FetchAnswer():
                return self._take_fetched(answer)
            case RangeAnswer():
                return self._take_range(answer)
            case ReplicateAnswer():
                pass
        return self._next(here)

    def taken(self, commands: Sequence[Merge], outcomes: Sequence[Outcome], here: Here) -> Step:
        """What was to be taken is on the disk, as far as it won; the peer gets what it lost to."""
        for command, outcome in zip(commands, outcomes, strict=True):
            if isinstance(outcome, Merged) and outcome.verdict.kind == "loses":
                self._surplus.append(command.entry)
            elif isinstance(outcome, BadMessage):
                self._refuse(1, outcome.detail)
        return self._next(here)

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
            mark = mark_of(held)
            if mark == theirs:
                continue
            if held == EMPTY:
                self._ranges.append((start, stop))
            elif theirs == _EMPTY_MARK:
                self._surplus_ranges.append((start, stop))
            else:
                self._deeper.append(Span(start, stop, mark))

    def _compare_items(self, span: Span, theirs: dict[bytes, bytes], here: Here) -> None:
        mine = {key: item[:PRINT_BYTES] for key, item in items(here.reader, span.start, span.stop)}
        for key, mark in theirs.items():
            if mine.get(key) != mark:
                self._want(key, here)
        surplus = [key for key in mine if key not in theirs]
        self._surplus += surplus
        self._keys += len(surplus)
        self.compared += len(theirs) + len(surplus)

    def _want(self, key: bytes, here: Here) -> None:
        record = sendable(here.reader, key, here.limits)
        self._wanted.append((key, (0, 0) if record is None else (record.timestamp, record.counter)))
        self._keys += 1

    # --- what comes next ---

    def _next(self, here: Here) -> Step:
        if self._keys > SESSION_KEYS_MAX:
            self.behind = self.behind or bool(self._spans or self._deeper)
            self._spans.clear()
            self._deeper.clear()
        if not self._spans and self._deeper:
            self._spans.extend(self._deeper)
            self._deeper.clear()
        if self._spans:
            return self._ask_about_ranges()
        if self._wanted:
            self._asked_keys = [self._wanted.popleft() for _ in range(min(len(self._wanted), FETCH_KEYS_MAX))]
            return self._ask(FetchRequest.of(self._asked_keys))
        if self._ranges:
            return self._ask(RangeRequest(*self._ranges[0]))
        if self._outgoing is None:
            self._outgoing = in_messages(self._records_to_send(here))
        portion = next(self._outgoing, None)
        if portion is None:
            return Done(self.behind)
        self.sent += len(portion)
        return self._ask(ReplicateRequest(portion))

    def _ask(self, request: Request) -> Ask:
        self.questions += 1
        return Ask(request)

    def _ask_about_ranges(self) -> Ask:
        self.rounds += 1
        self._asked = [self._spans.popleft() for _ in range(min(len(self._spans), DIFF_RANGES_MAX))]
        late = self.rounds > DIFF_EARLY_ROUNDS
        return self._ask(DiffRequest.of(self._asked, DIFF_LIST_BELOW_LATE if late else DIFF_LIST_BELOW))

    # --- fetching and sending ---

    def _take_fetched(self, answer: FetchAnswer) -> Take:
        if not 0 < answer.done <= len(self._asked_keys):
            raise BadMessage("the answer is not about the keys that were asked")
        asked, rest = self._asked_keys[: answer.done], self._asked_keys[answer.done :]
        self._wanted.extendleft(reversed(rest))
        found = dict(answer.records)
        if any(not 0 <= place < len(asked) for place in found):
            raise BadMessage("the answer has records that were not asked for")
        self._surplus += (key for place, (key, version) in enumerate(asked) if place not in found and version != (0, 0))
        return self._take((asked[place][0], raw) for place, raw in found.items())

    def _take_range(self, answer: RangeAnswer) -> Take:
        start, stop = self._ranges.popleft()
        keys = [start, *(entry for entry, _ in answer.records)]
        if any(a >= b for a, b in pairwise(keys[1:])) or min(keys) < start or (stop and keys[-1] >= stop):
            raise BadMessage("the answer has records that were not asked for")
        if answer.rest:
            if answer.rest <= keys[-1] or (stop and answer.rest >= stop):
                raise BadMessage("the rest of a range begins outside it")
            self._ranges.appendleft((answer.rest, stop))
        return self._take(answer.records)

    def _take(self, records: Iterable[tuple[bytes, bytes]]) -> Take:
        commands, refused, reason = merges_of(records, self._peer)
        self.fetched += len(commands)
        self._refuse(refused, reason)
        return Take(commands)

    def _refuse(self, count: int, reason: str) -> None:
        self.refused += count
        self.refusal = self.refusal or reason

    def _records_to_send(self, here: Here) -> Iterator[tuple[bytes, bytes]]:
        whole = (key for start, stop in self._surplus_ranges for key, _ in items(here.reader, start, stop))
        for entry in chain(self._surplus, whole):
            record = sendable(here.reader, entry, here.limits)
            if record is None:
                continue
            if record.timestamp < self.forgotten_ms:
                self.set_aside.append(entry)
            elif record.timestamp > here.limits.now_ms - LEFT_TO_PUSH_MS:
                self.withheld_ms = min(self.withheld_ms or record.timestamp, record.timestamp)
            else:
                yield entry, encode_record(record)
