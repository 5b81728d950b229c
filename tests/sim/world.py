"""Virtual time: a queue of events, and everything that is left to chance. The same seed is the same run.

Nothing in a run reads a real clock or draws from elsewhere than `World.chance`; so whatever a seed shows, it shows
again. `fingerprint` covers every message, write and fault with its moment, in their order.
"""

import hashlib
import heapq
import os
from collections.abc import Callable
from random import Random

Action = Callable[[], None]

_IS_SHOWN = bool(os.environ.get("TEST_TRACE"))


class Violation(AssertionError):
    """A promise was broken."""


class World:
    """The time of a run in ms since its begin, and what happens next."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_ms = 0
        self.events = 0
        self._queue: list[tuple[int, int, Action]] = []
        self._numbers = 0
        self._digest = hashlib.blake2b(digest_size=16)

    def chance(self, name: str) -> Random:
        """A stream of random numbers of its own, so that one part can change without all others doing so."""
        return Random(f"{self.seed} {name}")

    def at(self, at_ms: int, action: Action) -> None:
        self._numbers += 1
        heapq.heappush(self._queue, (max(at_ms, self.now_ms), self._numbers, action))

    def after(self, delay_ms: int, action: Action) -> None:
        self.at(self.now_ms + delay_ms, action)

    def run(self, for_ms: int) -> None:
        until_ms = self.now_ms + for_ms
        while self._queue and self._queue[0][0] <= until_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            self.events += 1
            action()
        self.now_ms = until_ms

    def run_until(self, condition: Callable[[], bool], within_ms: int, step_ms: int = 250) -> int | None:
        """The ms until the condition held, None when it did not in time."""
        began_ms = self.now_ms
        while not condition():
            if self.now_ms - began_ms >= within_ms:
                return None
            self.run(step_ms)
        return self.now_ms - began_ms

    def trace(self, *what: object) -> None:
        line = " ".join(map(str, (self.now_ms, *what)))
        self._digest.update(line.encode(errors="replace"))
        if _IS_SHOWN:
            print(line)

    def trace_bytes(self, what: str, raw: bytes) -> None:
        self._digest.update(b"%d %b " % (self.now_ms, what.encode()))
        self._digest.update(raw)
        if _IS_SHOWN:
            print(self.now_ms, what, raw.hex() if len(raw) < 64 else f"{len(raw)} bytes")

    def fingerprint(self) -> str:
        return self._digest.hexdigest()


class EventLoop:
    """One process's: nothing runs in it once the process is gone, and while it is held everything waits."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_alive = True
        self._held: list[Action] | None = None

    def wrap(self, action: Action) -> Action:
        """The action as this loop comes to it."""

        def act() -> None:
            if self._held is not None:
                self._held.append(act)
            elif self.is_alive:
                action()

        return act

    def after(self, delay_ms: int, action: Action) -> None:
        self.world.after(delay_ms, self.wrap(action))

    def hold(self, for_ms: int) -> None:
        """The process stands still, as after SIGSTOP."""
        if self._held is None and self.is_alive:
            self._held = []
            self.world.after(for_ms, self.go_on)

    def go_on(self) -> None:
        """As after SIGCONT."""
        waiting, self._held = self._held or [], None
        for action in waiting:
            action()
