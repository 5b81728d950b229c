"""Many seeds over all cores, and what they come to in sum."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

from tests.sim.runs import Failure, Result, run

_CHUNK_SEEDS = 4


class Outcome(NamedTuple):
    """Of one seed: its result, or what was wrong and how to see it again."""

    seed: int
    result: Result | None
    failure: str = ""


def one(seed: int, *, brief: bool) -> Outcome:
    try:
        return Outcome(seed, run(seed, brief=brief))
    except Failure as failure:
        return Outcome(seed, None, str(failure))


def outcomes(seeds: Iterable[int], *, brief: bool, jobs: int = 0) -> Iterator[Outcome]:
    """In the order of the seeds. `jobs` 0: as many processes as there are cores; 1: in this process."""
    work = partial(one, brief=brief)
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        yield from map(work, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(work, seeds, chunksize=_CHUNK_SEEDS)


class Totals:
    """Adds up."""

    def __init__(self) -> None:
        self.seeds = 0
        self.failures: list[str] = []
        self.failed_seeds: list[int] = []
        self.faults: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        self.settled_max_ms = 0
        self.settled_max_seed = 0

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        result = outcome.result
        if result is None:
            self.failures.append(outcome.failure)
            self.failed_seeds.append(outcome.seed)
            return
        self.faults += result.faults
        for name in ("virtual_ms", "lives", "acknowledged", "excused", "reads", "messages", "moved"):
            self.sums[name] += getattr(result, name)
        if result.settled_ms >= self.settled_max_ms:
            self.settled_max_ms, self.settled_max_seed = result.settled_ms, result.seed

    def lines(self) -> Iterator[str]:
        """The report, without what it took."""
        sums = self.sums
        yield f"seeds            {self.seeds:,}"
        yield f"virtual time     {sums['virtual_ms'] / 3_600_000:,.1f} h"
        yield f"writes           {sums['acknowledged']:,} acknowledged, of these {sums['excused']:,} on lost disks only"
        yield f"reads            {sums['reads']:,} checked"
        yield f"processes        {sums['lives']:,} started"
        yield f"messages         {sums['messages']:,}"
        yield f"records          {sums['moved']:,} moved by comparisons"
        yield f"equal again      after {self.settled_max_ms / 1000:.2f} s at most (seed {self.settled_max_seed})"
        yield "faults           " + ", ".join(f"{name} {count:,}" for name, count in sorted(self.faults.items()))
        yield f"violations       {len(self.failures)}"
