"""Keeps this node's data and its peers' the same: filling, pushes, comparisons, the floor, and how they play together.

    effects = replica.handle(event, here, now)     what to send, what to write, what to tell

    filling       a node that was never filled copies what its peers have (kvs.cluster.bootstrap); no comparisons: it
                  would be sent everything twice, and what it lacks so far says nothing
    rejoining     a node that was away for too long compares first, and sets aside what may have been deleted meanwhile
                  a node that was restored waits for a peer that is settled, and compares with that one first: it does
                  not know what was deleted and revoked since the backup, and whoever was restored too knows no more
    settled       pushes what is written, compares by and by (kvs.cluster.comparisons)

Whoever begins a comparison, it is with a peer that is settled.

The shell carries out the effects, in order, and hands in what comes of them. Answers to peers' questions are made by
`kvs.cluster.diff` and `kvs.cluster.ingest`; they need no state.
"""

from collections import deque
from collections.abc import Sequence

from kvs.cluster.bootstrap import AskRecent, Bootstrap, BootstrapEffect, Filled, Nonsense, TakeRecent
from kvs.cluster.chance import Chance
from kvs.cluster.comparisons import Comparisons, Pace
from kvs.cluster.copies import Reached
from kvs.cluster.events import Merge, Outcome, Report
from kvs.cluster.exchange import RecentAnswer, ReplicateAnswer
from kvs.cluster.floor import Floor
from kvs.cluster.push import Behind, Push, PushEffect, Send
from kvs.cluster.replica_events import (
    Answered,
    Awaited,
    DigestSeen,
    Effect,
    Event,
    Failed,
    Known,
    PeerCall,
    PeerDown,
    PeerUp,
    Refused,
    SaveFloor,
    SetAside,
    Submit,
    Submitted,
    Tick,
    Written,
)
from kvs.cluster.sync import Answer, Ask, Done, Here, Session, Step, Take
from kvs.cluster.sync_totals import Compared, SyncTotals
from kvs.cluster.time_of import Now
from kvs.errors import BadMessage, StoreError
from kvs.storage.keyspace import SYSTEM


