"""The one place where these tests wait by looking again: for what sends no event."""

import time
from collections.abc import Callable

_LOOK_AGAIN_S = 0.02


def eventually(condition: Callable[[], object], timeout_s: float) -> bool:
    """Whether `condition` came true within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


def at_once(condition: Callable[[], object], timeout_s: float) -> bool:
    """The same without a pause between two looks, for what is to be timed."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True
