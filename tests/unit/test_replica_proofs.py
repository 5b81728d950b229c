"""When a peer counts as one that holds what this node holds, and when not."""

from collections.abc import Callable
from random import Random

import pytest

from kvs.cluster import replica_events
from kvs.cluster.bootstrap import Bootstrap, BootstrapSettings
from kvs.cluster.comparisons import Pace
from kvs.cluster.copies import Reached
from kvs.cluster.events import Change, Delete, Outcome, Put, Report
from kvs.cluster.exchange import REFUSED, RecentRequest, ReplicateAnswer, ReplicateRequest
from kvs.cluster.floor import Floor, Stored
from kvs.cluster.push import Push
from kvs.cluster.replica import Replica
from kvs.cluster.replica_events import Awaited, DigestSeen, Known, PeerCall, PeerUp, Tick, Written
from kvs.cluster.sync import Answer, Request
from kvs.cluster.time_of import Now
from kvs.errors import KvsError
from kvs.limits import COMPARE_RETRY_MIN_MS, LEFT_TO_PUSH_MS
from kvs.storage.keyspace import data_key, system_key
from kvs.storage.record import Record, new_uuid
from tests.comparing import answer, here, take
from tests.nodes import LoneNode

BEGAN_MS = 1_700_000_000_000
KEY, OTHER = data_key(b"k"), data_key(b"o")
UP = (Known(["b"]), PeerUp("b"), DigestSeen("b", "x", 0, 0))
"""The peer is there, and holds something else: a comparison begins."""


class Pair:
    """The replica of the node a, and its peer b, which answers whatever it is asked."""

    def __init__(self, *, push_enabled: bool = False) -> None:
        self.a, self.b = (LoneNode(node_id=name, in_cluster=True, joined=number) for number, name in enumerate("ab"))
        self.a.node.floor_ms = self.b.node.floor_ms = 0
        self.floor = Floor(Stored(last=BEGAN_MS), 0)
        push, bootstrap = Push("a", 0, Random(1)), Bootstrap(BootstrapSettings(0, 0, 0), 0, needed=False)
        pace = Pace(300_000, 120_000, 0)
        self.at = Replica(pace, push, bootstrap, self.floor, Random(1), Now(0, BEGAN_MS), push_enabled=push_enabled)
        self.ms = 0
        self.answer: Callable[[Request], Answer] = lambda request: answer(self.b, request, BEGAN_MS + self.ms)
        self.take: Callable[[replica_events.Submit], list[Outcome]] = lambda submit: take(
            self.a, submit.commands, BEGAN_MS + self.ms
        )

    def tell(self, *events: replica_events.Event) -> list[replica_events.Effect]:
        now = Now(self.ms, BEGAN_MS + self.ms)
        return [effect for event in events for effect in self.at.handle(event, here(self.a, now.unix_ms), now)]

    def run(self, *events: replica_events.Event) -> list[replica_events.Effect]:
        """All that comes of these events; pushes are not answered."""
        found = self.tell(*events)
        for effect in found:
            if isinstance(effect, PeerCall) and not effect.push:
                assert not isinstance(effect.request, RecentRequest)
                found += self.tell(replica_events.Answered(effect.call, self.answer(effect.request)))
            elif isinstance(effect, replica_events.Submit):
                found += self.tell(replica_events.Submitted(effect.ticket, self.take(effect)))
        return found

    def put(self, entry: bytes = KEY) -> Record:
        """A write at a that nobody has told the replica of."""
        now_ms = BEGAN_MS + self.ms
        self.a.do(now_ms, Put(entry=entry, uuid=new_uuid(), codec=0, payload=b"1"))
        record = self.a.live(entry, now_ms)
        assert record is not None
        return record

    @property
    def root(self) -> str:
        return self.a.tree.root.fingerprint.hex()


def test_what_this_nodes_disk_does_not_take_is_no_proof_and_no_fault_of_the_peer() -> None:
    pair = Pair()
    pair.put()
    pair.ms = 10_000
    pair.run(*UP)
    pair.b.do(BEGAN_MS + 20_000, Delete(entry=KEY, uuid=new_uuid()))
    proven_ms = pair.floor.proven_ms(BEGAN_MS)
    pair.ms = 30_000
    pair.take = lambda submit: [KvsError("the node failed to carry out this write")] * len(submit.commands)
    found = pair.run(DigestSeen("b", "y", 0, 0), DigestSeen("b", "y", 0, 0))
    reports = [effect for effect in found if isinstance(effect, Report)]
    reason = {"peer": "b", "records": 1, "reason": "the node failed to carry out this write"}
    assert Report("A comparison left records that were not taken", reason) in reports
    assert pair.floor.proven_ms(BEGAN_MS) == proven_ms
    assert not [effect for effect in found if isinstance(effect, replica_events.Refused)]
    assert pair.at.wake_at_ms == 30_000 + COMPARE_RETRY_MIN_MS


