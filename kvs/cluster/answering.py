"""What peers are answered.

Ping          this node's own word, what it holds against the asker, news
PingReq       later: whether the target answered a ping of this node
Join          the list; later, when another node holds the id: the list, or a refusal
MemberList    the list
Leave         done

refusal                code, status             why
wrong sender           wrong_sender 400         the message speaks for another node than its head
address                invalid_address 400      nobody can reach a member there
another node           wrong_node 409           the ping is for an id that this node does not have
this node itself       this_node 409            a seed leads back to this node
clone                  node_id_taken 409        another living node has this id
clone, there before    clone_stops 409          this node was started later under the same id: it is the one to stop
unknown target         unknown_member 404       this node knows no such member to ping
full                   member_limit 503         no room for another member, or another ping
leaving                leaving 503              this node is about to stop
"""

import msgspec

from kvs.cluster.address import is_loopback
from kvs.cluster.hearing import Hearing
from kvs.cluster.members import UP, same_process
from kvs.cluster.membership_events import Deferred, Sender
from kvs.cluster.messages import (
    Done,
    Join,
    Leave,
    MemberList,
    MemberState,
    Ping,
    PingAck,
    PingReq,
    PingReqAck,
    Request,
    Response,
    Status,
)
from kvs.cluster.outbox import Outbox, Relaying
from kvs.cluster.roster import Roster, check_address
from kvs.cluster.time_of import Now
from kvs.cluster.voice import Voice
from kvs.errors import BadRequest, Conflict, NotFound, Unavailable
from kvs.limits import MEMBER_NUMBER_MAX, RELAYS_MAX


class Answering:
    """Answers requests. Raises the KvsError that refuses one."""

    def __init__(self, roster: Roster, voice: Voice, hearing: Hearing, out: Outbox) -> None:
        self._roster = roster
        self._voice = voice
        self._hearing = hearing
        self._out = out

    def answer(self, request: Request, sender: Sender, now: Now) -> Response | Deferred:
        if self._roster.myself.has_left:
            raise Unavailable("this node is leaving the cluster", code="leaving")
        from_afar = not is_loopback(sender.host)
        match request:
            case Ping():
                return self._ping(request, sender, now, from_afar=from_afar)
            case PingReq():
                return self._ping_req(request, sender, now, from_afar=from_afar)
            case Join():
                return self._join(request, sender, now, from_afar=from_afar)
            case MemberList(members):
                self._refuse_own_id(next((m for m in members if m.id == sender.node_id), None), now)
                self._hearing.members(members, sender.node_id, now, from_afar=from_afar)
                return self._voice.member_list(now)
            case Leave():
                return self._leave(request, now)

    def _ping(self, ping: Ping, sender: Sender, now: Now, *, from_afar: bool) -> PingAck:
        _check_sender(ping.sender.id, sender)
        if ping.to != self._roster.myself.id:
            raise Conflict(f"this is {self._roster.myself.id}, not {ping.to}", code="wrong_node")
        self._refuse_own_id(ping.sender, now)
        self._hearing.peer(ping, now, from_afar=from_afar)
        return self._voice.ack(ping.sender, now)

    def _ping_req(self, request: PingReq, sender: Sender, now: Now, *, from_afar: bool) -> PingReqAck | Deferred:
        _check_sender(request.sender.id, sender)
        self._refuse_own_id(request.sender, now)
        self._hearing.peer(request, now, from_afar=from_afar)
        if request.target == self._roster.myself.id:
            return self._voice.ping_req_ack(sender.node_id, now, reached=True)
        entry = self._roster.table.get(request.target)
        if entry is None or entry.is_removed:
            raise NotFound(f"no member has the id {request.target}", code="unknown_member")
        if self._out.relays >= RELAYS_MAX:
            raise Unavailable("this node pings for many others already", code="member_limit")
        ticket = self._out.ticket()
        self._out.relays += 1
        address = entry.state.address
        self._voice.ping(
            Relaying(ticket, sender.node_id, request.target),
            request.target,
            address,
            now,
            timeout_ms=request.timeout_ms,
        )
        return Deferred(ticket)

    def _join(self, join: Join, sender: Sender, now: Now, *, from_afar: bool) -> MemberList | Deferred:
        _check_sender(join.id, sender)
        check_address(join.address, from_afar=from_afar)
        state = self._as_state(join)
        self._refuse_own_id(state, now)
        self._hearing.contests.refuse_known_clone(state, now)
        self._hearing.speaker(state, now, from_afar=from_afar)
        if self._hearing.contests.is_open(state.id):
            ticket = self._out.ticket()
            self._hearing.contests.open(state, now, ticket)
            return Deferred(ticket)
        return self._voice.member_list(now)

    def _as_state(self, join: Join) -> MemberState:
        """A join without an incarnation, which KVS itself never sends, counts as what is needed to be listed."""
        incarnation = join.incarnation
        entry = self._roster.table.get(join.id)
        if not incarnation and entry is not None:
            held = entry.state
            incarnation = held.incarnation
            if held.status not in UP or held.address != join.address:
                incarnation = min(incarnation + 1, MEMBER_NUMBER_MAX)
        return MemberState(
            id=join.id,
            address=join.address,
            joined_timestamp=join.joined_timestamp,
            incarnation=incarnation,
            instance_id=join.instance_id,
        )

    def _leave(self, leave: Leave, now: Now) -> Done:
        mine = self._roster.myself.last_said
        if leave.id == mine.id:
            self._roster.myself.hear(msgspec.structs.replace(mine, status=Status.LEFT))
        else:
            self._roster.left(leave.id, leave.incarnation, now)
        return Done()

    def _refuse_own_id(self, speaker: MemberState | None, now: Now) -> None:
        """Raises Conflict when somebody speaks under this node's id. A former life's last message is not a clone."""
        mine = self._roster.myself.last_said
        if speaker is None or speaker.id != mine.id:
            return
        if same_process(speaker, mine) and speaker.incarnation <= mine.incarnation:
            raise Conflict("this is the node itself", code="this_node")
        detail = f"another living node has the id {mine.id} at {speaker.address}"
        if not self._hearing.is_introduced and _began(speaker) < _began(mine):
            self._hearing.self_checks.alarm(detail, now, is_refused=True)
            raise Conflict(f"this node was started later with the same id {mine.id}, and stops", code="clone_stops")
        self._hearing.self_checks.alarm(detail, now, is_refused=False)
        raise Conflict(f"this node has the id {mine.id} itself, and lives", code="node_id_taken")


def _began(state: MemberState) -> tuple[int, str]:
    """Sorts clones by who was there first: a node's first incarnation is the time of its start."""
    return state.incarnation, state.address


def _check_sender(spoken_for: str, sender: Sender) -> None:
    if spoken_for != sender.node_id:
        raise BadRequest(f"{sender.node_id} speaks for {spoken_for}", code="wrong_sender")
