"""How long a silent member may defend itself.

Lifeguard's suspicion timer (Dadgar et al. 2017, section IV-B; hashicorp/memberlist suspicion.go). Who accuses alone may
be the one that is unwell, so one accuser waits long, and each further one shortens the wait on a logarithmic curve:

    wait(c) = max - (max - min) * ln(c + 1) / ln(k + 1)      c confirmations beside the first accuser, c <= k

    max     `suspicion_timeout`, in clusters of more than ten nodes times log10 n, because news take longer there
    min     two fifths of max, at least one probe interval
    k       2; 0 with fewer than 4 nodes, where nobody is left to confirm: there the wait is min from the start

With the defaults and 3 nodes that is 4 s. A suspect that was heard itself since is given min anew from then: it lives,
and hears what it is suspected of in the answer to what it said.
"""

import math
from typing import NamedTuple

CONFIRMATIONS = 2
_SMALL_CLUSTER = 4


class Waits(NamedTuple):
    """The curve for one cluster size, in ms."""

    min_ms: int
    max_ms: int
    confirmations: int


def waits(members: int, timeout_ms: int, interval_ms: int) -> Waits:
    """The curve among `members` nodes that are not down, this one included."""
    scaled_ms = timeout_ms * max(1.0, math.log10(max(members, 1)))
    min_ms = max(int(scaled_ms * 2 / 5), interval_ms)
    return Waits(min_ms, max(int(scaled_ms), min_ms), CONFIRMATIONS if members >= _SMALL_CLUSTER else 0)


def wait_ms(curve: Waits, confirmations: int) -> int:
    """From the first accusation to death."""
    if confirmations >= curve.confirmations:
        return curve.min_ms
    share = math.log(confirmations + 1) / math.log(curve.confirmations + 1)
    return int(curve.max_ms - share * (curve.max_ms - curve.min_ms))


class Suspicion:
    """One suspected member. Times of `Now.mono_ms`."""

    def __init__(self, curve: Waits, accuser: str, now_ms: int) -> None:
        """`accuser` is "" where it is not known who accused first."""
        self.since_ms = now_ms
        self._curve = curve
        self._accusers = {accuser} - {""}
        self._not_before_ms = 0
        self._shift_ms = 0

    @property
    def ends_ms(self) -> int:
        """When the member counts as dead."""
        confirmations = max(0, len(self._accusers) - 1)
        return max(self.since_ms + wait_ms(self._curve, confirmations) + self._shift_ms, self._not_before_ms)

    def confirm(self, accuser: str) -> bool:
        """Whether this is one more accuser, and one more matters."""
        if not accuser or accuser in self._accusers or len(self._accusers) > self._curve.confirmations:
            return False
        self._accusers.add(accuser)
        return True

    def heard(self, at_ms: int) -> None:
        """The member said something."""
        self._not_before_ms = max(self._not_before_ms, at_ms + self._curve.min_ms)

    def stalled(self, lag_ms: int, not_before_ms: int) -> None:
        """This node saw nothing for `lag_ms`: that time does not count, and what came meanwhile is heard first."""
        self._shift_ms += lag_ms
        self._not_before_ms = max(self._not_before_ms, not_before_ms)


class Suspicions:
    """All suspected members, and their timers."""

    def __init__(self, timeout_ms: int, interval_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._interval_ms = interval_ms
        self._by_id: dict[str, Suspicion] = {}

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._by_id

    def start(self, node_id: str, accuser: str, members: int, now_ms: int) -> None:
        curve = waits(members, self._timeout_ms, self._interval_ms)
        self._by_id[node_id] = Suspicion(curve, accuser, now_ms)

    def confirm(self, node_id: str, accuser: str) -> bool:
        """Whether the wait became shorter."""
        suspicion = self._by_id.get(node_id)
        return suspicion is not None and suspicion.confirm(accuser)

    def heard(self, node_id: str, now_ms: int) -> None:
        suspicion = self._by_id.get(node_id)
        if suspicion is not None:
            suspicion.heard(now_ms)

    def clear(self, node_id: str) -> None:
        self._by_id.pop(node_id, None)

    def stalled(self, lag_ms: int, now_ms: int) -> None:
        for suspicion in self._by_id.values():
            suspicion.stalled(lag_ms, now_ms + self._interval_ms)

    def next_ms(self) -> int | None:
        """When the first wait ends."""
        return min((suspicion.ends_ms for suspicion in self._by_id.values()), default=None)

    def ended(self, now_ms: int) -> list[str]:
        return [node_id for node_id, suspicion in self._by_id.items() if suspicion.ends_ms <= now_ms]
