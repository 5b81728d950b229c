"""Faults of all kinds at random moments, and what must hold when they have ended."""

from collections import Counter
from random import Random

from tests.sim.membership import SimNode, World

HOUR_MS = 3_600_000
SETTLE_MS = 240_000
"""Within this all must agree again: two rounds of retries, one exchange, and the longest suspicion come well before."""


class Chaos:
    """Breaks a world for a while. Counts what it did."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = Random(f"chaos {world.seed}")
        self.faults: Counter[str] = Counter()
        self._kinds = [
            self._crash,
            self._restart,
            self._wipe,
            self._leave,
            self._partition,
            self._cut,
            self._heal,
            self._hold,
            self._jump,
            self._move,
        ]

    def run(self, for_ms: int) -> None:
        """A fault every few seconds; heals at the end, and everybody but a few, who stay dead, runs again."""
        until_ms = self.world.now_ms + for_ms
        while self.world.now_ms < until_ms:
            self.world.run(self.chance.randint(100, 6_000))
            kind = self.chance.choice(self._kinds)
            kind()
            self.faults[kind.__name__.strip("_")] += 1
            Incarnations.check(self.world)
        self.world.heal()
        self.world.run(1_000)  # who is leaving has left
        # One seed comes back: without any, a node that lost its disk and its address could find nobody.
        mortal = self.world.nodes[1:]
        dead = self.chance.sample(mortal, self.chance.randint(0, len(mortal) // 3))
        for node in self.world.nodes:
            if node in dead:
                node.crash(host_too=self.chance.random() < 0.5)
            elif not node.is_running:
                node.start()

    def _node(self, *, running: bool) -> SimNode | None:
        nodes = [node for node in self.world.nodes if node.is_running is running]
        return self.chance.choice(nodes) if nodes else None

    def _crash(self) -> None:
        if (node := self._node(running=True)) is not None:
            node.crash(host_too=self.chance.random() < 0.5)

    def _restart(self) -> None:
        if (node := self._node(running=False)) is not None:
            node.start()

    def _wipe(self) -> None:
        if (node := self._node(running=False)) is not None:
            node.wipe()
            node.start()

    def _move(self) -> None:
        """Seeds keep their addresses: when all nodes move at once, nobody can find anybody."""
        node = self._node(running=False)
        if node is not None and node.address not in self.world.settings.seeds:
            node.start(f"10.1.{self.chance.randint(0, 255)}.{self.chance.randint(1, 255)}:8080")

    def _leave(self) -> None:
        if (node := self._node(running=True)) is not None:
            node.stop()

    def _partition(self) -> None:
        self.world.groups = {node.id: self.chance.randint(0, 1) for node in self.world.nodes}

    def _cut(self) -> None:
        a, b = self.chance.sample(self.world.nodes, 2)
        self.world.cuts.add((a.id, b.id))

    def _heal(self) -> None:
        self.world.heal()

    def _hold(self) -> None:
        if (node := self._node(running=True)) is not None:
            node.hold(self.chance.choice([100, 700, 5_000, 20_000]), tells=self.chance.random() < 0.5)

    def _jump(self) -> None:
        self.chance.choice(self.world.nodes).clock_ms += self.chance.randint(-HOUR_MS, HOUR_MS)


class Incarnations:
    """Nobody who goes on living ever goes back to an older incarnation of anybody."""

    @staticmethod
    def check(world: World) -> None:
        for node in world.live():
            for state in node.running.remembered():
                key = (node.life, state.id, state.instance_id)
                assert state.incarnation >= node.seen.get(key, 0), f"{node.id}: {state.id} went back"
                node.seen[key] = state.incarnation


def settle(world: World) -> int:
    """The ms until all live nodes agree after the faults. Raises AssertionError with seed and differences."""
    took_ms = world.run_until(world.is_converged, SETTLE_MS, step_ms=500)
    Incarnations.check(world)
    assert took_ms is not None, f"seed {world.seed}: {world.disagreements()[:6]}"
    return took_ms
