"""The bugs of plants.py are found, each by the seed that is known to show it; and nothing is found without them."""

from collections.abc import Callable
from itertools import chain

import pytest

from tests.sim import scenarios
from tests.sim.plants import PLANTED, Planted, found_by

TRIES = 40
"""Seeds that are tried beside the known one, which may not show the bug any more once runs are drawn otherwise."""


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.plant.__name__)
def test_a_planted_bug_is_found(planted: Planted) -> None:
    assert found_by(planted, chain([planted.seed], range(TRIES))) is not None


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("look", scenarios.ALL, ids=lambda look: look.__name__)
def test_without_a_bug_nothing_is_found(look: Callable[[int], None], seed: int) -> None:
    look(seed)
