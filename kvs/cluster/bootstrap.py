"""Fills a node that was never filled before: it copies what its peers have, KVS's own records first, then the newest.

    waiting    nobody answers                  a peer is up: filling; `patience` has passed: done, alone
    filling    asks one peer after the other   an answer: take it, ask on; no answer: go on with the next peer, after a
                                               pause when all have failed, and then nobody answers;
                                               an answer that could not be taken: ask for it again
    done       for ever, over restarts too

While it lasts the node takes no writes of clients. Records older than `max_age` are left to comparisons, which begin
when this ends. A peer that is being filled itself does not have all, and nobody would ask again for what it lacks: it
counts as one that does not answer. But when all that can be asked are such, and neither they nor this node have had an
answer of anybody who was filled, twice in a row, then nodes have started together, each with the others as seeds, empty
or with what each held alone before. They do not wait for each other, and compare.

What it has come to is noted in the batches of the records. After a restart it copies what is newer than the beginning
of the run before, and goes on where that one was.
"""

from collections import deque
from struct import Struct
from typing import Literal, NamedTuple

from kvs.cluster.events import Merge, Remember
from kvs.cluster.exchange import RecentAnswer, RecentRequest
from kvs.cluster.ingest import merges_of
from kvs.errors import BadMessage
from kvs.limits import BOOTSTRAP_RETRY_MS, BOOTSTRAP_TOGETHER_MS
from kvs.storage.state import FILLING_ROW

_BEGUN = Struct(">Q")


class BootstrapSettings(NamedTuple):
    """In ms. `fetch_delay_ms` is the pause between two fetches."""

    max_age_ms: int
    patience_ms: int
    fetch_delay_ms: int


class FilledPart(NamedTuple):
    """What is on the disk of a filling that has not ended: all that is older than `begun_ms` (Unix ms), newest first,
    up to the answer with this `before`."""

    begun_ms: int
    before: bytes


def encode_part(part: FilledPart) -> bytes:
    return _BEGUN.pack(part.begun_ms) + part.before


def decode_part(raw: bytes | None) -> FilledPart | None:
    """None where no filling was interrupted."""
    if raw is None or len(raw) <= _BEGUN.size:
        return None
    (begun_ms,) = _BEGUN.unpack_from(raw)
    return FilledPart(begun_ms, raw[_BEGUN.size :])


class AskRecent(NamedTuple):
    """Effect: ask this peer, `delay_ms` from now."""

    peer: str
    request: RecentRequest
    delay_ms: int


class TakeRecent(NamedTuple):
    """Effect: submit these commands (at least one), say `taken` when they are on the disk, or `not_taken`. While one is
    under way the next answer is fetched; no more wait, and what was submitted first ends first."""

    commands: list[Merge | Remember]


class Nonsense(NamedTuple):
    """Effect: so many records that this peer sent cannot be taken; why the first of them cannot."""

    peer: str
    refused: int
    reason: str


class Filled(NamedTuple):
    """Effect: the node takes writes from now on. `why`: it copied what its peers have (so many records); no peer was
    ever filled either; none could fill it in time; nobody was there in time."""

    why: Literal["copied", "together", "unfilled", "alone"]
    records: int


BootstrapEffect = AskRecent | TakeRecent | Nonsense | Filled


