"""Who is asked when, and what silence means: SWIM's probes with Lifeguard's care for one's own health.

One probe, every `probe_interval_ms` times the health multiplier, of the next peer in a shuffled round (so that every
peer is probed within twice the length of a round, whatever chance does):

    asked      ping sent          answered                                     -> lives
                                  refused the connection, is another node      -> suspect, at once
                                  silent, others are there                     -> helpers
                                  silent, nobody else is there                 -> suspect
    helpers    up to 3 others     one of them reached it                       -> lives
               were asked         none of them did, or none answers            -> suspect

In any state: the peer was heard itself since the probe began -> lives; this node stalled meanwhile -> no judgement, as
the answer may lie unread. "Suspect" is an accusation; what becomes of it is for kvs.cluster.suspicion.

The health multiplier, 1 to 8, stretches this node's intervals and timeouts, so that a node that is unwell itself
accuses less (Dadgar et al. 2017, "Lifeguard", section IV-A):

    a probe was answered                                 -1
    a silent peer was reached by a helper                +1, the answer was lost on the way here or came too late
    a helper is silent too                               +1 for each
    a silent peer, and no helper to compare with         +1
    this node was suspected and refutes                  +1
    the event loop came late                             +1 for each probe timeout that it was late, at least 1
"""

from collections.abc import Sequence
from enum import Enum

from kvs.cluster.chance import Chance, some
from kvs.limits import HEALTH_MAX, INDIRECT_PROBES, LAG_MIN_MS


class Health:
    """How much this node trusts itself: 1 is well, HEALTH_MAX is worst."""

    def __init__(self) -> None:
        self.multiplier = 1

    def worse(self, by: int = 1) -> None:
        self.multiplier = min(HEALTH_MAX, self.multiplier + by)

    def better(self) -> None:
        self.multiplier = max(1, self.multiplier - 1)


class Verdict(Enum):
    """What a probe came to."""

    LIVES = "lives"
    SUSPECT = "suspect"
    WAIT = "wait"


class Probe:
    """One peer being probed. `began_ms` is of `Now.mono_ms`."""

    def __init__(self, target: str, began_ms: int) -> None:
        self.target = target
        self.began_ms = began_ms
        self.helpers: list[str] = []
        self._pending = 0
        self._silent = 0
        self._is_over = False

    def ask(self, helpers: Sequence[str]) -> None:
        self.helpers = list(helpers)
        self._pending = len(helpers)

    def helped(self, *, answered: bool, reached: bool) -> Verdict:
        """What a helper's answer or silence comes to. Anything but WAIT is said once."""
        self._pending -= 1
        self._silent += not answered
        if self._is_over:
            return Verdict.WAIT
        if reached or self._pending == 0:
            self._is_over = True
            return Verdict.LIVES if reached else Verdict.SUSPECT
        return Verdict.WAIT

    def drop(self) -> None:
        """No judgement will come of it."""
        self._is_over = True

    @property
    def silent_helpers(self) -> int:
        return self._silent


class Detector:
    """Plans the probes and weighs what comes of them."""

    def __init__(self, interval_ms: int, timeout_ms: int, chance: Chance) -> None:
        self.health = Health()
        self._interval_ms = interval_ms
        self._timeout_ms = timeout_ms
        self._chance = chance
        self._round: list[str] = []
        self._known: set[str] = set()
        self.next_ms = 0
        self._seen_until_ms = 0

    def start(self, now_ms: int) -> None:
        """Nodes that start together should not probe together."""
        self.next_ms = now_ms + int(self._interval_ms * self._chance.random())

    # --- how long ---

    @property
    def timeout_ms(self) -> int:
        """For a ping."""
        return self._timeout_ms * self.health.multiplier

    @property
    def helper_timeout_ms(self) -> int:
        """For what is left of the interval, and never less than for a ping."""
        return max(self._interval_ms - self._timeout_ms, self._timeout_ms) * self.health.multiplier

    @property
    def lag_min_ms(self) -> int:
        return max(LAG_MIN_MS, self._timeout_ms // 4)

    # --- whom ---

    def next_target(self, peers: Sequence[str], now_ms: int) -> str | None:
        """The peer whose turn it is, of those that are not down; None when there is none."""
        self.next_ms = now_ms + self._interval_ms * self.health.multiplier
        present = set(peers)
        for newcomer in [peer for peer in peers if peer not in self._known]:
            # Somewhere in what is left of the round: all of a cluster hear of a newcomer at about the same time, and
            # should not all probe it next.
            self._round.insert(self._chance.randint(0, len(self._round)), newcomer)
        self._known = present
        for _ in range(2):
            while self._round:
                target = self._round.pop()
                if target in present:
                    return target
            self._round = list(peers)
            self._chance.shuffle(self._round)
        return None

    # --- what it means ---

    def silent(self, probe: Probe, others: Sequence[str]) -> Verdict:
        """The peer did not answer in time. WAIT: `probe.helpers`, chosen of `others`, are to be asked."""
        probe.ask(some(self._chance, others, INDIRECT_PROBES))
        if probe.helpers:
            return Verdict.WAIT
        self.health.worse()
        return Verdict.SUSPECT

    def helped(self, probe: Probe, *, answered: bool, reached: bool) -> Verdict:
        verdict = probe.helped(answered=answered, reached=reached)
        if verdict is Verdict.LIVES:
            self.health.worse()
        elif verdict is Verdict.SUSPECT:
            self.health.worse(probe.silent_helpers)
        return verdict

    def lag(self, from_ms: int, now_ms: int) -> int:
        """How long this node saw nothing, of the time that it was not told of before; 0 when that is not worth a
        judgement. `from_ms` is when it should have woken."""
        lag_ms = now_ms - max(from_ms, self._seen_until_ms)
        if lag_ms < self.lag_min_ms:
            return 0
        self._seen_until_ms = now_ms
        self.health.worse(max(1, lag_ms // self._timeout_ms))
        return lag_ms
