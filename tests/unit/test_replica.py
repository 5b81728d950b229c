"""What a comparison proves: that both nodes hold what was written before it, but for what it kept back."""

from collections.abc import Iterator
from random import Random

import pytest

from kvs.cluster import replica_events
from kvs.cluster.bootstrap import Bootstrap, BootstrapSettings
from kvs.cluster.comparisons import Pace
from kvs.cluster.copies import Reached
from kvs.cluster.events import Change, Delete, Merge, Put, Report, Sweep
from kvs.cluster.exchange import RecentAnswer, RecentRequest, ReplicateAnswer
from kvs.cluster.floor import Floor, Stored
from kvs.cluster.push import Push
from kvs.cluster.replica import Replica
from kvs.cluster.time_of import Now
from kvs.errors import StoreClosed
from kvs.limits import COMPARE_RETRY_MIN_MS, LEFT_TO_PUSH_MS
from kvs.storage.codec import encode_record
from kvs.storage.keyspace import EXPIRIES, data_key
from kvs.storage.record import new_uuid, value_digest
from tests.comparing import answer, here, take
from tests.model import leaves_ms
from tests.nodes import LoneNode
from tests.records import record

BEGAN_MS = 1_700_000_000_000
KEY = data_key(b"k")


def test_that_a_peer_is_back_is_stored_before_it_brings_anything() -> None:
    """Only if its absence is on the disk: that of a peer which this node met again right after a restart is not."""
    a = LoneNode(in_cluster=True)
    floor, now = Floor(Stored(0, {"b": 1, "c": 2}, away={"b": 3}), 0), Now(0, BEGAN_MS)
    push, bootstrap = Push("a", 0, Random(1)), Bootstrap(BootstrapSettings(0, 0, 0), 0, needed=False)
    at = Replica(Pace(1, 1, 0), push, bootstrap, floor, Random(1), now, push_enabled=True)
    assert floor.absences().spans == ((1, 3), (2, BEGAN_MS))
    assert at.handle(replica_events.PeerUp("c"), here(a, BEGAN_MS), now) == []
    assert at.handle(replica_events.PeerUp("b"), here(a, BEGAN_MS), now) == [replica_events.SaveFloor()]
    assert floor.absences().spans == ()
    at.handle(replica_events.PeerDown("b"), here(a, BEGAN_MS), Now(1, BEGAN_MS + 1))
    assert floor.absences().spans == ((1, BEGAN_MS + 1),)


def settled(push_enabled: bool = False) -> Replica:
    """Of a node that was filled, and knows nobody yet."""
    push, bootstrap = Push("a", 0, Random(1)), Bootstrap(BootstrapSettings(0, 0, 0), 0, needed=False)
    pace, floor = Pace(300_000, 120_000, 0), Floor(Stored(), 0)
    return Replica(pace, push, bootstrap, floor, Random(1), Now(0, BEGAN_MS), push_enabled=push_enabled)


def happen(at: Replica, node: LoneNode, at_ms: int, *events: replica_events.Event) -> list[replica_events.Effect]:
    now = Now(at_ms, BEGAN_MS + at_ms)
    return [effect for event in events for effect in at.handle(event, here(node, now.unix_ms), now)]


def asked(effects: list[replica_events.Effect]) -> list[str]:
    """Whom a question of a comparison went to."""
    return [effect.peer for effect in effects if isinstance(effect, replica_events.PeerCall) and not effect.push]


def test_a_comparison_with_a_peer_that_goes_down_ends_then() -> None:
    """And not a minute later, when its question has failed."""
    a, at = LoneNode(in_cluster=True), settled()
    known = (replica_events.Known(["b", "c"]), replica_events.PeerUp("b"), replica_events.DigestSeen("b", "x", 0, 0))
    assert asked(happen(at, a, 0, *known)) == ["b"]
    assert asked(happen(at, a, 100, replica_events.PeerUp("c"), replica_events.DigestSeen("c", "x", 0, 0))) == []
    assert asked(happen(at, a, 5_000, replica_events.PeerDown("b"))) == ["c"]
    assert at.comparing_with == "c"


def test_a_peer_that_is_being_filled_begins_comparisons_itself() -> None:
    """It would be sent a second time all that it copies just now."""
    a, at = LoneNode(in_cluster=True), settled()
    filling, filled = (replica_events.DigestSeen("b", "x", 0, 0, is_settled) for is_settled in (False, True))
    assert asked(happen(at, a, 0, replica_events.Known(["b"]), replica_events.PeerUp("b"), filling)) == []
    for at_ms in range(500, 600_000, 500):
        assert asked(happen(at, a, at_ms, filling, replica_events.Tick())) == []
    (call,) = happen(at, a, 600_000, filled)
    assert isinstance(call, replica_events.PeerCall)
    happen(at, a, 600_001, replica_events.Failed(call.call, "a first failure"))
    assert at.wake_at_ms == 600_001 + COMPARE_RETRY_MIN_MS, "the pauses of those that did not begin do not count"


