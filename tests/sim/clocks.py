"""The two clocks of a host: one that only goes on, and a wall clock that is wrong in every way there is."""

from kvs.cluster.time_of import Now
from tests.sim.world import World

EPOCH_MS = 1_700_000_000_000


class HostClock:
    """`rate` is how fast the wall clock goes: 1 is right, 0 is frozen."""

    def __init__(self, world: World, offset_ms: int, mono_base_ms: int) -> None:
        self._world = world
        self._mono_base_ms = mono_base_ms
        self._anchor = (world.now_ms, EPOCH_MS + world.now_ms + offset_ms)
        self._rate = 1.0

    def mono_ms(self) -> int:
        return self._mono_base_ms + self._world.now_ms

    def wall_ms(self) -> int:
        since_ms, shown_ms = self._anchor
        return shown_ms + int((self._world.now_ms - since_ms) * self._rate)

    def now(self) -> Now:
        return Now(self.mono_ms(), self.wall_ms())

    def until_ms(self, mono_ms: int) -> int:
        """How long until the steady clock shows this."""
        return mono_ms - self.mono_ms()

    def offset_ms(self) -> int:
        """How wrong the wall clock is."""
        return self.wall_ms() - EPOCH_MS - self._world.now_ms

    def jump(self, by_ms: int) -> None:
        self._anchor = (self._world.now_ms, max(0, self.wall_ms() + by_ms))

    def go(self, rate: float) -> None:
        self._anchor = (self._world.now_ms, self.wall_ms())
        self._rate = rate

    def mend(self, offset_ms: int) -> None:
        """Set to nearly the right time and speed."""
        self._anchor = (self._world.now_ms, EPOCH_MS + self._world.now_ms + offset_ms)
        self._rate = 1.0
