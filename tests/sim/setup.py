"""How one run is set up, all of it drawn from its seed: sizes, limits of the product, pauses, clients, faults.

Small limits bring out what large ones hide: runs of one item, lists of two keys, outboxes of one record, tombstones
that go within seconds. A seed leaves out some faults altogether, since a bug that needs one may be covered up by
another (swarm testing: Groce et al., 2012).
"""

from collections.abc import Mapping
from random import Random
from typing import NamedTuple

from tests.sim.network import Link

FAULTS = (
    "kill",
    "power_cut",
    "stop",
    "restart",
    "wipe",
    "wipe_tree",
    "set_back",
    "clone",
    "break_disk",
    "hold",
    "partition",
    "isolate",
    "cut",
    "slow",
    "lossy",
    "heal",
    "jump",
    "leap",
    "freeze",
    "race",
)

LEAP_MAX_MS = 10 * 365 * 86_400_000
"""How far a clock leaps. One that is so far ahead finds everything expired that ever expires."""

RACE_MAX = 3.0
RACE_MS = 3_000
RACE_MAX_MS = round(RACE_MAX * RACE_MS)
"""How many times too fast a clock goes, for how long, and how far ahead it is then."""

Limits = Mapping[str, int | float]


class DiskPace(NamedTuple):
    """Of the writer, see writer.py. `group_max` is how many submissions share a batch."""

    group_max: int
    write_max_ms: int
    notice_max_ms: int
    retry_ms: int


class Traffic(NamedTuple):
    """What clients do. `pause_ms` is the mean between two operations, `twins` the part of writes that two nodes get in
    the same millisecond."""

    keys: int
    pause_ms: int
    twins: float
    ttl_max_ms: int


class Setup(NamedTuple):
    """One run. Durations in ms."""

    nodes: int
    seeds: int
    """How many of the hosts are seeds of all others."""
    disk: DiskPace
    traffic: Traffic
    link: Link
    limits: Limits
    faults: tuple[str, ...]
    fault_pause_ms: int
    chaos_ms: int
    fsync: bool
    versions_max: int
    skew_ms: int
    """How wrong the clocks are that count as right."""
    retention_ms: int
    member_timeout_ms: int
    fill_age_ms: int
    fill_patience_ms: int
    probe_interval_ms: int
    suspicion_ms: int
    gossip_ms: int
    sync_interval_ms: int
    catchup_interval_ms: int
    throttle_ms: int
    push_enabled: bool
    push_fanout: int
    sweep_ms: int

    @property
    def collects(self) -> bool:
        """Whether tombstones go within the run."""
        return self.retention_ms < 60_000


def draw(seed: int) -> Setup:
    """The same for the same seed."""
    chance = Random(f"setup {seed}")
    skew_ms = chance.choice([0, 20, 500, 2_000])
    setup = Setup(
        nodes=chance.choice([2, 3, 3, 3, 4, 4, 5, 6]),
        seeds=chance.choice([1, 2, 2]),
        disk=DiskPace(chance.choice([1, 3, 100]), chance.choice([0, 5, 60]), chance.choice([0, 2, 20]), 300),
        traffic=_traffic(chance),
        link=chance.choice([Link(), Link(0.02, 0.05, 1, 30), Link(0.1, 0.2, 1, 200)]),
        limits=_limits(chance, skew_ms),
        faults=tuple(fault for fault in FAULTS if chance.random() < 0.5) or ("kill", "restart"),
        fault_pause_ms=chance.choice([400, 1_500, 4_000]),
        chaos_ms=chance.choice([5_000, 10_000, 20_000]),
        fsync=chance.random() < 0.7,
        versions_max=chance.choice([1, 3, 5]),
        skew_ms=skew_ms,
        retention_ms=chance.choice([1_500, 6_000, 30_000, *[864_000_000] * 5]),
        member_timeout_ms=chance.choice([5_000, 600_000]),
        fill_age_ms=chance.choice([2_000, 86_400_000]),
        fill_patience_ms=chance.choice([1_000, 5_000]),
        probe_interval_ms=chance.choice([700, 1_500]),
        suspicion_ms=chance.choice([2_000, 5_000]),
        gossip_ms=chance.choice([3_000, 10_000]),
        sync_interval_ms=chance.choice([1_000, 4_000, 10_000]),
        catchup_interval_ms=chance.choice([1_000, 5_000]),
        throttle_ms=chance.choice([0, 0, 10]),
        push_enabled=chance.random() < 0.9,
        push_fanout=chance.choice([0, 1, 2]),
        sweep_ms=chance.choice([500, 2_000]),
    )
    if setup.collects:
        # A clone proves in the name of its original what that one does not have. Where tombstones are kept for longer
        # than somebody needs to notice the alarm and stop one of the two, it does no harm.
        setup = setup._replace(faults=tuple(fault for fault in setup.faults if fault != "clone") or ("kill", "restart"))
    return setup