class Replica:
    """The state behind filling, pushes, comparisons and the floor."""

    def __init__(
        self,
        pace: Pace,
        push: Push,
        bootstrap: Bootstrap,
        floor: Floor,
        chance: Chance,
        now: Now,
        *,
        push_enabled: bool,
        patience_ms: int = 0,
    ) -> None:
        """`patience_ms` is how long a restored node waits for a peer that is settled."""
        self._pace = pace
        self._pushes = push
        self._push_enabled = push_enabled
        self._bootstrap = bootstrap
        self._floor = floor
        floor.begin(now.unix_ms)
        self._comparisons = Comparisons(pace, chance, now.mono_ms)
        self._pushed: dict[int, str] = {}
        self._asked_to_fill = 0
        self._filling_with: deque[int] = deque()
        self._session: Session | None = None
        self._compared: dict[str, Compared] = {}
        self.totals = SyncTotals()
        self._unfinished: dict[str, Session] = {}
        """By peer, comparisons that left a rest."""
        self._peer = ""
        self._call = 0
        self._waits_for = 0
        self._taking: list[Merge] = []
        self._setting_aside = 0
        """The ticket of the records that are being set aside. Until that has ended the comparison that found them is
        not over: another one would find them again."""
        self._forgotten_ms = 0
        self._silent: set[str] = set()
        self._has_met_anybody = False
        self._settled: set[str] = set()
        self._gives_up_ms = now.mono_ms + patience_ms
        self._gave_up = False

    @property
    def is_unproven(self) -> bool:
        """Whether this node was restored, and has not compared itself since with a peer that knows more."""
        return self._floor.is_unproven and not self._gave_up

    @property
    def may_share(self) -> bool:
        """Whether peers may see what this node holds: not while it may hold what was deleted and forgotten. A node
        that was beside others before must hear a floor first."""
        if self._forgotten_ms or self.is_unproven:
            return False
        return self._has_met_anybody or not self._floor.has_past

    @property
    def mode(self) -> str:
        """`filling`, `rejoining` or `settled`."""
        if not self._bootstrap.is_over:
            return "filling"
        return "rejoining" if self._forgotten_ms or self.is_unproven else "settled"

    @property
    def has_source(self) -> bool:
        """Whether anybody who was filled has answered this node, since it is to be filled itself."""
        return self._bootstrap.has_source

    @property
    def comparing_with(self) -> str | None:
        """The peer of the comparison under way."""
        return None if self._session is None else self._peer

    def last_comparison(self, peer: str) -> Compared | None:
        """The last one with this peer that ended since the start."""
        return self._compared.get(peer)

    def is_equal(self, peer: str) -> bool | None:
        """Whether the last ping showed equal roots; None while there was none since the peer is up."""
        return self._comparisons.is_equal(peer)

    @property
    def wake_at_ms(self) -> int | None:
        """When the next Tick is due, by `Now.mono_ms`; None while only other events can change anything."""
        if not self._bootstrap.is_over:
            return self._bootstrap.wake_at_ms
        gives_up_ms = self._gives_up_ms if self.is_unproven and not self._settled else None
        wakes_ms = [self._comparisons.wake_at_ms(), gives_up_ms]
        return min((wake_ms for wake_ms in wakes_ms if wake_ms is not None), default=None)

    def handle(self, event: Event, here: Here, now: Now) -> list[Effect]:
        effects = self._handle(event, here, now)
        if self._session is None and self._bootstrap.is_over:
            peer = self._comparisons.next(now.mono_ms)
            if peer is not None and peer not in self._settled:
                self._comparisons.failed(now.mono_ms)  # it begins itself as soon as that is of use
            elif peer is not None:
                effects += self._begin(peer, here, now)
        return effects

    def _handle(self, event: Event, here: Here, now: Now) -> list[Effect]:
        match event:
            case Written(changes):
                pushed = [change for change in changes if self._is_pushed(change.entry)]
                return self._push_effects(self._pushes.committed(pushed), now)
            case Awaited(ticket, entry, record, peers):
                watched = self._pushes.watch(ticket, entry, record, peers, send=self._is_pushed(entry))
                return self._push_effects(watched, now)
            case Answered(call, answer):
                return self._answered(call, answer, here, now)
            case Failed(call, reason):
                return self._failed(call, reason, now)
            case Submitted(ticket, outcomes):
                return self._submitted(ticket, outcomes, here, now)
            case DigestSeen():
                return self._seen(event, here, now)
            case PeerUp(peer, instance):
                self._floor.member(peer, instance)
                # What it holds, and what it has forgotten, is known from its first digest on. Until then writes gather.
                self._silent.add(peer)
                self._pushes.add(peer)
                noted: list[Effect] = [SaveFloor()] if self._floor.is_back(peer) else []
                return noted + self._bootstrap_effects(self._bootstrap.up(peer, now.unix_ms))
            case PeerDown(peer):
                self._floor.is_lost(peer, now.unix_ms)
                self._settled.discard(peer)
                self._silent.discard(peer)
                self._pushes.remove(peer)
                # An answer that still comes is not one to what is pushed to it later.
                self._pushed = {call: to for call, to in self._pushed.items() if to != peer}
                self._comparisons.down(peer)
                self._unfinished.pop(peer, None)
                self._bootstrap.down(peer, now.mono_ms)
                if self._session is not None and self._peer == peer:
                    return self._give_up(self._waits_for, "the peer is not up any more", now)
            case Known(peers, instances):
                self._floor.members(peers, instances)
                self._compared = {peer: self._compared[peer] for peer in peers if peer in self._compared}
            case Tick():
                saving: list[Effect] = [SaveFloor()] if self._floor.raise_(now.unix_ms) else []
                return saving + self._lose_patience(now) + self._bootstrap_effects(self._bootstrap.tick(now.mono_ms))
        return []

    def _lose_patience(self, now: Now) -> list[Effect]:
        """A restored node that finds nobody who knows more goes on."""
        if self._settled or not self.is_unproven or now.mono_ms < self._gives_up_ms:
            return []
        self._gave_up = True
        return [Report("No peer knows more: this node goes on with what it was restored from", {})]

    def _seen(self, seen: DigestSeen, here: Here, now: Now) -> list[Effect]:
        mine = here.tree.root.fingerprint.hex()
        effects: list[Effect] = []
        effects += self._push_effects(self._pushes.heard(seen.peer), now)
        if seen.peer in self._silent:
            self._silent.discard(seen.peer)
            self._comparisons.up(seen.peer, now.mono_ms)
        self._note_settled(seen, now)
        if self._floor.is_outdated(seen.floor_ms, now.unix_ms):
            return effects + self._rejoin(seen.floor_ms, now)
        self._has_met_anybody = True
        self._floor.heard(seen.peer, seen.proven_ms, seen.floor_ms, now.unix_ms)
        self._comparisons.roots(seen.peer, mine, seen.root, now.mono_ms)
        if mine == seen.root:
            effects += self._push_effects(self._pushes.equal(seen.peer, self._pushes.mark), now)
        if mine == seen.root and (seen.is_settled or not self.is_unproven):
            self._unfinished.pop(seen.peer, None)
            self._floor.equal(seen.peer, now.unix_ms)
        return effects

    def _is_pushed(self, entry: bytes) -> bool:
        """KVS's own records always are: a token that is revoked must not be good elsewhere until a comparison."""
        return self._push_enabled or entry.startswith(SYSTEM)

    def _note_settled(self, seen: DigestSeen, now: Now) -> None:
        if not seen.is_settled:
            self._settled.discard(seen.peer)
        elif seen.peer not in self._settled:
            self._settled.add(seen.peer)
            self._comparisons.ready(seen.peer, now.mono_ms)

    def _rejoin(self, floor_ms: int, now: Now) -> list[Effect]:
        """This node was away for too long. A comparison under way does not know that: it begins anew."""
        if floor_ms <= self._forgotten_ms:
            return []
        self._forgotten_ms = floor_ms
        self._unfinished.clear()
        if self._session is not None:
            self.totals.failed += 1
            self.totals.ended(self._session)
            self._session = None
            self._comparisons.failed(now.mono_ms)
        return [Report("This node was away for too long: it compares first", {"floor_ms": floor_ms})]

    def _begin(self, peer: str, here: Here, now: Now) -> list[Effect]:
        before = self._unfinished.pop(peer, None)
        self._peer = peer
        self._session = Session(peer, now.unix_ms, self._forgotten_ms, before, self._pushes.mark)
        self._call += 1
        self._waits_for = self._call
        try:
            return self._step(self._session.start(here), now)
        except StoreError as error:
            return self._give_up(self._waits_for, str(error), now)

    # --- answers ---

    def _answered(self, call: int, answer: Answer | RecentAnswer, here: Here, now: Now) -> list[Effect]:
        peer = self._pushed.pop(call, None)
        if peer is not None:
            assert isinstance(answer, ReplicateAnswer)
            return self._push_effects(self._pushes.sent(peer, answer), now)
        try:
            if isinstance(answer, RecentAnswer):
                return self._filled(answer, now) if call == self._asked_to_fill else []
            if self._session is not None and call == self._waits_for:
                step = self._session.answered(answer, here)
                brought = self._session.brought if isinstance(answer, ReplicateAnswer) else []
                return self._push_effects(self._pushes.compared(self._peer, brought), now) + self._step(step, now)
        except (BadMessage, StoreError) as error:
            return self._give_up(call, str(error), now)
        return []

    def _filled(self, answer: RecentAnswer, now: Now) -> list[Effect]:
        if answer.filling:
            return self._bootstrap_effects(self._bootstrap.met_another(answer, now.mono_ms))
        return self._bootstrap_effects(self._bootstrap.answered(answer))

    def _failed(self, call: int, reason: str, now: Now) -> list[Effect]:
        peer = self._pushed.pop(call, None)
        if peer is not None:
            return self._push_effects(self._pushes.failed(peer), now)
        return self._give_up(call, reason, now)

    def _give_up(self, call: int, reason: str, now: Now) -> list[Effect]:
        if call in self._filling_with:
            self._filling_with.clear()
            self._asked_to_fill = 0
            return self._bootstrap_effects(self._bootstrap.not_taken())
        if call == self._asked_to_fill:
            report = Report("A peer could not be copied from", {"reason": reason})
            return [report, *self._bootstrap_effects(self._bootstrap.failed(now.mono_ms))]
        if call == self._setting_aside:
            return self._set_aside(now, failed=True)
        if self._session is None or call != self._waits_for:
            return []
        self.totals.failed += 1
        self._note(self._session, failure=reason)
        self._session = None
        self._comparisons.failed(now.mono_ms)
        return [Report("A comparison with a peer failed", {"peer": self._peer, "reason": reason})]

    def _submitted(self, ticket: int, outcomes: Sequence[Outcome], here: Here, now: Now) -> list[Effect]:
        if self._filling_with and ticket == self._filling_with[0]:
            self._filling_with.popleft()
            return self._bootstrap_effects(self._bootstrap.taken())
        if ticket == self._setting_aside:
            return self._set_aside(now, failed=False)
        if self._session is None or ticket != self._waits_for:
            return []
        try:
            return self._step(self._session.taken(self._taking, outcomes, here), now)
        except StoreError as error:
            return self._give_up(ticket, str(error), now)

    def _set_aside(self, now: Now, *, failed: bool) -> list[Effect]:
        self._setting_aside = 0
        self._end_comparison(now, failed=failed, behind=True)
        return []

    def _end_comparison(self, now: Now, *, failed: bool, behind: bool) -> None:
        if failed:
            self._comparisons.failed(now.mono_ms)
        else:
            self._comparisons.done(now.mono_ms, behind=behind)

    # --- steps ---

    def _step(self, step: Step, now: Now) -> list[Effect]:
        assert self._session is not None
        self._call += 1
        self._waits_for = self._call
        match step:
            case Ask(request):
                delay_ms = self._pace.throttle_delay_ms if self._session.questions > 1 else 0
                return [PeerCall(self._call, self._peer, request, delay_ms=delay_ms)]
            case Take(commands):
                self._taking = commands
                return [Submit(self._call, commands)]
            case Done(behind):
                return self._done(self._session, now, behind=behind)

    def _done(self, session: Session, now: Now, *, behind: bool) -> list[Effect]:
        # What was set aside is still in the store: only a comparison that finds nothing of it ends the absence.
        behind = behind or bool(session.set_aside)
        self.totals.behind += behind
        self.totals.done += not behind
        self._note(session, behind=behind)
        self._session = None
        effects: list[Effect] = []
        if session.refused:
            effects.append(Refused(self._peer, session.refused, session.refusal))
        if session.untaken:
            fields = {"peer": self._peer, "records": session.untaken, "reason": session.failure}
            effects.append(Report("A comparison left records that were not taken", fields))
        if not session.set_aside:
            self._end_comparison(now, failed=session.refused + session.untaken > 0, behind=behind)
        if session.fetched or session.sent or session.set_aside:
            fields = {
                "peer": self._peer,
                "compared": session.compared,
                "fetched": session.fetched,
                "sent": session.sent,
                "set_aside": len(session.set_aside),
                "questions": session.questions,
            }
            effects.append(Report("Compared with a peer", fields, level="info"))
        if session.rest and not session.set_aside:
            self._unfinished[self._peer] = session
        if session.set_aside:
            self._unfinished.clear()
            self._floor.doubt()
            self._call += 1
            self._setting_aside = self._call
            effects.append(SetAside(self._call, session.set_aside, session.forgotten_ms))
        if not behind:
            self._forgotten_ms = 0
            proven_ms = session.began_ms if session.withheld_ms is None else min(session.began_ms, session.withheld_ms)
            if session.lacks_any:
                self._floor.compared(proven_ms)
            else:
                self._floor.equal(self._peer, proven_ms)
                held = self._pushes.equal(self._peer, session.mark, session.withheld)
                effects += self._push_effects(held, now)
            if self._floor.raise_(now.unix_ms):
                effects.append(SaveFloor())
        return effects

    def _note(self, session: Session, *, behind: bool = False, failure: str = "") -> None:
        self.totals.ended(session)
        moved = session.fetched, session.sent, len(session.set_aside), session.refused, session.questions
        self._compared[self._peer] = Compared(session.began_ms, *moved, behind, failure)

    def _bootstrap_effects(self, effects: list[BootstrapEffect]) -> list[Effect]:
        found: list[Effect] = []
        for effect in effects:
            self._call += 1
            match effect:
                case AskRecent(peer, request, delay_ms):
                    self._asked_to_fill = self._call
                    found.append(PeerCall(self._call, peer, request, delay_ms=delay_ms))
                case TakeRecent(commands):
                    self._filling_with.append(self._call)
                    found += [SaveFloor()] if self._floor.filled(self._bootstrap.begun_ms) else []
                    found.append(Submit(self._call, commands))
                case Nonsense(peer, refused, reason):
                    found.append(Refused(peer, refused, reason))
                case Filled():
                    found.append(effect)
        return found

    def _push_effects(self, effects: list[PushEffect], now: Now) -> list[Effect]:
        found: list[Effect] = []
        for effect in effects:
            match effect:
                case Send(peer, request):
                    self._call += 1
                    self._pushed[self._call] = peer
                    found.append(PeerCall(self._call, peer, request, push=True))
                case Behind(peer):
                    self._comparisons.behind(peer, now.mono_ms)
                case Reached():
                    found.append(effect)
        return found
