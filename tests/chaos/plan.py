"""What goes wrong and when, drawn from a seed: the same seed and number of nodes give the same plan.

A campaign is a row of rounds. A round begins when all nodes are equal and nobody writes. Its *opening* may destroy what
one node has on its disk, which is no loss then, because the others have it. While clients write, *steps* break
something and mend it after a while; in some rounds one of them destroys a disk. In the end everything is mended, and
all nodes must become equal again.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

OPENINGS = {"none": 3, "wipe": 2, "older image": 2, "clone": 1, "flipped bits": 2}
"""What may be done to a disk, with weights."""
NODE_STEPS = {
    "kill": 4,
    "stop": 2,
    "hold": 2,
    "power cut": 4,
    "failing call": 5,
    "full disk": 2,
    "clock jump": 3,
    "clock leap": 1,
}
LINK_STEPS = {
    "partition": 3,
    "isolation": 2,
    "lost requests": 2,
    "lost answers": 2,
    "slow link": 1,
    "thin link": 1,
    "broken connections": 2,
}
ALL_STEPS = {"blackout": 1}
"""Of all nodes at once."""
LOST_DISK = "lost disk"
_LOST_DISK_SHARE = 0.3
_BESIDE_A_LOST_DISK = ("none", "wipe", "older image")
"""Openings after which all other disks keep what is written to them: a node with flipped bits gets an empty one in the
end, and a clone's is thrown away."""
LEAP_MS = 3_600_000
JUMP_MAX_MS = 50_000
"""Below `max_clock_drift`: the node goes on taking writes."""


class Step(NamedTuple):
    """From `at_s` on something is broken for `lasts_s`. `node` and `other` are indexes; `amount` is what the kind makes
    of it (a delay, a shift of the clock, a choice), from 0 to 1."""

    at_s: float
    kind: str
    node: int
    other: int
    lasts_s: float
    amount: float


class Round(NamedTuple):
    number: int
    opening: str
    victim: int
    lasts_s: float
    steps: tuple[Step, ...]


class Setup(NamedTuple):
    """What all nodes of a campaign have in common."""

    nodes: int
    settings: dict[str, object]
    forgets: bool
    """Whether deletions are forgotten within the run: a clone would prove in the name of its original what that one
    does not hold, so there are none then."""


def setup(seed: int, nodes: int) -> Setup:
    """Settings within what operators choose, and quicker than the defaults, so that much happens in little time."""
    chance = Random(f"setup {seed}")
    forgets = chance.random() < 0.4
    gossip_s = chance.choice([5, 20, 60])
    probe_ms = chance.choice([300, 1000])
    settings: dict[str, object] = {
        "sync_interval": chance.choice([1, 3, 15]),
        "catchup_interval": chance.choice([1, 5]),
        "throttle_delay_ms": chance.choice([0, 10, 100]),
        "fetch_delay_ms": chance.choice([0, 50]),
        "probe_interval_ms": probe_ms,
        "probe_timeout_ms": min(probe_ms, 500),
        "suspicion_timeout": chance.choice([2, 10]),
        "gossip_interval_min": gossip_s,
        "gossip_interval_max": 2 * gossip_s,
        "max_revisions": chance.choice([1, 3]),
        "compression_enabled": chance.random() < 0.8,
        "bootstrap_patience": 5,
        "backup_enabled": False,
    }
    if forgets:
        settings["tombstone_retention"] = "3m"
    if chance.random() < 0.6:
        settings |= {"auth_enabled": True, "allow_anonymous_read": True}
    return Setup(nodes, settings, forgets)


def rounds(seed: int, setup: Setup, lasts_s: tuple[float, float] = (6.0, 18.0)) -> Iterator[Round]:
    """Without end."""
    openings = {kind: weight for kind, weight in OPENINGS.items() if not (setup.forgets and kind == "clone")}
    number = 0
    while True:
        number += 1
        chance = Random(f"round {seed}/{number}")
        length_s = chance.uniform(*lasts_s)
        opening, victim = _draw(chance, openings), chance.randrange(setup.nodes)
        steps = [*_steps(chance, length_s, setup.nodes)]
        if opening in _BESIDE_A_LOST_DISK and chance.random() < _LOST_DISK_SHARE:
            at_s, node = chance.uniform(0.2, 0.9) * length_s, chance.randrange(setup.nodes)
            steps.append(Step(at_s, LOST_DISK, node, node, chance.uniform(0.1, 5.0), 0.0))
        yield Round(number, opening, victim, length_s, tuple(steps))


def _steps(chance: Random, length_s: float, nodes: int) -> Iterator[Step]:
    # Some rounds have a few faults, one after the other, and some have them on top of each other.
    pause_s = chance.choice([0.4, 1.0, 2.5])
    kinds = NODE_STEPS | LINK_STEPS | ALL_STEPS
    at_s = chance.uniform(0.3, pause_s)
    while at_s < length_s:
        node, other = chance.sample(range(nodes), 2)
        lasts_s = chance.choice([0.2, 1.5, 4.0, 8.0]) * chance.uniform(0.5, 1.5)
        yield Step(at_s, _draw(chance, kinds), node, other, lasts_s, chance.random())
        at_s += chance.uniform(0.2, 2 * pause_s)


def _draw(chance: Random, weights: dict[str, int]) -> str:
    (drawn,) = chance.choices(list(weights), list(weights.values()))
    return drawn
