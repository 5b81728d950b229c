"""How news travel: rumours that ride on other messages, and now and then everything at once.

Rumours (SWIM, Das et al. 2002, section 4.1): every ping, its answer and every request for help carries up to 20 of
those told least often, the newest first among these. Each is told 4 * ceil(log10(n + 1)) times by each node that hears
it, so that all hear it with high probability in O(log n) rounds; not to whom it is about, who is told how it is rated
anyway, nor to whoever told it. The newest rumour about a node replaces an older one.

What rumours miss is repaired by plans with a random pause, so that nodes do not fall into step:

    plan       pause                                 what
    exchange   gossip_interval_min..max              the whole list against that of 1 to 3 members
    retry      a minute, more or less a fifth        ping up to 2 of those that are down, and join at up to 3 seeds that
                                                     are not known to be up, in turn: halves that lost each other find
                                                     each other
    join       1 s, doubling up to a minute          join at up to 3 seeds, and ping up to 2 of those that were known
                                                     before the start, while this node has found nobody
"""

from collections.abc import Collection, Sequence
from heapq import nsmallest
from operator import attrgetter
from typing import NamedTuple

from kvs.cluster.chance import Chance, some
from kvs.cluster.members import UP
from kvs.cluster.messages import Rumour
from kvs.limits import (
    EXCHANGE_PEERS_MAX,
    JOIN_PAUSE_MAX_MS,
    JOIN_PAUSE_MIN_MS,
    JOIN_SEEDS_MAX,
    MEMBERS_MAX,
    RETRY_INTERVAL_MS,
    RETRY_PEERS_MAX,
    RUMOURS_PER_MESSAGE_MAX,
)

RETRANSMIT = 4


def times_told(members: int) -> int:
    """How often a node tells each rumour in a cluster of `members`: 4 * ceil(log10(n + 1)), in whole numbers."""
    return RETRANSMIT * len(str(max(members, 1)))


class _Told:
    __slots__ = ("is_up", "knowers", "rumour", "times")

    def __init__(self, rumour: Rumour) -> None:
        self.rumour = rumour
        self.is_up = rumour.status in UP
        """Whether it is of one of the members that are not down."""
        self.times = 0
        self.knowers = {rumour.id}


class Rumours:
    """What is still to be told; at most one rumour a node, so never more than there are nodes."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}
        """By the node that it is about, the newest last."""

    def __len__(self) -> int:
        return len(self._told)

    def add(self, rumour: Rumour) -> None:
        if self._told.pop(rumour.id, None) is None and len(self._told) >= MEMBERS_MAX:
            del self._told[max(self._told.values(), key=_times).rumour.id]  # of those told most often the oldest
        self._told[rumour.id] = _Told(rumour)

    def is_known_by(self, rumour: Rumour, teller: str) -> None:
        """This member said the same."""
        told = self._told.get(rumour.id)
        if told is not None and (told.rumour.incarnation, told.rumour.status) == (rumour.incarnation, rumour.status):
            told.knowers.add(teller)

    def take(self, listener: str, members: int, *, is_heard: bool = True) -> tuple[Rumour, ...]:
        """Those for one message. `is_heard`: whether the telling counts, which it does not when the listener is likely
        to be gone."""
        # Nobody is left to tell these. One kept for whoever comes would be stale by then, and a stale death is worse
        # than none.
        for told in [told for told in self._told.values() if len(told.knowers) + told.is_up >= members]:
            del self._told[told.rumour.id]
        news = [told for told in reversed(self._told.values()) if listener not in told.knowers]
        chosen = nsmallest(RUMOURS_PER_MESSAGE_MAX, news, key=_times)
        if is_heard:
            most = times_told(members)
            for told in chosen:
                told.times += 1
                if told.times >= most:
                    del self._told[told.rumour.id]
        return tuple(told.rumour for told in chosen)


_times = attrgetter("times")


class Pauses(NamedTuple):
    """The settings of the plans, in ms."""

    exchange_min_ms: int
    exchange_max_ms: int


class Plans:
    """When the next of each is due, and with whom. Times of `Now.mono_ms`."""

    def __init__(self, pauses: Pauses, seeds: Sequence[str], chance: Chance) -> None:
        self._pauses = pauses
        self._seeds = tuple(dict.fromkeys(seeds))
        self._chance = chance
        self._turn = 0
        self._join_pause_ms = JOIN_PAUSE_MIN_MS
        self.exchange_ms = self.retry_ms = 0
        self.join_ms: int | None = None
        """None while this node need not join: there is nobody to ask, or somebody was found."""

    def start(self, now_ms: int, *, knows_others: bool) -> None:
        """`knows_others`: from before the start."""
        self.plan_exchange(now_ms)
        self.plan_retry(now_ms)
        self.join_ms = now_ms if self._seeds or knows_others else None

    def next_ms(self) -> int:
        times_ms = (self.exchange_ms, self.retry_ms)
        return min(times_ms) if self.join_ms is None else min(*times_ms, self.join_ms)

    def plan_exchange(self, now_ms: int) -> None:
        span_ms = self._pauses.exchange_max_ms - self._pauses.exchange_min_ms
        self.exchange_ms = now_ms + self._pauses.exchange_min_ms + int(span_ms * self._chance.random())

    def plan_retry(self, now_ms: int) -> None:
        self.retry_ms = now_ms + int(RETRY_INTERVAL_MS * (0.8 + 0.4 * self._chance.random()))

    def plan_join(self, now_ms: int) -> None:
        """Up to half less than the pause: all nodes of a rack start at once after a power cut."""
        self.join_ms = now_ms + int(self._join_pause_ms * (0.5 + 0.5 * self._chance.random()))
        self._join_pause_ms = min(2 * self._join_pause_ms, JOIN_PAUSE_MAX_MS)

    def joined(self) -> None:
        """Somebody was found. The retries see to all else."""
        self.join_ms = None

    def exchange_peers(self, peers: Sequence[str]) -> list[str]:
        return some(self._chance, peers, self._chance.randint(1, EXCHANGE_PEERS_MAX))

    def retry_peers(self, down: Sequence[str]) -> list[str]:
        return some(self._chance, down, RETRY_PEERS_MAX)

    def retry_seeds(self, reached: Collection[str]) -> list[str]:
        """Seeds whose addresses are not among those of members that are up. They take turns: one of them may be the
        only way to the other half."""
        missing = [seed for seed in self._seeds if seed not in reached]
        self._turn += JOIN_SEEDS_MAX
        first = self._turn % max(len(missing), 1)
        return (missing[first:] + missing[:first])[:JOIN_SEEDS_MAX]

    def join_seeds(self, own: Collection[str]) -> list[str]:
        return some(self._chance, [seed for seed in self._seeds if seed not in own], JOIN_SEEDS_MAX)
