"""What the audit log says of backups that are merged into the node while it runs, however many requests that takes.

No request says how many follow, and whoever sends them may say what he likes. So it is the node that counts: the first
one of a user and backup is an entry at once; what those that follow bring is one number when the window is over, and
once a window while they go on.
"""

from typing import NamedTuple

from kvs.actions import RESTORE
from kvs.cluster.events import Act


class _Window(NamedTuple):
    start_ms: int
    more: int


class Merges:
    """Times are Unix ms. `user` and `resource` are those of the entries. What is counted and not yet written is lost
    with the process."""

    def __init__(self, window_ms: int, tracked_max: int) -> None:
        """Beyond `tracked_max` users and backups at one time, each request is an entry."""
        self._window_ms = window_ms
        self._tracked_max = tracked_max
        self._windows: dict[tuple[str, str], _Window] = {}

    def begin(self, user: str, resource: str, now_ms: int) -> Act | None:
        """What is to be written with the next records; None if they are to be counted once they are written."""
        if (user, resource) in self._windows:
            return None
        if len(self._windows) < self._tracked_max:
            self._windows[user, resource] = _Window(now_ms, 0)
        return Act(RESTORE, user, resource)

    def forget(self, user: str, resource: str) -> None:
        """What `begin` gave was not written."""
        window = self._windows.get((user, resource))
        if window is not None and not window.more:
            del self._windows[user, resource]

    def count(self, user: str, resource: str, records: int, now_ms: int) -> None:
        """So many more were written, of which there is no entry."""
        window = self._windows.get((user, resource), _Window(now_ms, 0))
        if records:
            self._windows[user, resource] = _Window(window.start_ms, window.more + records)

    def due(self, now_ms: int) -> list[Act]:
        """What is to be written of windows that are over. A clock that was set back ends them too."""
        over = [key for key, window in self._windows.items() if not 0 <= now_ms - window.start_ms < self._window_ms]
        return self._sums(over, now_ms)

    def rest(self, now_ms: int) -> list[Act]:
        """What is to be written at the end."""
        return self._sums(list(self._windows), now_ms)

    def _sums(self, keys: list[tuple[str, str]], now_ms: int) -> list[Act]:
        acts = []
        for user, resource in keys:
            window = self._windows.pop((user, resource))
            if window.more:
                acts.append(Act(RESTORE, user, f"{resource} {window.more} more"))
                self._windows[user, resource] = _Window(now_ms, 0)
        return acts
