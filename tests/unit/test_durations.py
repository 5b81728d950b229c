import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.durations import format_duration, parse_duration
from kvs.limits import TTL_MAX_MS
from kvs.types import Millis


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("0", 0),
        ("0s", 0),
        ("0d0h", 0),
        ("300ms", 300),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("1.5h", 5_400_000),
        (".5s", 500),
        ("0.001s", 1),
        ("1d1d", 172_800_000),
        ("30m1h", 5_400_000),
        ("36500d", TTL_MAX_MS),
    ],
)
def test_reads(text: str, expected_ms: int) -> None:
    assert parse_duration(text) == expected_ms


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not a duration"),
        ("-1s", "cannot be negative"),
        ("-0", "cannot be negative"),
        ("+1s", "not a duration"),
        ("5", "not a duration"),
        ("1.5", "not a duration"),
        ("s", "not a duration"),
        ("1.s", "not a duration"),
        ("1e3s", "not a duration"),
        ("1us", "not a duration"),
        ("1ns", "not a duration"),
        ("1w", "not a duration"),
        ("1H", "not a duration"),
        (" 1s", "not a duration"),
        ("1s\n", "not a duration"),
        ("1h 30m", "not a duration"),
        ("1h-30m", "not a duration"),
        ("١s", "not a duration"),
        ("inf", "not a duration"),
        ("0.1ms", "whole number of milliseconds"),
        ("1.0005s", "whole number of milliseconds"),
        ("36501d", "at most 36500d"),
        ("36500d1ms", "at most 36500d"),
        ("9" * 60 + "d", "at most 36500d"),
        ("9" * 10_000 + "s", "at most 64 characters"),
    ],
)
def test_refuses(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [(0, "0"), (1, "1ms"), (90_000, "1m30s"), (864_000_000, "10d"), (93_784_005, "1d2h3m4s5ms")],
)
def test_formats(duration_ms: int, text: str) -> None:
    assert format_duration(Millis(duration_ms)) == text


@given(st.integers(0, TTL_MAX_MS))
def test_what_is_formatted_reads_back(duration_ms: int) -> None:
    assert parse_duration(format_duration(Millis(duration_ms))) == duration_ms


@given(st.text(alphabet="0123456789.smhd-+ e", max_size=70))
def test_any_text_is_read_within_bounds_or_refused(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert 0 <= duration <= TTL_MAX_MS
