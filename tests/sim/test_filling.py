"""Nodes that are filled at the same time."""

import pytest

from tests.sim.scenarios import together


@pytest.mark.parametrize("seed", range(16))
def test_nodes_that_start_together_do_not_wait_for_each_other(seed: int) -> None:
    together(seed)
