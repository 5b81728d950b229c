"""Durations as Go writes them, plus days: `300ms`, `90s`, `1h30m`, `1.5h`, `7d`, and `0`.

    duration = "0" | part+            the parts are added up
    part     = number unit
    number   = digits [ "." digits ] | "." digits
    unit     = "ms" | "s" | "m" | "h" | "d"

KVS keeps time in milliseconds, so a duration that is no whole number of them (`0.1ms`) is refused: rounded down it
would become `0`, which means "never" where a time to live is asked for.
"""

import re
from fractions import Fraction

from kvs.limits import TTL_MAX_MS
from kvs.types import Millis

_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|s|m|h|d)")
_ALL = re.compile(rf"(?:{_PART.pattern})+")
_TEXT_MAX_CHARS = 64
_HOW = "write it like 300ms, 90s, 1h30m, 7d or 0"


def parse_duration(text: str) -> Millis:
    """Milliseconds, at most 100 years of 365 days.

    Raises ValueError with a sentence for the person who wrote `text`.
    """
    if text == "0":
        return Millis(0)
    if len(text) > _TEXT_MAX_CHARS:
        raise ValueError(f"a duration has at most {_TEXT_MAX_CHARS} characters; {_HOW}")
    if text.startswith("-"):
        raise ValueError(f"a duration cannot be negative: {text!r}")
    if not _ALL.fullmatch(text):
        raise ValueError(f"not a duration: {text!r}; {_HOW}")
    total = sum((Fraction(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text)), Fraction(0))
    if total.denominator != 1:
        raise ValueError(f"a duration is a whole number of milliseconds: {text!r}")
    if total > TTL_MAX_MS:
        raise ValueError(f"a duration is at most {TTL_MAX_MS // _UNITS_MS['d']}d (100 years): {text!r}")
    return Millis(int(total))


def format_duration(duration: Millis) -> str:
    """The shortest text that `parse_duration` reads as `duration` (not negative), without fractions."""
    if duration == 0:
        return "0"
    parts = []
    rest = int(duration)
    for unit, unit_ms in _UNITS_MS.items():
        count, rest = divmod(rest, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
