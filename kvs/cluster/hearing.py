"""What this node makes of what it hears: who speaks, what is said of others, what is said of itself.

Whatever is heard of this node itself and makes it refute is answered by a ping at once, so that whoever said it knows
within a round trip. With whoever was down and is back, and with the first peer that answers after a start, the whole
list is exchanged: rumours from before are told no more.
"""

from collections.abc import Iterable

from kvs.cluster.address import host_of, is_loopback
from kvs.cluster.checks import Checks, Contests, SelfChecks
from kvs.cluster.gossip import Plans, Rumours
from kvs.cluster.membership_events import Heard, Joined
from kvs.cluster.messages import Digest, MemberState, Ping, PingAck, PingReq, PingReqAck, Rumour
from kvs.cluster.myself import Reaction, as_rumour
from kvs.cluster.outbox import Exchanging, Nudging, Outbox
from kvs.cluster.roster import Roster, Word, is_reachable
from kvs.cluster.time_of import Now
from kvs.cluster.voice import Voice
from kvs.errors import KvsError
from kvs.limits import MEMBER_LIST_TIMEOUT_MS, REUNION_PAUSE_MS


class Hearing:
    """Takes in everything that is said, by whatever message."""

    def __init__(self, roster: Roster, rumours: Rumours, voice: Voice, plans: Plans, out: Outbox) -> None:
        self._roster = roster
        self._rumours = rumours
        self._voice = voice
        self._plans = plans
        self._out = out
        self.checks = Checks(roster, voice, out)
        self.contests = Contests(roster, voice, out)
        self.self_checks = SelfChecks(roster.myself, voice, out)
        self.has_joined = False
        self.is_introduced = False
        """Whether those that were asked at the start have answered, or will not."""
        self._reunion_ms: int | None = None

    def peer(self, message: Ping | PingAck | PingReq | PingReqAck, now: Now, *, from_afar: bool) -> None:
        """A peer speaks: of itself, of this node, of others. Raises the KvsError that refuses it. While another node
        may have its id, it is not listened to."""
        speaker = message.sender
        if not self._is_heard(speaker, now, from_afar=from_afar):
            return
        digest: Digest | None = None
        if isinstance(message, Ping | PingAck):
            digest = message.digest
            if message.rated is not None and message.rated.id == self._roster.myself.id:
                self._of_myself(message.rated, speaker, now, from_afar=from_afar)
        entry = self._roster.table.get(speaker.id)
        if entry is not None and entry.is_up:
            # Of no other it would be heard when it is gone: its clock would count for ever.
            self._out.add(Heard(speaker.id, speaker.last_seen, digest))
        for rumour in message.rumours:
            self._rumour(rumour, speaker, now, from_afar=from_afar)

    def answered(self, message: PingAck | PingReqAck, address: str, now: Now) -> None:
        """As `peer`, for what came back from a call to `address`. What cannot be believed is dropped."""
        try:
            self.peer(message, now, from_afar=not is_loopback(host_of(address)))
        except KvsError as error:
            self._out.report("What a member said was dropped", member=message.sender.id, error=error.detail)

    def members(self, states: Iterable[MemberState], teller: str | None, now: Now, *, from_afar: bool) -> None:
        """A whole list. `teller` is whose it is, if that is known. Raises the KvsError that refuses the teller."""
        told = list(states)
        speaker = next((state for state in told if state.id == teller), None)
        if speaker is not None and not self._is_heard(speaker, now, from_afar=from_afar):
            return
        for state in told:
            if state.id != teller:
                self._rumour(as_rumour(state), speaker, now, from_afar=from_afar, in_list=True)

    def speaker(self, state: MemberState, now: Now, *, from_afar: bool) -> Word:
        """A peer's own word about itself. Raises the KvsError that refuses it."""
        if state.id == self._roster.myself.id:
            return Word.STRANGE
        entry = self._roster.table.get(state.id)
        was_down = entry is not None and not entry.is_up and not entry.is_unconfirmed
        word = self._roster.own_word(state, now, from_afar=from_afar)
        if word is Word.CONTESTED:
            self.contests.refuse_known_clone(state, now)
            self.contests.open(state, now)
        entry = self._roster.table.get(state.id)
        if entry is not None and entry.is_up and word is Word.TAKEN:
            if not self.has_joined:
                self.has_joined = True
                self._plans.joined()
                self._out.add(Joined())
                self._exchange(entry.state, now)
            elif was_down:
                self._reunite(entry.state, now)
        return word

    def _is_heard(self, state: MemberState, now: Now, *, from_afar: bool) -> bool:
        return self.speaker(state, now, from_afar=from_afar) not in (Word.CONTESTED, Word.STRANGE)

    # --- what is said of others, and of this node ---

    def _rumour(
        self, rumour: Rumour, speaker: MemberState | None, now: Now, *, from_afar: bool, in_list: bool = False
    ) -> None:
        if rumour.id == self._roster.myself.id:
            self._of_myself(rumour, speaker, now, from_afar=from_afar)
            return
        if self._roster.rumour(rumour, now, from_afar=from_afar, in_list=in_list):
            self.checks.want(rumour, now)
        if speaker is not None:
            self._rumours.is_known_by(rumour, speaker.id)

    def _of_myself(self, claim: MemberState, speaker: MemberState | None, now: Now, *, from_afar: bool) -> None:
        reaction = self._roster.myself.hear(claim)
        if reaction is Reaction.ASK and is_reachable(claim.address, from_afar=from_afar):
            self.self_checks.want(claim, now)
            return
        if reaction is Reaction.ASK:  # nobody can be there
            self._roster.myself.refute(claim)
        if reaction is not Reaction.NOTHING and speaker is not None:
            self._voice.ping(Nudging(speaker.id), speaker.id, speaker.address, now)

    # --- making up for what was missed ---

    def _reunite(self, peer: MemberState, now: Now) -> None:
        """Not with each of many that come back at once: the first list says what the others would."""
        if self._reunion_ms is None or now.mono_ms - self._reunion_ms >= REUNION_PAUSE_MS:
            self._reunion_ms = now.mono_ms
            self._exchange(peer, now)

    def _exchange(self, peer: MemberState, now: Now) -> None:
        self._out.call(Exchanging(peer.id), peer.address, self._voice.member_list(now), MEMBER_LIST_TIMEOUT_MS, now)