class Bootstrap:
    """`needed` is false for a node that was filled before, or that has no seeds; `part` is what came of a run that was
    interrupted. Times are of the clock that never goes back."""

    def __init__(
        self, settings: BootstrapSettings, now_ms: int, *, needed: bool, part: FilledPart | None = None
    ) -> None:
        self._settings = settings
        self._part = part
        """None once everything newer was asked for."""
        self._is_over = not needed
        self._gives_up_ms: int | None = now_ms + settings.patience_ms
        """None while somebody answers."""
        self._peers: list[str] = []
        """Who can be asked, the next first."""
        self._asked = ""
        """Who was asked last."""
        self._asks = False
        self._silences = 0
        """Questions since the last answer that nobody answered."""
        self._failed: set[str] = set()
        """Who did not answer. They are asked again when all others failed too: one that hangs takes a minute each
        time."""
        self.has_source = part is not None
        """Whether anybody who was filled has answered, in this run or the one before."""
        self._sourceless: set[str] = set()
        """Peers that are to be filled themselves, and of which the same did not hold when they were asked last."""
        self._rounds_together = 0
        """How often all peers were such, while this node was too."""
        self.begun_ms = 0
        """When the first question was asked, in Unix ms; 0 before."""
        self._since_ms = 0
        self._next = b""
        """Where the next question goes on: the `before` of the last answer."""
        self._taking: deque[tuple[bytes, int]] = deque()
        """Of each answer that is on its way to the disk: where it ended, its records."""
        self._taken, self._records = b"", 0
        """Where the last answer ended that is on the disk, and the records up to there."""

    @property
    def is_over(self) -> bool:
        return self._is_over

    @property
    def wake_at_ms(self) -> int | None:
        """When `tick` is due."""
        return None if self._is_over else self._gives_up_ms

    def up(self, peer: str, unix_ms: int) -> list[BootstrapEffect]:
        """A peer can be asked."""
        if self._is_over or peer in self._peers:
            return []
        self._peers.insert(0, peer)
        self._failed.discard(peer)
        self._sourceless.discard(peer)
        self._gives_up_ms = None
        if self._asks or self._taking:
            return []
        if not self.begun_ms:
            self.begun_ms = unix_ms
            self._since_ms = max(0, unix_ms - self._settings.max_age_ms)
            if self._part is not None and self._part.begun_ms > unix_ms:
                self._part = None  # this clock was ahead then, or is behind now
        return self._ask(0)

    def down(self, peer: str, now_ms: int) -> None:
        """It is asked no more; a question under way fails by itself."""
        if peer in self._peers:
            self._peers.remove(peer)
        if not self._peers:
            self._nobody_answers(now_ms)

    def answered(self, answer: RecentAnswer) -> list[BootstrapEffect]:
        """What the peer that was asked has sent. Raises BadMessage."""
        if self._is_over:
            return []
        if answer.before and self._next and answer.before >= self._next:
            raise BadMessage("the answer does not go on where the question began")
        commands, refused, reason = merges_of(answer.records, self._asked)
        self._asks = False
        self._silences = 0
        self.has_source = True
        if self._peers:
            self._gives_up_ms = None
        self._next = answer.before
        if not answer.before and self._part is not None:
            self._next, self._part = self._part.before, None
        self._taking.append((self._next, len(commands)))
        nonsense: list[BootstrapEffect] = [Nonsense(self._asked, refused, reason)] if refused else []
        if not commands:
            return nonsense + self._go_on()
        return [*nonsense, TakeRecent([*commands, *self._note()]), *self._ask_on()]

    def taken(self) -> list[BootstrapEffect]:
        """The first of what is on its way to the disk is there."""
        self._taken, records = self._taking.popleft()
        self._records += records
        return [] if self._is_over else self._go_on()

    def not_taken(self) -> list[BootstrapEffect]:
        """The disk did not take what was sent. What is on its way behind it, and a question under way, do not count."""
        self._taking.clear()
        self._asks = False
        self._next = self._taken
        return self._ask(BOOTSTRAP_RETRY_MS) if self._peers and not self._is_over else []

    def failed(self, now_ms: int) -> list[BootstrapEffect]:
        """The peer that was asked did not answer, or nonsense. It is asked again when all others were: one that starts
        at the same moment may take part in the gossip before it can be reached."""
        self._asks = False
        if self._is_over:
            return []
        self._silences += 1
        self._failed.add(self._asked)
        if self._silences < len(self._peers):
            return self._ask(self._settings.fetch_delay_ms)
        self._nobody_answers(now_ms)
        return self._ask(BOOTSTRAP_RETRY_MS) if self._peers else []

    def met_another(self, answer: RecentAnswer, now_ms: int) -> list[BootstrapEffect]:
        """The peer that was asked is being filled itself."""
        if self._is_over:
            return []
        (self._sourceless.discard if answer.has_source else self._sourceless.add)(self._asked)
        if self.has_source or not (self._peers and self._sourceless.issuperset(self._peers)):
            return self.failed(now_ms)
        self._asks, self._silences = False, 0
        self._failed.clear()
        self._sourceless.clear()
        self._rounds_together += 1
        return self._end("together") if self._rounds_together > 1 else self._ask(BOOTSTRAP_TOGETHER_MS)

    def tick(self, now_ms: int) -> list[BootstrapEffect]:
        is_due = self._gives_up_ms is not None and now_ms >= self._gives_up_ms
        if not is_due or self._is_over:
            return []
        return self._end("unfilled" if self._peers else "alone")

    def _note(self) -> list[Remember]:
        """What is on the disk, for the batch of what comes next. An earlier part stands until it is reached."""
        if not self._taken or self._part is not None:
            return []
        return [Remember(rows={FILLING_ROW: encode_part(FilledPart(self.begun_ms, self._taken))})]

    def _nobody_answers(self, now_ms: int) -> None:
        if self._gives_up_ms is None:
            self._gives_up_ms = now_ms + self._settings.patience_ms

    def _go_on(self) -> list[BootstrapEffect]:
        """An answer needs no more: it is on the disk, or was empty."""
        while self._taking and not self._taking[0][1]:
            self._taken, _ = self._taking.popleft()
        return self._end("copied") if not (self._taking or self._asks or self._next) else self._ask_on()

    def _ask_on(self) -> list[BootstrapEffect]:
        """Ask the next peer, unless that was all, or as much as may waits for the disk already."""
        if self._asks or not self._next or not self._peers or len(self._taking) > 1:
            return []
        return self._ask(self._settings.fetch_delay_ms)

    def _ask(self, delay_ms: int) -> list[BootstrapEffect]:
        if self._failed.issuperset(self._peers):
            self._failed.clear()
        self._asked = next(peer for peer in self._peers if peer not in self._failed)
        self._peers.remove(self._asked)
        self._peers.append(self._asked)  # all peers share the work
        self._asks = True
        since_ms = self._since_ms if self._part is None else max(self._since_ms, self._part.begun_ms)
        return [AskRecent(self._asked, RecentRequest(self._next, since_ms), delay_ms)]

    def _end(self, why: Literal["copied", "together", "unfilled", "alone"]) -> list[BootstrapEffect]:
        self._is_over = True
        return [Filled(why, self._records)]