def test_what_the_peer_does_not_take_is_no_proof() -> None:
    pair = Pair()
    watched = pair.put()
    pair.ms = 10_000

    def refuse(request: Request) -> Answer:
        if isinstance(request, ReplicateRequest):
            return ReplicateAnswer(bytes([REFUSED]) * len(request.records))
        return answer(pair.b, request, BEGAN_MS + pair.ms)

    pair.answer = refuse
    found = pair.run(Awaited(1, KEY, watched, 1), *UP)
    assert pair.floor.proven_ms(BEGAN_MS) == 0
    assert Reached(1) not in found
    assert pair.at.wake_at_ms == 10_000 + COMPARE_RETRY_MIN_MS
    pair.answer = lambda request: answer(pair.b, request, BEGAN_MS + pair.ms)
    pair.ms = 11_000
    assert Reached(1) in pair.run(Tick())
    assert pair.floor.proven_ms(BEGAN_MS) == BEGAN_MS + 11_000


def test_an_answer_about_other_records_than_were_sent_ends_the_comparison() -> None:
    pair = Pair()
    pair.put()
    pair.ms = 10_000
    pair.answer = lambda request: (
        ReplicateAnswer(b"") if isinstance(request, ReplicateRequest) else answer(pair.b, request, BEGAN_MS + pair.ms)
    )
    reports = [effect for effect in pair.run(*UP) if isinstance(effect, Report)]
    assert [report.event for report in reports] == ["A comparison with a peer failed"]


# --- who waits for copies ---


def test_a_record_that_a_comparison_brings_counts_as_soon_as_the_peer_has_it() -> None:
    pair = Pair()
    watched = pair.put()
    pair.ms = LEFT_TO_PUSH_MS
    found = pair.run(Awaited(1, KEY, watched, 1), *UP)
    assert Reached(1) in found
    assert pair.b.live(KEY, BEGAN_MS) == watched


def test_a_comparison_that_finds_the_record_there_counts() -> None:
    """The peer fetched it, or has it from others."""
    pair = Pair()
    watched = pair.put()
    pair.ms = 10_000
    pair.run(*UP)
    pair.put(OTHER)
    pair.ms = 20_000
    found = pair.run(Awaited(1, KEY, watched, 1), *[DigestSeen("b", "x", 0, 0)] * 2)
    assert Reached(1) in found


@pytest.mark.parametrize("young", [False, True])
def test_what_is_written_while_a_comparison_goes_on_does_not_count_with_it(young: bool) -> None:
    """Nor what it has left to the push."""
    pair = Pair()
    pair.put(OTHER)
    pair.ms = 10_000
    if young:
        began = pair.tell(Awaited(1, KEY, pair.put(), 1), *UP)
    else:
        began = pair.tell(*UP)
        began += pair.tell(Awaited(1, KEY, pair.put(), 1))
    (call,) = [effect for effect in began if isinstance(effect, PeerCall)]
    assert not isinstance(call.request, RecentRequest)
    found = pair.run(replica_events.Answered(call.call, pair.answer(call.request)))
    assert pair.b.live(OTHER, BEGAN_MS) is not None, "the comparison came to its end"
    assert Reached(1) not in found
    assert Reached(1) in pair.run(DigestSeen("b", pair.root, 0, 0))


def test_a_peer_with_the_same_root_has_what_is_waited_for() -> None:
    pair = Pair()
    pair.run(*UP)
    watched = pair.put()
    assert pair.tell(Awaited(1, KEY, watched, 1)) == []
    assert Reached(1) not in pair.tell(DigestSeen("b", "x", 0, 0))
    assert Reached(1) in pair.tell(DigestSeen("b", pair.root, 0, 0))


# --- without pushes ---


def test_own_records_are_pushed_where_writes_of_users_are_not() -> None:
    pair = Pair(push_enabled=False)
    pair.run(*UP)
    own = system_key(b"auth/token/revoked")
    changes = [Change(entry, pair.put(entry), seq) for seq, entry in enumerate((KEY, own))]
    (call,) = pair.tell(Written(changes))
    assert isinstance(call, PeerCall)
    assert isinstance(call.request, ReplicateRequest)
    assert (call.push, [entry for entry, _ in call.request.records]) == (True, [own])


# --- records that are set aside ---


@pytest.mark.parametrize("failed", [False, True])
def test_nobody_is_compared_with_while_records_are_set_aside(failed: bool) -> None:
    """They would be found, and written to the file, a second time."""
    pair = Pair()
    pair.put()
    pair.ms = 1_000_000
    floor_ms = BEGAN_MS + 900_000
    found = pair.run(Known(["b", "c"]), PeerUp("b"), DigestSeen("b", "x", 0, floor_ms))
    (aside,) = [effect for effect in found if isinstance(effect, replica_events.SetAside)]
    assert (aside.entries, aside.before_ms) == ([KEY], floor_ms)
    for _ in range(3):
        pair.ms += 60_000
        more = pair.tell(PeerUp("c"), DigestSeen("c", "y", 0, floor_ms), DigestSeen("b", "x", 0, floor_ms), Tick())
        assert not [effect for effect in more if isinstance(effect, PeerCall)]
        assert pair.at.wake_at_ms is None
    ended: replica_events.Event = replica_events.Submitted(aside.ticket, [])
    if failed:
        ended = replica_events.Failed(aside.ticket, "the disk is full")
    (call,) = [effect for effect in pair.tell(ended) if isinstance(effect, PeerCall)]
    assert call.peer == ("c" if failed else "b")
