"""The one writer of a node in virtual time: what kvs/cluster/runner.py does.

submitted   waits for the group before it
planned     on its way to the disk, for `write_ms`; a crash now keeps it or loses it
landed      readers see it; the node does not know yet, for `notice_ms`, as the thread that wrote must be heard
committed   what follows: pushes, then answers
"""

from collections import deque
from collections.abc import Callable, Sequence
from random import Random

from kvs.cluster.events import Change, Command, Committed, Group, Outcome, Reply, Report, Submission
from kvs.cluster.merkle import read_tree
from kvs.cluster.node import Node
from kvs.errors import StoreFailed, Unavailable
from kvs.storage.state import read_progress
from tests.sim.clocks import HostClock
from tests.sim.disk import Disk
from tests.sim.setup import DiskPace
from tests.sim.world import EventLoop, Violation

Outcomes = list[Outcome] | Unavailable
Then = Callable[[Outcomes], None]


class Writer:
    def __init__(
        self, loop: EventLoop, disk: Disk, node: Node, clock: HostClock, pace: DiskPace, chance: Random
    ) -> None:
        self._loop = loop
        self._disk = disk
        self._node = node
        self._clock = clock
        self._pace = pace
        self._chance = chance
        self._waiting: deque[tuple[Submission, Then]] = deque()
        self._thens: dict[int, Then] = {}
        self._tickets = 0
        self._under_way: tuple[Group, int] | None = None
        self._is_landed = False
        self.on_committed: Callable[[Sequence[Change]], None] = lambda _: None
        self.breaks_until_ms = 0
        """Until then (virtual time) every commit fails."""
        self.is_degraded = False
        self.is_stopping = False

    @property
    def is_idle(self) -> bool:
        """Whether memory and disk say the same."""
        return self._under_way is None and not self.is_degraded

    def submit(self, commands: Sequence[Command], then: Then) -> None:
        """Commit the commands in one batch; an outcome for each, or Unavailable as a whole."""
        if self.is_degraded or self.is_stopping:
            self._loop.after(0, lambda: then(Unavailable("no writes now", code="degraded")))
            return
        self._tickets += 1
        self._waiting.append((Submission(self._tickets, tuple(commands), 0), then))
        self._loop.after(0, self._begin)

    def _begin(self) -> None:
        if self._under_way is not None or self.is_degraded or not self._waiting:
            return
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._pace.group_max))]
        self._thens = {submission.ticket: then for submission, then in group}
        now_ms = self._clock.wall_ms()
        self._disk.witness.planned(now_ms)
        planned = self._node.plan_group([submission for submission, _ in group], self._disk.store, now_ms)
        for effect in planned.effects:
            if isinstance(effect, Report) and effect.event == "A write could not be planned":
                raise Violation(effect.fields["exception"])
        self._under_way, self._is_landed = (planned, now_ms), False
        if planned.batch:
            self._loop.world.after(self._chance.randint(0, self._pace.write_max_ms), self._land)
        else:
            self._finish()

    def _land(self) -> None:
        """In the thread that writes: it does not wait for the event loop, but dies with the process."""
        if not self._loop.is_alive or self._under_way is None:
            return
        group, planned_ms = self._under_way
        try:
            if self._loop.world.now_ms < self.breaks_until_ms:
                self._disk.fail(reached=self._chance.random() < 0.5, batch=group.batch, planned_ms=planned_ms)
                raise StoreFailed("the disk is broken")
            self._disk.commit(group.batch, planned_ms)
        except StoreFailed:
            self._loop.after(0, self._degrade)
        else:
            self._is_landed = True
            self._loop.after(self._chance.randint(0, self._pace.notice_max_ms), self._finish)

    def _finish(self) -> None:
        assert self._under_way is not None
        (group, _), self._under_way = self._under_way, None
        thens, self._thens = self._thens, {}
        effects = self._node.committed(group)
        for effect in effects:
            if isinstance(effect, Committed):
                self.on_committed(effect.changes)
        for effect in effects:
            if isinstance(effect, Reply):
                thens[effect.ticket](effect.outcomes)
        self._begin()

    # --- faults ---

    def end(self) -> None:
        """The process is gone. A batch that was on its way is on the disk or is not."""
        if self._under_way is not None and not self._is_landed and self._chance.random() < 0.5:
            group, planned_ms = self._under_way
            self._disk.commit(group.batch, planned_ms)

    def _degrade(self) -> None:
        """Nobody knows what the disk holds: no writes until the store was read anew."""
        self.is_degraded = True
        self._under_way = None
        waiting = [then for _, then in self._waiting] + list(self._thens.values())
        self._waiting.clear()
        self._thens.clear()
        for then in waiting:
            then(Unavailable("a write to the disk failed", code="degraded"))
        self._loop.after(self._pace.retry_ms, self._recover)

    def _recover(self) -> None:
        if self._loop.world.now_ms < self.breaks_until_ms:
            self._loop.after(self._pace.retry_ms, self._recover)
            return
        self._node.resume(read_progress(self._disk.store), read_tree(self._disk.store))
        self.is_degraded = False
