"""Whole clusters with their data, from seeds: chaos, peace, then everything that was promised.

    make sim SEEDS=2000                                       many seeds, on all cores
    .venv/bin/python -m tests.sim --first 40 --seeds 1        one of them again; TEST_TRACE=1 shows every event

docs/testing.md tells what is simulated and what is checked.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.sim import scenarios
from tests.sim.campaign import Totals, one, outcomes
from tests.sim.runs import Failure, run
from tests.sim.setup import FAULTS

ROOT = Path(__file__).parents[2]
BRIEF_SEEDS = 200
GROUP_SEEDS = 50
FULL_SEEDS = 12
SLOW_SEEDS = 2_000


RUNS: dict[str, Callable[[int], Any]] = {
    "brief": partial(run, brief=True),
    "full": run,
    **{look.__name__: look for look in scenarios.ALL},
}


def regressions() -> list[tuple[int, str]]:
    """(seed, name of the run) of every line of the file."""
    lines = (Path(__file__).parent / "regressions.txt").read_text().splitlines()
    rows = [line.split(maxsplit=2) for line in lines if line.strip() and not line.startswith("#")]
    assert all(name in RUNS and what for _, name, what in rows)
    return [(int(seed), name) for seed, name, _ in rows]


@pytest.mark.parametrize("first", range(0, BRIEF_SEEDS, GROUP_SEEDS))
def test_no_seed_breaks_a_promise_in_brief(first: int) -> None:
    """And together they bring about every fault there is."""
    totals = Totals()
    for outcome in outcomes(range(first, first + GROUP_SEEDS), brief=True, jobs=1):
        totals.add(outcome)
    assert not totals.failures, totals.failures[0]
    assert set(FAULTS) <= totals.faults.keys()
    assert totals.sums["acknowledged"] > 10 * GROUP_SEEDS


@pytest.mark.parametrize("seed", range(FULL_SEEDS))
def test_no_seed_breaks_a_promise(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize(("seed", "name"), regressions())
def test_what_was_mended_stays_mended(seed: int, name: str) -> None:
    RUNS[name](seed)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_thousands_of_seeds_break_no_promise() -> None:
    totals = Totals()
    for outcome in outcomes(range(SLOW_SEEDS), brief=False):
        totals.add(outcome)
    print(*totals.lines(), sep="\n")
    assert not totals.failures, "\n".join(totals.failures)


# --- the simulator itself ---


def test_the_same_seed_is_the_same_run() -> None:
    """Down to every message, also where sets and dictionaries hash otherwise."""
    seeds = range(3, 6)
    here = "".join(f"{seed} {run(seed, brief=True).fingerprint}\n" for seed in seeds)
    command = [sys.executable, "-m", "tests.sim", "--first=3", "--seeds=3", "--brief", "--fingerprints", "--jobs=1"]
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        there = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert there.stdout == here


def test_another_seed_is_another_run() -> None:
    assert len({run(seed, brief=True).fingerprint for seed in range(6, 9)}) == 3


def test_a_failure_tells_its_seed_and_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sim.runs.SETTLE_MS", -1)
    with pytest.raises(Failure, match=r"seed 0: Violation: .*\nagain: .*--first 0 --seeds 1 "):
        run(0)
    outcome = one(1, brief=True)
    assert outcome.result is None
    assert "--first 1 --seeds 1 --brief " in outcome.failure