def draw_brief(seed: int) -> Setup:
    """A smaller and shorter run, with faults in quicker succession: some hundred of them fit into a quick test."""
    setup = draw(seed)
    return setup._replace(
        nodes=min(setup.nodes, 3),
        chaos_ms=4_000,
        fault_pause_ms=min(setup.fault_pause_ms, 1_000),
        traffic=setup.traffic._replace(pause_ms=max(setup.traffic.pause_ms, 40)),
    )


def _traffic(chance: Random) -> Traffic:
    return Traffic(
        keys=chance.choice([3, 12, 40, 150]),
        pause_ms=chance.choice([15, 40, 120]),
        twins=chance.choice([0.0, 0.1, 0.5]),
        ttl_max_ms=chance.choice([1_000, 6_000]),
    )


def _limits(chance: Random, skew_ms: int) -> Limits:
    """Of kvs/limits.py."""
    listed = chance.choice([2, 4, 32])
    listed_late = chance.choice([listed, 8, 160])
    ranges = chance.choice([1, 3, 2_048])
    parts = chance.choice([2, 4, 16])
    root_parts = chance.choice([parts, 2, 256])
    return {
        "RUN_ITEMS_MEAN": chance.choice([1, 2, 4, 256]),
        "RUN_ITEMS_MAX": chance.choice([2, 5, 2_048]),
        "RUNS_FOR_A_COARSE_SPLIT": chance.choice([2, 4, 8]),
        "DIFF_RANGES_MAX": ranges,
        "DIFF_RANGES_PER_TURN": chance.choice([1, 16]),
        "DIFF_ROOT_PARTS": root_parts,
        "DIFF_PARTS": parts,
        "DIFF_LIST_BELOW": listed,
        "DIFF_LIST_BELOW_LATE": max(listed, listed_late),
        "DIFF_EARLY_ROUNDS": chance.choice([1, 3]),
        "DIFF_KEYS_MAX": ranges * max(listed_late, listed, parts, root_parts),
        "FETCH_KEYS_MAX": chance.choice([1, 7, 1_000]),
        "SEND_MAX_BYTES": chance.choice([1, 200, 4_000_000]),
        "SESSION_KEYS_MAX": chance.choice([2, 20, 100_000]),
        "LEFT_TO_PUSH_MS": chance.choice([0, 300, 2_000]),
        "OUTBOX_MAX_RECORDS": chance.choice([1, 4, 20_000]),
        "OUTBOX_MAX_BYTES": chance.choice([150, 1_000_000]),
        "PUSH_TO_ALL_MAX": chance.choice([1, 3, 10]),
        "COMPARE_SOON_MS": chance.choice([50, 500]),
        "COMPARE_RETRY_MIN_MS": chance.choice([200, 1_000]),
        "PUSH_TIMEOUT_S": chance.choice([1.0, 4.0]),
        "COMPARE_TIMEOUT_S": chance.choice([2.0, 8.0]),
        "DIFF_TIMEOUT_S": 2.0,
        "BOOTSTRAP_RETRY_MS": 200,
        "BOOTSTRAP_TOGETHER_MS": 50,
        "EXPIRY_GRACE_MS": 2 * skew_ms + chance.choice([10, 1_000]),
        "EXPIRY_STEP_MS": 100,
        "FLOOR_SAVE_STEP_MS": chance.choice([100, 2_000]),
        "SWEEP_MAX_KEYS": chance.choice([1, 4, 500]),
        "CHECK_PAUSE_MS": 2_000,
        "CONTEST_TIMEOUT_MS": 300,
        "REFUSED_PAUSE_MS": 3_000,
        "MEMBER_LIST_TIMEOUT_MS": 2_000,
        "REUNION_PAUSE_MS": 1_000,
        "RETRY_INTERVAL_MS": 3_000,
        "JOIN_PAUSE_MAX_MS": 3_000,
    }
