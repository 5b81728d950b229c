"""What a node says to its peers' questions about records: what kvs/server/handlers/peers.py does, in virtual time."""

from collections.abc import Callable, Iterator
from itertools import islice

import msgspec

from kvs.cluster import exchange
from kvs.cluster.diff import differences
from kvs.cluster.events import Merge, Merged, Outcome
from kvs.cluster.exchange import (
    KNOWN,
    OLDER,
    REFUSED,
    TAKEN,
    DiffAnswer,
    Difference,
    DiffRequest,
    FetchAnswer,
    FetchRequest,
    RangeAnswer,
    RangeRequest,
    RecentAnswer,
    RecentRequest,
    ReplicateAnswer,
    ReplicateRequest,
)
from kvs.cluster.ingest import fetched, merge_of, recent, records_between
from kvs.cluster.replica import Replica
from kvs.cluster.sync import Here
from kvs.errors import BadMessage, KvsError
from kvs.limits import DIFF_RANGES_PER_TURN
from tests.sim.network import Answer, Back, Question, Refusal
from tests.sim.world import EventLoop
from tests.sim.writer import Outcomes, Writer

DATA_QUESTIONS = (DiffRequest, FetchRequest, RangeRequest, RecentRequest, ReplicateRequest)


class Peers:
    """Keeps nothing between two questions."""

    def __init__(self, loop: EventLoop, writer: Writer, here: Callable[[], Here], replica: Replica) -> None:
        """`here` raises Unavailable while this node must not share what it has."""
        self._loop = loop
        self._writer = writer
        self._here = here
        self._replica = replica

    def answer(self, question: Question, back: Back) -> None:
        try:
            self._answer(question, back)
        except KvsError as error:
            back(Refusal(error.code, error.detail))

    def _answer(self, question: Question, back: Back) -> None:
        if question.kind is ReplicateRequest:
            self._take(exchange.decode(question.body, ReplicateRequest).records, question.sender, back)
            return
        if question.kind is RecentRequest and self._replica.mode == "filling":
            back(_encoded(RecentAnswer([], b"", filling=True, has_source=self._replica.has_source)))
            return
        here = self._here()
        if question.kind is DiffRequest:
            asked = exchange.decode(question.body, DiffRequest)
            self._compare(differences(here.tree, here.reader, asked.spans(), asked.list_below), [], back)
        elif question.kind is RecentRequest:
            newest = exchange.decode(question.body, RecentRequest)
            back(_encoded(RecentAnswer(*recent(here.reader, newest.before, newest.since_ms, here.limits))))
        else:
            wanted = exchange.decode_wanted(question.body)
            if isinstance(wanted, RangeRequest):
                back(_encoded(RangeAnswer(*records_between(here.reader, wanted.start, wanted.stop, here.limits))))
            else:
                back(_encoded(FetchAnswer(*fetched(here.reader, wanted.wanted(), here.limits))))

    def _compare(self, answers: Iterator[Difference], found: list[Difference], back: Back) -> None:
        """Some ranges a turn; what else happens at this moment comes in between."""
        some = list(islice(answers, DIFF_RANGES_PER_TURN))
        if some:
            found += some
            self._loop.after(0, lambda: self._compare(answers, found, back))
        else:
            back(_encoded(DiffAnswer.of(found)))

    def _take(self, records: list[tuple[bytes, bytes]], source: str, back: Back) -> None:
        commands: list[Merge | None] = []
        for entry, raw in records:
            try:
                commands.append(merge_of(entry, raw, source))
            except BadMessage:
                commands.append(None)

        def taken(outcomes: Outcomes) -> None:
            if isinstance(outcomes, KvsError):
                back(Refusal(outcomes.code, outcomes.detail))
                return
            rest = iter(outcomes)
            codes = bytes(REFUSED if command is None else _code(next(rest)) for command in commands)
            back(_encoded(ReplicateAnswer(codes)))

        good = [command for command in commands if command is not None]
        if good:
            self._writer.submit(good, taken)
        else:
            taken([])


def _code(outcome: Outcome) -> int:
    if not isinstance(outcome, Merged):
        return REFUSED
    return {"wins": TAKEN, "known": KNOWN, "loses": OLDER}[outcome.verdict.kind]


def _encoded(message: msgspec.Struct) -> Answer:
    return Answer(exchange.encode(message))
