"""The plan of a campaign comes from its seed alone, and holds all that there is."""

from itertools import islice
from pathlib import Path

import pytest

from kvs.config import load
from tests.chaos.campaign import Report
from tests.chaos.plan import ALL_STEPS, LINK_STEPS, LOST_DISK, NODE_STEPS, OPENINGS, Round, rounds, setup
from tests.chaos.report import BEGIN, END, Run, rewrite


def plan(seed: int, count: int) -> list[Round]:
    return list(islice(rounds(seed, setup(seed, 4)), count))


def test_a_seed_is_a_plan() -> None:
    assert setup(1, 4) == setup(1, 4)
    assert plan(1, 20) == plan(1, 20)
    assert plan(1, 20) != plan(2, 20)


def test_every_kind_comes() -> None:
    drawn = [this for seed in range(4) for this in plan(seed, 40)]
    assert {this.opening for this in drawn} == set(OPENINGS)
    assert {step.kind for this in drawn for step in this.steps} == {*NODE_STEPS, *LINK_STEPS, *ALL_STEPS, LOST_DISK}
    assert not [this for this in drawn if sum(step.kind == LOST_DISK for step in this.steps) > 1]
    assert not [
        this for seed in range(20) if setup(seed, 4).forgets for this in plan(seed, 20) if this.opening == "clone"
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_settings_can_be_used(seed: int, tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    lines = [
        f'{name}: "{value}"' if isinstance(value, str) else f"{name}: {value}"
        for name, value in setup(seed, 4).settings.items()
    ]
    config.write_text("\n".join(lines).replace("True", "true").replace("False", "false"))
    config.chmod(0o600)
    load(config, {})


def test_a_table_gets_each_command_once() -> None:
    text = f"before\n{BEGIN}\n{END}\nafter\n"
    report = Report(rounds=3, seconds=90, outcomes={"acknowledged": 1200}, reads=10)
    text = rewrite(text, Run("make chaos SEED=1", "a1"), report)
    text = rewrite(text, Run("make chaos SEED=2", "a2"), report)
    text = rewrite(text, Run("make chaos SEED=1", "a3"), report)
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert [line.split("|")[2].strip() for line in lines if line.startswith("| `")] == ["a2", "a3"]
    assert "1,200 writes acknowledged, 10 reads, 0 audit logs" in text
