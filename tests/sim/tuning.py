"""Gives KVS other limits for the length of a run."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from kvs import limits as real_limits
from tests.sim.setup import Limits


@contextmanager
def tuned(limits: Limits) -> Iterator[None]:
    """Every module of KVS that is loaded sees these limits, by whatever name it imported them from kvs.limits."""
    unknown = [name for name in limits if not hasattr(real_limits, name)]
    assert not unknown, f"no such limits: {unknown}"
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith(("kvs.", "tests.sim.")) and limits.keys() & vars(module).keys()
    ]
    with ExitStack() as stack:
        for module in modules:
            for name in limits.keys() & vars(module).keys():
                stack.enter_context(patch.object(module, name, limits[name]))
        yield
