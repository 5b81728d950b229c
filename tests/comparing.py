"""A comparison between two nodes, without a network: the questions of one are answered by the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kvs.cluster import diff, exchange, ingest
from kvs.cluster.events import Command, Outcome
from kvs.cluster.exchange import (
    DiffAnswer,
    DiffRequest,
    FetchAnswer,
    FetchRequest,
    RangeAnswer,
    RangeRequest,
    ReplicateAnswer,
    ReplicateRequest,
)
from kvs.cluster.ingest import Limits
from kvs.cluster.sync import Answer, Ask, Done, Here, Request, Session, Step, Take
from kvs.cluster.transport import pack
from tests.nodes import LoneNode


@dataclass
class Traffic:
    """What went over the wire: encoded messages, and how many bytes of them were records; and the same packed, as nodes
    send them."""

    questions: list[Request] = field(default_factory=list)
    wire_bytes: int = 0
    record_bytes: int = 0
    packed_bytes: int = 0
    packed_record_bytes: int = 0
    behind: bool = False
    refused: int = 0
    session: Session | None = None
    moved: list[bytes] = field(default_factory=list)
    """The entry keys of records that came or went, in this order."""


def limits(node: LoneNode, now_ms: int) -> Limits:
    return Limits(now_ms, node.node.tombstone_limit(now_ms))


def here(node: LoneNode, now_ms: int) -> Here:
    return Here(node.tree, node.store, limits(node, now_ms))


def answer(node: LoneNode, request: Request, now_ms: int) -> Answer:
    """What a node says to a question of the peer `asker`."""
    match request:
        case DiffRequest():
            found = diff.differences(node.tree, node.store, request.spans(), request.list_below)
            return DiffAnswer.of(list(found))
        case FetchRequest():
            return FetchAnswer(*ingest.fetched(node.store, request.wanted(), limits(node, now_ms)))
        case RangeRequest():
            return RangeAnswer(*ingest.records_between(node.store, request.start, request.stop, limits(node, now_ms)))
        case ReplicateRequest():
            node.do(now_ms, *[ingest.merge_of(entry, raw, "asker") for entry, raw in request.records])
            return ReplicateAnswer(bytes(len(request.records)))


def compare(asker: LoneNode, asked: LoneNode, now_ms: int, before: Session | None = None) -> Traffic:
    """One session, which goes on where the one `before` left off; every message is encoded and decoded on its way."""
    session, traffic = Session("asked", now_ms, before=before), Traffic()
    traffic.session = session
    step: Step = session.start(here(asker, now_ms))
    while True:
        match step:
            case Ask(request):
                sent = exchange.encode(request)
                reply = exchange.encode(answer(asked, exchange.decode(sent, type(request)), now_ms))
                traffic.questions.append(request)
                traffic.wire_bytes += len(sent) + len(reply)
                decoded = _decoded(request, reply)
                traffic.packed_bytes += len(pack(sent)) + len(pack(reply))
                for records in (_records(request), _records(decoded)):
                    traffic.record_bytes += len(records)
                    traffic.packed_record_bytes += len(pack(records))
                step = session.answered(decoded, here(asker, now_ms))
                if isinstance(request, ReplicateRequest):
                    traffic.moved += [entry for entry, _ in request.records]
            case Take(commands):
                traffic.moved += [command.entry for command in commands]
                step = session.taken(commands, take(asker, commands, now_ms), here(asker, now_ms))
            case Done(behind):
                traffic.behind, traffic.refused = behind, session.refused
                return traffic


def take(node: LoneNode, commands: Sequence[Command], now_ms: int) -> list[Outcome]:
    return node.do(now_ms, *commands)


def _decoded(request: Request, reply: bytes) -> Answer:
    match request:
        case DiffRequest():
            return exchange.decode(reply, DiffAnswer)
        case FetchRequest():
            return exchange.decode(reply, FetchAnswer)
        case RangeRequest():
            return exchange.decode(reply, RangeAnswer)
        case ReplicateRequest():
            return exchange.decode(reply, ReplicateAnswer)


def _records(message: Request | Answer) -> bytes:
    """The records of a message, and their keys if they are told with them."""
    match message:
        case ReplicateRequest() | RangeAnswer():
            return b"".join(entry + raw for entry, raw in message.records)
        case FetchAnswer():
            return b"".join(raw for _, raw in message.records)
    return b""
