"""What follows from the end of each call, by what the call was for.

A refusal `wrong_node` shows that another node has the address: the one that was meant is not there. Refusals that only
the one that was meant can give show that it lives. Every other refusal (another cluster's, a proxy's) says nothing of
it, and counts as silence. A silence that fell into a stall of this node says nothing at all; that nobody listens at a
port (`refused`) is true nevertheless.
"""

from typing import NamedTuple

from kvs.cluster.address import host_of, is_loopback
from kvs.cluster.detector import Detector, Probe, Verdict
from kvs.cluster.hearing import Hearing
from kvs.cluster.messages import MemberList, MemberState, PingAck, PingReqAck, Refused, Response, Status
from kvs.cluster.outbox import (
    Checking,
    Contesting,
    Exchanging,
    Helping,
    Joining,
    Nudging,
    Outbox,
    Parting,
    Probing,
    Relaying,
    SelfChecking,
    Sent,
)
from kvs.cluster.roster import Roster
from kvs.cluster.time_of import Now
from kvs.cluster.voice import Voice
from kvs.errors import KvsError, Unavailable

_SIGNS_OF_LIFE = ("node_id_taken", "invalid_address", "member_limit")


class _End(NamedTuple):
    """How a call ended. `is_absent`: whoever was meant is certainly not there. `is_judged`: silence means something."""

    message: Response | Refused | None
    is_absent: bool
    is_judged: bool


class Replies:
    """Carries on where calls ended."""

    def __init__(self, roster: Roster, voice: Voice, hearing: Hearing, detector: Detector, out: Outbox) -> None:
        self._roster = roster
        self._voice = voice
        self._hearing = hearing
        self._detector = detector
        self._out = out
        self.own_addresses = {roster.myself.last_said.address}
        """Where this node reaches itself: its address, and seeds that turned out to be it."""
        self._refusals: dict[str, str] = {}
        """The last refusal's code of each seed."""

    def responded(self, call_id: int, message: Response | Refused, now: Now) -> None:
        sent = self._out.ended(call_id)
        if sent is None:
            return
        if isinstance(message, Refused) and message.code in ("node_id_taken", "clone_stops"):
            is_refused = message.code == "node_id_taken"
            detail = f"{sent.address} {'refuses this node' if is_refused else 'is a clone of it'}: {message.detail}"
            self._hearing.self_checks.alarm(detail, now, is_refused=is_refused)
        is_absent = isinstance(message, Refused) and message.code == "wrong_node"
        self._ended(sent, _End(message, is_absent, True), now)

    def failed(self, call_id: int, now: Now, *, refused: bool) -> None:
        sent = self._out.ended(call_id)
        if sent is not None:
            self._ended(sent, _End(None, refused, refused or sent.stalls == self._out.stalls), now)

    def _ended(self, sent: Sent, end: _End, now: Now) -> None:
        match sent.purpose:
            case Probing(probe):
                if self._is_ack(end, probe.target, sent.address, now):
                    self._detector.health.better()
                else:
                    self._silent(probe, end, now)
            case Helping(probe, helper):
                self._helped(probe, helper, end, sent.address, now)
            case Relaying():
                self._relayed(sent.purpose, end, sent.address, now)
            case Checking(state):
                answered = self._is_ack(end, state.id, sent.address, now)
                answered |= not end.is_judged
                self._hearing.checks.ended(state, now, answered=answered, is_certain=end.is_absent)
            case Contesting(node_id):
                self._contested(node_id, end, now)
            case SelfChecking(claim):
                by = end.message.sender if isinstance(end.message, PingAck) else None
                by = by if by is not None and by.id == claim.id else None
                self._hearing.self_checks.ended(claim, by, now, is_judged=end.is_judged)
            case Nudging(node_id):
                self._is_ack(end, node_id, sent.address, now)
            case Exchanging(node_id):
                self._listed(end, node_id, sent.address, now)
            case Joining(address):
                self._joined(end, address)
                self._listed(end, None, sent.address, now)
            case Parting():
                pass

    def _is_ack(self, end: _End, node_id: str, address: str, now: Now) -> bool:
        """Whether the node that was meant answered; what it said is heard."""
        if not isinstance(end.message, PingAck) or end.message.sender.id != node_id:
            return False
        self._hearing.answered(end.message, address, now)
        return True

    # --- probes ---

    def _silent(self, probe: Probe, end: _End, now: Now) -> None:
        if self._lives(probe) or (isinstance(end.message, Refused) and end.message.code in _SIGNS_OF_LIFE):
            return
        if end.is_absent:
            self._roster.accuse(probe.target, now)
        elif end.is_judged:
            helpers = [
                entry.state.id
                for entry in self._roster.table.up()
                if entry.state.status is Status.ALIVE and entry.state.id != probe.target
            ]
            if self._detector.silent(probe, helpers) is Verdict.SUSPECT:
                self._roster.accuse(probe.target, now)
            for helper in probe.helpers:
                entry = self._roster.table.get(helper)
                if entry is not None:
                    self._voice.ping_req(Helping(probe, helper), entry.state, probe.target, now)

    def _helped(self, probe: Probe, helper: str, end: _End, address: str, now: Now) -> None:
        if not end.is_judged:
            probe.drop()
        reached = False
        if isinstance(end.message, PingReqAck) and end.message.sender.id == helper:
            reached = end.message.reached
            self._hearing.answered(end.message, address, now)
        verdict = self._detector.helped(probe, answered=end.message is not None, reached=reached)
        if verdict is Verdict.SUSPECT and not self._lives(probe):
            self._roster.accuse(probe.target, now)

    def _lives(self, probe: Probe) -> bool:
        """Whether the target was heard itself since the probe began, or is not to be judged any more."""
        entry = self._roster.table.get(probe.target)
        if entry is None or not entry.is_up:
            return True
        return entry.heard_ms is not None and entry.heard_ms >= probe.began_ms

    def _relayed(self, relay: Relaying, end: _End, address: str, now: Now) -> None:
        self._out.relays -= 1
        ticket, asker, target = relay
        if self._is_ack(end, target, address, now):
            self._out.answer(ticket, self._voice.ping_req_ack(asker, now, reached=True))
        elif end.is_judged:
            self._out.answer(ticket, self._voice.ping_req_ack(asker, now, reached=False))
        else:
            self._out.answer(ticket, Unavailable("this node stalled and cannot tell", code="stalled"))

    # --- everything else ---

    def _contested(self, node_id: str, end: _End, now: Now) -> None:
        contests = self._hearing.contests
        if isinstance(end.message, PingAck):
            holder: MemberState | None = end.message.sender
            contests.answered(node_id, holder if holder is not None and holder.id == node_id else None, now)
        elif not end.is_judged:
            contests.again(node_id, now)
        else:
            contests.silent(node_id, now, is_certain=end.is_absent)

    def _joined(self, end: _End, seed: str) -> None:
        """A seed that refuses this node does so every time: it is reported once."""
        code = end.message.code if isinstance(end.message, Refused) else ""
        if code == "this_node":
            self.own_addresses.add(seed)
        elif code and isinstance(end.message, Refused) and self._refusals.get(seed) != code:
            self._out.report("A seed refuses this node", warning=True, seed=seed, code=code, detail=end.message.detail)
        self._refusals[seed] = code

    def _listed(self, end: _End, teller: str | None, address: str, now: Now) -> None:
        if not isinstance(end.message, MemberList):
            return
        from_afar = not is_loopback(host_of(address))
        try:
            self._hearing.members(end.message.members, teller, now, from_afar=from_afar)
        except KvsError as error:
            self._out.report("A member list was dropped", member=teller, error=error.detail)