def test_a_node_that_rejoins_does_not_compare_with_one_that_is_being_filled() -> None:
    """What that one lacks so far would count as deleted."""
    a, long_ms = LoneNode(in_cluster=True), 50_000
    a.do(BEGAN_MS, put(b"1"))
    floor = Floor(Stored(last=BEGAN_MS), 0, retention_ms=1_000)
    at = filling(floor, BEGAN_MS, needed=False)
    happen(at, a, long_ms, replica_events.Known(["b", "c"]), replica_events.PeerUp("b"))
    told = happen(at, a, long_ms, replica_events.DigestSeen("b", "x", 0, BEGAN_MS + 40_000, is_settled=False))
    assert at.mode == "rejoining"
    assert asked(told) == asked(happen(at, a, long_ms + 60_000, replica_events.Tick())) == []
    whole = replica_events.PeerUp("c"), replica_events.DigestSeen("c", "y", 0, BEGAN_MS + 40_000)
    assert asked(happen(at, a, long_ms + 60_000, *whole)) == ["c"]


def test_a_peer_that_hangs_lets_others_have_their_turn() -> None:
    """Its pings go on, and say that it holds something else."""
    a, at = LoneNode(in_cluster=True), settled()
    (call,) = happen(
        at,
        a,
        0,
        replica_events.Known(["b", "c"]),
        replica_events.PeerUp("b"),
        replica_events.DigestSeen("b", "x", 0, 0),
    )
    assert isinstance(call, replica_events.PeerCall)
    for at_ms in (1_000, 2_000, 3_000):
        assert asked(happen(at, a, at_ms, replica_events.DigestSeen("b", "x", 0, 0))) == []
    happen(at, a, 10_000, replica_events.PeerUp("c"), replica_events.DigestSeen("c", "y", 0, 0))
    assert asked(happen(at, a, 15_000, replica_events.Failed(call.call, "it hangs"))) == ["c"]


def filled_floor(stored: Stored) -> Floor:
    """Of a node that was made to be filled."""
    return Floor(stored, 0, retention_ms=1_000, has_seeds=True, born_ms=BEGAN_MS)


def filling(floor: Floor, at_ms: int, *, needed: bool) -> Replica:
    """Of a node that starts now, still to be filled if that is `needed`."""
    push, bootstrap = Push("a", 0, Random(1)), Bootstrap(BootstrapSettings(0, 0, 0), 0, needed=needed)
    return Replica(Pace(1, 1, 0), push, bootstrap, floor, Random(1), Now(0, at_ms), push_enabled=True)


@pytest.mark.parametrize("to_the_end", [False, True])
def test_a_node_that_was_filled_long_ago_shares_nothing_of_that(to_the_end: bool) -> None:
    """It may have been deleted, and that forgotten, since. The node went before it was equal to anybody."""
    a = LoneNode(in_cluster=True)
    floor = filled_floor(Stored())
    before = filling(floor, BEGAN_MS, needed=True)
    (call,) = happen(before, a, 0, replica_events.PeerUp("b"))
    assert isinstance(call, replica_events.PeerCall)
    brought = RecentAnswer([(KEY, encode_record(record(payload=b"1")))], b"" if to_the_end else b"9")
    save, taken = happen(before, a, 1, replica_events.Answered(call.call, brought))[:2]
    assert isinstance(save, replica_events.SaveFloor)
    assert isinstance(taken, replica_events.Submit)

    later_ms = BEGAN_MS + 100_000
    at = filling(filled_floor(floor.stored()), later_ms, needed=not to_the_end)
    mode = "settled" if to_the_end else "filling"
    assert (at.mode, at.may_share) == (mode, False)
    (report,) = at.handle(
        replica_events.DigestSeen("b", "x", 0, BEGAN_MS + 50_000), here(a, later_ms), Now(1, later_ms)
    )
    assert isinstance(report, Report)
    assert report.event == "This node was away for too long: it compares first"
    assert (at.mode, at.may_share) == ("rejoining" if to_the_end else "filling", False)


