"""What kinds of values settings have, and how each is read from YAML and shown again.

A kind's `read` turns a YAML value into the attribute of `Config`, or raises ValueError with what was expected instead;
of a list whose items are wrong, WrongItems. Its `plain` turns the attribute back into the YAML value. `folder` is the
folder of the configuration file: paths are relative to it.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from kvs.durations import format_duration, parse_duration
from kvs.types import Millis


class WrongItem(NamedTuple):
    """`number` counts from 1; `expected` is what stands behind the word "expected"."""

    number: int
    value: object
    expected: str


class WrongItems(ValueError):
    """A list, and these of its items are wrong."""

    def __init__(self, items: list[WrongItem]) -> None:
        super().__init__(*items)
        self.items = items


class Kind(Protocol):
    @property
    def expected(self) -> str:
        """What a value has to be, to follow the word "expected"."""
        ...

    @property
    def raw_text(self) -> bool:
        """Whether an environment variable's text is the value as it stands, and not a YAML scalar."""
        ...

    def read(self, value: object, folder: Path) -> object: ...

    def plain(self, value: object) -> object: ...


@dataclass(frozen=True)
class Flag:
    expected: str = "true or false"
    raw_text: bool = False

    def read(self, value: object, folder: Path) -> bool:
        if not isinstance(value, bool):
            raise ValueError(self.expected)
        return value

    def plain(self, value: object) -> object:
        return value


@dataclass(frozen=True)
class Number:
    """`whole` numbers are int; others int or float. A bool is no number here."""

    low: float
    high: float
    whole: bool = True
    raw_text: bool = False

    @property
    def expected(self) -> str:
        return f"a {'whole ' if self.whole else ''}number from {self.low} to {self.high}"

    def read(self, value: object, folder: Path) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            raise ValueError(self.expected)
        if not math.isfinite(value) or not self.low <= value <= self.high:
            raise ValueError(self.expected)
        return value

    def plain(self, value: object) -> object:
        return value


@dataclass(frozen=True)
class Text:
    """Text that `pattern` matches as a whole, or for which `accepts` says yes. Empty only where `optional`."""

    expected: str
    pattern: str = ".*"
    optional: bool = False
    accepts: Callable[[str], bool] = lambda text: True
    raw_text: bool = True

    def read(self, value: object, folder: Path) -> str:
        if not isinstance(value, str):
            raise ValueError(self.expected)
        if value == "" and self.optional:
            return value
        if not re.fullmatch(self.pattern, value) or not self.accepts(value):
            raise ValueError(self.expected)
        return value

    def plain(self, value: object) -> object:
        return value


@dataclass(frozen=True)
class Texts:
    """A list of texts, each as `item` reads it and only once. In the environment also written `one,two`."""

    item: Text
    expected: str
    raw_text: bool = False

    def read(self, value: object, folder: Path) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise ValueError(self.expected)
        numbers: dict[str, int] = {}
        wrong: list[WrongItem] = []
        for number, each in enumerate(value, 1):
            try:
                first = numbers.setdefault(self.item.read(each, folder), number)
                if first != number:
                    wrong.append(WrongItem(number, each, f"another one than item {first}"))
            except ValueError as error:
                wrong.append(WrongItem(number, each, str(error)))
        if wrong:
            raise WrongItems(wrong)
        return tuple(numbers)

    def plain(self, value: object) -> object:
        return list(cast(tuple[str, ...], value))


@dataclass(frozen=True)
class Duration:
    low: str
    high: str
    raw_text: bool = True

    @property
    def expected(self) -> str:
        return f"a duration from {self.low} to {self.high}, written like 300ms, 90s, 1h30m, 7d or 0"

    def read(self, value: object, folder: Path) -> Millis:
        if value == 0 and type(value) is int:
            value = "0"
        if not isinstance(value, str):
            raise ValueError(self.expected)
        try:
            duration = parse_duration(value)
        except ValueError as error:
            raise ValueError(f"{self.expected} ({error})") from None
        if not parse_duration(self.low) <= duration <= parse_duration(self.high):
            raise ValueError(self.expected)
        return duration

    def plain(self, value: object) -> object:
        return format_duration(cast(Millis, value))


@dataclass(frozen=True)
class FilePath:
    """A path, made absolute from the configuration file's folder; `~` is the user's home. None only if `optional`."""

    expected: str
    optional: bool = False
    raw_text: bool = True

    def read(self, value: object, folder: Path) -> Path | None:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(self.expected)
        if value == "":
            if self.optional:
                return None
            raise ValueError(self.expected)
        try:
            return folder / Path(value).expanduser()
        except RuntimeError:
            raise ValueError(f"{self.expected} (no home folder is known for ~)") from None

    def plain(self, value: object) -> object:
        path = cast(Path | None, value)
        if path is None:
            return ""
        return str(path) if path.is_absolute() else f"./{path}"
