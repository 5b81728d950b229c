"""A node that was restored from a backup compares itself with a peer that knows more, before anything else."""

from random import Random

from kvs.cluster import replica_events
from kvs.cluster.bootstrap import Bootstrap, BootstrapSettings
from kvs.cluster.comparisons import Pace
from kvs.cluster.events import Put, Report
from kvs.cluster.exchange import RecentRequest
from kvs.cluster.floor import Floor, Stored
from kvs.cluster.push import Push
from kvs.cluster.replica import Replica
from kvs.cluster.replica_events import Event
from kvs.cluster.time_of import Now
from kvs.storage.keyspace import data_key
from kvs.storage.record import new_uuid
from tests.comparing import answer, here, take
from tests.nodes import LoneNode

UNIX_MS = 1_700_000_000_000
PATIENCE_MS = 1_000
AS_OF_MS = UNIX_MS - 1_000_000


class Restored:
    """A replica beside other nodes, in time that the test moves."""

    def __init__(self, *, floor: int = 0, had_peers: bool = True) -> None:
        self.node = LoneNode(node_id="me", in_cluster=True)
        self.floor = Floor(Stored(floor, as_of=AS_OF_MS, had_peers=had_peers), 0)
        self.others = {name: LoneNode(node_id=name, in_cluster=True) for name in "bc"}
        self.now_ms = 0
        self.reports: list[str] = []
        bootstrap = Bootstrap(BootstrapSettings(0, 0, 0), 0, needed=False)
        push = Push("a", 0, Random(1))
        self.replica = Replica(
            Pace(10_000, 10_000, 0),
            push,
            bootstrap,
            self.floor,
            Random(1),
            self._now(),
            push_enabled=True,
            patience_ms=PATIENCE_MS,
        )
        self.compared: list[str] = []
        self.handle(replica_events.Known(list(self.others)))

    def meet(self, peer: str, *, floor_ms: int = 0, settled: bool = True, root: str = "") -> None:
        self.handle(replica_events.PeerUp(peer), replica_events.DigestSeen(peer, root, 0, floor_ms, settled))

    def see(self, peer: str, *, floor_ms: int = 0, settled: bool = True, root: str = "") -> None:
        self.handle(replica_events.DigestSeen(peer, root, 0, floor_ms, settled))

    def pass_ms(self, ms: int) -> None:
        self.now_ms += ms
        self.handle(replica_events.Tick())

    def handle(self, *events: Event) -> replica_events.SetAside | None:
        """Carries out what follows, until something is to be set aside."""
        waiting = list(events)
        while waiting:
            for effect in self.replica.handle(waiting.pop(0), here(self.node, UNIX_MS), self._now()):
                match effect:
                    case replica_events.PeerCall(call, peer, request):
                        assert not isinstance(request, RecentRequest)
                        if not self.compared or self.compared[-1] != peer:
                            self.compared.append(peer)
                        waiting.append(replica_events.Answered(call, answer(self.others[peer], request, UNIX_MS)))
                    case replica_events.Submit(ticket, commands):
                        waiting.append(replica_events.Submitted(ticket, take(self.node, commands, UNIX_MS)))
                    case replica_events.SetAside():
                        return effect
                    case Report(event):
                        self.reports.append(event)
        return None

    def _now(self) -> Now:
        return Now(self.now_ms, UNIX_MS)


def test_it_compares_with_a_settled_peer_and_is_settled_then() -> None:
    at = Restored()
    assert (at.replica.mode, at.replica.is_unproven, at.replica.may_share) == ("rejoining", True, False)
    at.meet("b")
    assert at.compared == ["b"]
    assert (at.replica.mode, at.replica.is_unproven, at.replica.may_share) == ("settled", False, True)


def test_peers_that_know_no_more_teach_it_nothing_until_its_patience_is_over() -> None:
    at = Restored()
    at.meet("b", settled=False)
    root = at.node.tree.root.fingerprint.hex()
    at.see("b", settled=False, root=root)
    at.pass_ms(PATIENCE_MS - 1)
    assert (at.compared, at.replica.mode, at.replica.may_share) == ([], "rejoining", False)
    assert at.floor.is_unproven
    at.pass_ms(1)
    assert at.replica.mode == "settled"
    assert at.reports == ["No peer knows more: this node goes on with what it was restored from"]
    at.pass_ms(20_000)
    assert at.compared == [], "whoever is not settled begins itself"
    at.see("b")
    assert at.compared == ["b"]


def test_a_peer_that_settles_is_compared_with_at_once() -> None:
    at = Restored()
    at.meet("b", settled=False)
    at.pass_ms(PATIENCE_MS // 2)
    at.see("b")
    assert at.compared == ["b"]
    assert not at.replica.is_unproven


def test_alone_it_goes_on_after_its_patience() -> None:
    at = Restored()
    assert at.replica.wake_at_ms == PATIENCE_MS
    at.pass_ms(PATIENCE_MS)
    assert (at.replica.mode, at.replica.is_unproven) == ("settled", False)
    assert at.replica.wake_at_ms is None


def test_patience_does_not_end_while_a_peer_that_knows_more_lives() -> None:
    at = Restored()
    at.others["b"].do(UNIX_MS, Put(entry=data_key(b"k"), uuid=new_uuid(), codec=0, payload=b"1"))
    effects = at.replica.handle(replica_events.PeerUp("b"), here(at.node, UNIX_MS), at._now())
    effects += at.replica.handle(replica_events.DigestSeen("b", "x", 0, 0), here(at.node, UNIX_MS), at._now())
    (call,) = (effect for effect in effects if isinstance(effect, replica_events.PeerCall))
    at.pass_ms(PATIENCE_MS)
    assert at.replica.is_unproven
    at.handle(replica_events.Failed(call.call, "no answer"), replica_events.PeerDown("b"))
    assert at.replica.is_unproven
    assert at.replica.wake_at_ms == PATIENCE_MS
    at.pass_ms(0)
    assert not at.replica.is_unproven


def test_a_node_that_never_had_others_waits_for_none() -> None:
    at = Restored(had_peers=False)
    assert (at.replica.mode, at.replica.is_unproven) == ("settled", False)
    assert not at.replica.may_share, "before it has heard a floor it gives nothing away"


def test_what_may_have_been_deleted_is_set_aside() -> None:
    """The floor of the others is beyond what the backup knows: what they do not have, and is older, was deleted."""
    at = Restored()
    for key, moment_ms in ((b"old", AS_OF_MS - 5), (b"new", UNIX_MS)):
        at.node.do(moment_ms, Put(entry=data_key(key), uuid=new_uuid(), codec=0, payload=b"1"))
    floor_ms = AS_OF_MS + 1_000
    at.handle(replica_events.PeerUp("b"))
    aside = at.handle(replica_events.DigestSeen("b", "", 0, floor_ms))
    assert aside is not None
    assert (aside.entries, aside.before_ms) == ([data_key(b"old")], floor_ms)
    assert at.others["b"].live(data_key(b"new"), UNIX_MS) is None, "younger than what is left to the push"
    assert at.others["b"].live(data_key(b"old"), UNIX_MS) is None
    assert at.replica.mode == "rejoining"
