"""The log: its fields, its limits, and that one event is one line whatever it holds."""

import json
import logging
import os
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvs.daemon import logs

HOSTILE = [
    "line\nbreak",
    "line\r\nbreak",
    "\x1b[31mred\x1b[0m",
    "nul\0",
    "u2028\u2028and\u2029nel\x85",
    'quote" and \\ and {} %s %d',
    "right to left \u202e",
    "a=b level=error",
    "\ud800 lone surrogate",
]


@pytest.fixture(autouse=True)
def _one_log_per_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.root, "handlers", [])
    level = logging.root.level
    yield
    logging.root.setLevel(level)
    structlog.reset_defaults()


def set_up(log_format: str = "json", level: str = "info") -> Any:
    logs.set_up(node_id="n1", level=level, log_format=log_format)
    return structlog.get_logger()


def written(capfd: pytest.CaptureFixture[str]) -> list[str]:
    out = capfd.readouterr().out
    assert out.endswith("\n") or not out
    return out.split("\n")[:-1]


def one(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = written(capfd)
    event = json.loads(line)
    assert isinstance(event, dict)
    return event


def test_an_event(capfd: pytest.CaptureFixture[str]) -> None:
    set_up().info("Something", count=3, path="/kv/a")
    event = one(capfd)
    assert list(event) == ["timestamp", "level", "event", "node_id", "count", "path"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["timestamp"])
    assert datetime.fromisoformat(event["timestamp"]).utcoffset() is not None
    del event["timestamp"]
    assert event == {"level": "info", "event": "Something", "node_id": "n1", "count": 3, "path": "/kv/a"}


def test_fields_cannot_pose_as_the_head(capfd: pytest.CaptureFixture[str]) -> None:
    set_up().info("x", level="error", node_id="other", timestamp="never")
    event = one(capfd)
    assert (event["level"], event["node_id"]) == ("info", "n1")
    assert event["timestamp"] != "never"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_one_event_is_one_line_of_printable_characters(
    capfd: pytest.CaptureFixture[str], log_format: str, text: str
) -> None:
    set_up(log_format).info(text, field=text, nested={text: [text]}, raw=text.encode(errors="replace"))
    (line,) = written(capfd)
    assert line.isprintable()
    if log_format == "json":
        event = json.loads(line)
        assert (event["event"], event["field"], event["nested"]) == (text, text, {text: [text]})


@given(text=st.text(), log_format=st.sampled_from(["json", "console"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_breaks_a_line(capfd: pytest.CaptureFixture[str], text: str, log_format: str) -> None:
    set_up(log_format).warning(text, key=text)
    (line,) = written(capfd)
    assert line.isprintable()


def test_a_console_field_cannot_look_like_two(capfd: pytest.CaptureFixture[str]) -> None:
    set_up("console").info("Request", path="/kv/a status=200")
    assert written(capfd)[0].endswith("info    Request  node_id=n1 path='/kv/a status=200'")


def test_fields_are_bounded(capfd: pytest.CaptureFixture[str]) -> None:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    set_up().info("x" * 5000, a="y" * 1_000_000, b=b"z" * 1_000_000, c=list(range(100_000)), d=deep, e=1 << 100_000)
    (line,) = written(capfd)
    assert len(line) < 8_000
    event = json.loads(line)
    assert event["a"] == "y" * 1024 + "…"
    assert event["e"] == "an integer of 100001 bits"


def test_odd_values(capfd: pytest.CaptureFixture[str]) -> None:
    set_up().info("x", nan=float("nan"), inf=float("-inf"), obj=ValueError("v"), nothing=None, yes=True, items={1})
    event = one(capfd)
    expected = {"nan": "nan", "inf": "-inf", "obj": "v", "nothing": None, "yes": True, "items": [1]}
    assert {key: event[key] for key in expected} == expected


def test_levels_change_live(capfd: pytest.CaptureFixture[str]) -> None:
    log = set_up(level="warning")
    log.info("one")
    log.warning("two")
    logs.set_level("debug")
    log.debug("three")
    logs.set_level("error")
    log.warning("four")
    log.error("five")
    assert [json.loads(line)["event"] for line in written(capfd)] == ["two", "three", "five"]


def test_tracebacks(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        try:
            raise ValueError("bad\n2024-01-01T00:00:00.000Z error forged")
        except ValueError:
            structlog.get_logger().exception("Failed")

    set_up()
    fail()
    event = one(capfd)
    assert event["level"] == "error"
    assert "ValueError: bad" in event["exception"]
    set_up("console")
    fail()
    first, *rest = written(capfd)
    assert "error   Failed" in first
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_libraries_speak_through_the_same_log(capfd: pytest.CaptureFixture[str]) -> None:
    set_up()
    logging.getLogger("aiohttp.server").error("Error %s", "one\ntwo")
    logging.getLogger("apscheduler").info("chatter")
    logging.getLogger("asyncio").critical("wrong format %d", "x")
    first, second = (json.loads(line) for line in written(capfd))
    assert (first["event"], first["logger"], first["level"]) == ("Error one\ntwo", "aiohttp.server", "error")
    assert second["event"] == "wrong format %d"
    logs.set_level("debug")
    logging.getLogger("asyncio").debug("chatter")
    assert one(capfd)["event"] == "chatter"


def test_timers_that_run_are_no_events(capfd: pytest.CaptureFixture[str]) -> None:
    set_up()
    logs.set_level("debug")
    logging.getLogger("apscheduler.executors.default").info("Running job")
    logging.getLogger("apscheduler.executors.default").error("Job raised an exception")
    assert one(capfd)["event"] == "Job raised an exception"


def test_a_crash_is_an_event(capfd: pytest.CaptureFixture[str]) -> None:
    set_up()
    logs.log_crash(KeyError, KeyError("k"), None)
    event = one(capfd)
    assert (event["event"], event["exception"]) == ("Crashed", "KeyError: 'k'")


def test_lines_that_cannot_be_written_are_counted(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = set_up()
    real_write = os.write
    room = 10

    def write_to_a_full_disk(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(28, "No space left on device")
        count = real_write(descriptor, data[:room])
        room -= count
        return count

    monkeypatch.setattr(os, "write", write_to_a_full_disk)
    log.info("torn")
    log.info("lost")
    monkeypatch.undo()
    log.info("whole")
    torn, whole, note = written(capfd)
    assert len(torn) == 10
    assert json.loads(whole)["event"] == "whole"
    assert json.loads(note)["lines"] == 2


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_auto_is_console_on_a_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setattr(os, "isatty", lambda _: True)
    monkeypatch.setenv("NO_COLOR", no_color)
    set_up("auto").info("x")
    (line,) = written(capfd)
    assert ("\x1b[32m" in line) == coloured
    assert "info" in line
    set_up("json").info("x")
    assert one(capfd)["event"] == "x"


def test_a_value_that_cannot_be_shown(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    set_up().info("x", value=Broken())
    assert one(capfd)["value"] == "<Broken>"