class Reopening:
    """A store between two attempts to open it."""

    def get(self, key: bytes) -> bytes | None:
        raise StoreClosed("the store is being reopened")

    def scan(self, start: bytes, stop: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        raise StoreClosed("the store is being reopened")


def test_a_comparison_that_cannot_begin_is_begun_again() -> None:
    """Nothing of it would ever end it: no question is on its way."""
    a, at = LoneNode(in_cluster=True), settled()
    a.do(BEGAN_MS, put(b"1"))
    happen(at, a, 0, replica_events.Known(["b"]), replica_events.PeerUp("b"))
    closed = here(a, BEGAN_MS)._replace(reader=Reopening())
    (report,) = at.handle(replica_events.DigestSeen("b", "x", 0, 0), closed, Now(1, BEGAN_MS + 1))
    assert report == Report("A comparison with a peer failed", {"peer": "b", "reason": "the store is being reopened"})
    assert at.comparing_with is None
    assert at.wake_at_ms is not None
    assert asked(happen(at, a, at.wake_at_ms, replica_events.Tick())) == ["b"]


def test_a_late_answer_of_a_peer_that_was_down_acknowledges_nothing_that_it_was_sent_since() -> None:
    a, at = LoneNode(in_cluster=True), settled(push_enabled=True)
    up = (replica_events.PeerUp("b"), replica_events.DigestSeen("b", "x", 0, 0))
    happen(at, a, 0, replica_events.Known(["b"]), *up)

    def write(ticket: int) -> int:
        """The number of the push that brings it."""
        new = record(payload=b"%d" % ticket, timestamp=BEGAN_MS + ticket)
        effects = happen(
            at, a, 10, replica_events.Awaited(ticket, KEY, new, 1), replica_events.Written([Change(KEY, new, ticket)])
        )
        (call,) = [effect.call for effect in effects if isinstance(effect, replica_events.PeerCall) and effect.push]
        return call

    first = write(1)
    happen(at, a, 20, replica_events.PeerDown("b"), *up)
    second = write(2)
    late, own = (replica_events.Answered(call, ReplicateAnswer(bytes(1))) for call in (first, second))
    assert happen(at, a, 30, late) == []
    assert happen(at, a, 40, own) == [Reached(1), Reached(2)], "the second is a later version of the same key"


def put(value: bytes, ttl_ms: int = 0) -> Put:
    return Put(entry=KEY, uuid=new_uuid(), codec=0, payload=value, ttl_ms=ttl_ms)


def proof_of(a: LoneNode, b: LoneNode, now_ms: int) -> int:
    """Let `a` compare with `b`; the moment up to which it finds the two equal then."""
    floor, now = Floor(Stored(), 0), Now(0, now_ms)
    push, bootstrap = Push("a", 0, Random(1)), Bootstrap(BootstrapSettings(0, 0, 0), 0, needed=False)
    at = Replica(Pace(1, 1, 0), push, bootstrap, floor, Random(1), now, push_enabled=False)
    events: list[replica_events.Event] = [
        replica_events.Known(["b"]),
        replica_events.PeerUp("b"),
        replica_events.DigestSeen("b", "", 0, 0),
    ]
    while events:
        for effect in at.handle(events.pop(0), here(a, now_ms), now):
            match effect:
                case replica_events.PeerCall(call, _, request):
                    assert not isinstance(request, RecentRequest)
                    events.append(replica_events.Answered(call, answer(b, request, now_ms)))
                case replica_events.Submit(ticket, commands):
                    events.append(replica_events.Submitted(ticket, take(a, commands, now_ms)))
        if at.last_comparison("b") is not None:
            return floor.proven_ms(now_ms)
    raise AssertionError("the comparison did not end")


def pair() -> tuple[LoneNode, LoneNode]:
    """Two nodes that hold the same value."""
    a, b = (LoneNode(node_id=name, in_cluster=True) for name in "ab")
    a.do(BEGAN_MS, put(b"1"))
    assert proof_of(a, b, BEGAN_MS + 60_000) == BEGAN_MS + 60_000
    assert a.tree.root == b.tree.root
    return a, b


def test_what_has_expired_holds_off_older_versions_until_it_leaves_the_disk() -> None:
    """The peer gets it as it gets any record: the tombstone that takes its place has the old timestamp, and so may be
    forgotten as soon as both are proven to be equal."""
    a, b = pair()
    written_ms = BEGAN_MS + 100_000
    a.do(written_ms, put(b"2", ttl_ms=1))
    assert proof_of(a, b, written_ms + 60_000) == written_ms + 60_000
    assert a.tree.root == b.tree.root
    swept_ms = leaves_ms(written_ms + 1)
    for node in (a, b):
        assert node.live(KEY, written_ms + 60_000) is None
        node.node.floor_ms = written_ms
        node.do(swept_ms, Sweep(rows=tuple(node.rows(EXPIRIES))))
    assert a.tree.root == b.tree.root
    assert proof_of(a, b, swept_ms) == swept_ms


def test_what_cannot_be_taken_is_no_proof() -> None:
    """It may be a deletion: its tombstone must not go while this node holds the value."""
    a, b = pair()
    strange = record(timestamp=BEGAN_MS + 1, content_type="none")
    raw = encode_record(strange)
    b.do(BEGAN_MS + 1, Merge(entry=data_key(b"x"), record=strange, raw=raw, digest=value_digest(b""), source="c"))
    assert proof_of(a, b, BEGAN_MS + 60_000) == 0


def test_what_is_left_to_the_push_is_no_proof() -> None:
    a, b = pair()
    written_ms = a.node.floor_ms = b.node.floor_ms = BEGAN_MS + 100_000
    a.do(written_ms, Delete(entry=KEY, uuid=new_uuid()))
    assert proof_of(a, b, written_ms + LEFT_TO_PUSH_MS - 1) == written_ms
    assert a.tree.root != b.tree.root
    assert proof_of(a, b, written_ms + LEFT_TO_PUSH_MS) == written_ms + LEFT_TO_PUSH_MS
    assert a.tree.root == b.tree.root
