"""Random choices, as the shells give them to the cores."""

from collections.abc import MutableSequence, Sequence
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")


class Chance(Protocol):
    """What the cores use of `random.Random`. One that was seeded makes them repeat themselves exactly."""

    def random(self) -> float: ...

    def randint(self, a: int, b: int, /) -> int: ...

    def shuffle(self, x: MutableSequence[Any], /) -> None: ...

    def sample(self, population: Sequence[_T], k: int, /) -> list[_T]: ...


def some(chance: Chance, among: Sequence[_T], most: int) -> list[_T]:
    """Up to `most` different ones of `among`, in random order."""
    return chance.sample(among, min(most, len(among)))
