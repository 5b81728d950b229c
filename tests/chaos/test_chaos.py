"""A short campaign on real daemons, and one whose nodes break their promise."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.chaos.campaign import Campaign, Report
from tests.chaos.plan import Round, Setup, Step, setup
from tests.process.shim import NoCompiler, build

SEED = int(os.environ.get("TEST_SEED", "1"))
NODES = 3
AUTH: dict[str, object] = {"auth_enabled": True, "allow_anonymous_read": True}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    try:
        return build(tmp_path)
    except NoCompiler as reason:
        pytest.skip(f"{reason}, so these promises are NOT checked here")


def campaign(folder: Path, library: Path, plan: list[Round], settings: dict[str, object]) -> Report:
    """Plays these rounds."""
    made = Campaign(folder, Setup(NODES, settings, forgets=False), SEED, library, print)
    rounds: Iterator[Round] = iter(plan)
    left = count(len(plan), -1)
    return made.run(rounds, lambda: next(left) == 0)


@pytest.mark.timeout(600)
def test_a_cluster_that_everything_happens_to_keeps_its_promises(tmp_path: Path, library: Path) -> None:
    steps = [
        Step(0.3, "kill", 0, 1, 0.2, 0.5),
        Step(0.6, "partition", 1, 2, 1.5, 0.5),
        Step(1.0, "clock jump", 1, 2, 3.0, 0.9),
        Step(1.5, "power cut", 2, 0, 0.2, 0.5),
        Step(2.5, "failing call", 0, 1, 1.0, 0.5),
        Step(3.0, "lost answers", 1, 2, 1.0, 0.5),
        Step(4.0, "blackout", 0, 1, 0.1, 0.5),
        Step(5.5, "hold", 1, 0, 1.0, 0.5),
        Step(6.0, "clock leap", 2, 0, 1.0, 0.2),
        Step(6.2, "lost disk", 0, 1, 0.1, 0.5),
    ]
    settings = setup(SEED, NODES).settings | {"sync_interval": 1, "throttle_delay_ms": 0, **AUTH}
    report = campaign(tmp_path, library, [Round(1, "wipe", 1, 7.5, tuple(steps))], settings)
    print(report)
    assert not report.violations
    assert set(report.faults) >= {step.kind for step in steps} | {"wipe"}
    assert report.outcomes["acknowledged"] > 100
    assert report.reads > 100
    assert report.tokens["revoked"] > 0
    assert report.audited == 2, "n2's before it loses its disk, and in the end that of the only one that lost none"


@pytest.mark.timeout(600)
def test_nodes_that_acknowledge_before_the_disk_has_it_are_found_out(tmp_path: Path, library: Path) -> None:
    """Were nothing lost here, the check would be worth nothing."""
    steps = tuple(Step(at_s, "blackout", 0, 1, 0.1, 0.5) for at_s in (1.0, 2.5, 4.0, 5.5))
    settings = setup(SEED, NODES).settings | {"write_durability": "os", "auth_enabled": False}
    report = campaign(tmp_path, library, [Round(1, "none", 0, 6.5, steps)], settings)
    assert report.violations
