"""The log: one event, one line.

    structlog.get_logger().info("Event", field=value)  ┐
    logging.getLogger(...).warning(...)                ┴─ level ─ fields bounded ─ JSON or console ─ descriptor 1

JSON lines hold `timestamp` (RFC 3339, UTC, milliseconds), `level`, `event`, `node_id`, then the fields. Whatever stands
in a field, it cannot begin a line of its own: JSON is pure ASCII, the console shows control characters as escapes. A
traceback, which only a bug of KVS causes, follows its line in the console format, indented.

A line that cannot be written (a full disk, a closed pipe) is dropped and counted; the daemon goes on, and says how many
were lost with the next line that can be written. The log is the process's own, so its state is global here.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

TEXT_MAX_CHARS = 1024
TRACEBACK_MAX_CHARS = 16 * 1024
_ITEMS_MAX = 100
_DEPTH_MAX = 4
_INT_MAX_BITS = 128

_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:@+-]{1,1024}")


@dataclass
class _State:
    node_id: str = ""
    render: Callable[[dict[str, Any]], str] = json.dumps


_state = _State()


def set_up(*, node_id: str, level: str, log_format: str) -> None:
    """Send every event of the process to standard output. `log_format` is json, console or auto."""
    terminal = os.isatty(1)
    console = log_format == "console" or (log_format == "auto" and terminal)
    colours = terminal and not os.environ.get("NO_COLOR")
    _state.node_id = node_id
    _state.render = (_render_in_colour if colours else _render_plain) if console else _render_json
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _finish],
        logger_factory=lambda *_: _LINES,
        cache_logger_on_first_use=False,  # so that `set_level` reaches the loggers of all modules
    )
    logging.root.handlers[:] = [_FromStandardLibrary()]
    set_level(level)


def set_level(level: str) -> None:
    """Drop what is less important than `level` from now on.

    It takes effect in every logger that a module got from `structlog.get_logger()`, not in one made by `bind` before.
    Libraries are heard from `warning` on, and with everything at `debug`; but not APScheduler, which would tell of
    every timer that runs.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))
    logging.root.setLevel(LEVELS[level] if level == "debug" else max(LEVELS[level], LEVELS["warning"]))
    logging.getLogger("apscheduler").setLevel(max(LEVELS[level], LEVELS["warning"]))


class _Lines:
    """Writes lines to descriptor 1, whatever file that is at the moment."""

    def __init__(self) -> None:
        self._lost = 0
        self._torn = False

    def msg(self, line: str) -> None:
        data = line.encode(errors="backslashreplace") + b"\n"
        if self._torn:
            data = b"\n" + data
        try:
            self._write(data)
        except OSError:
            self._lost += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            structlog.get_logger().warning("Log lines were lost: they could not be written", lines=lost)

    debug = info = warning = error = critical = exception = msg

    def _write(self, data: bytes) -> None:
        """In one call, so that lines of several threads do not mix; only a filling disk makes it more."""
        while data:
            written = os.write(1, data)
            data = data[written:]
            self._torn = bool(data)


_LINES = _Lines()


def show_once(text: str) -> None:
    """Put lines that are not an event where the log goes."""
    _LINES.msg(text)


class _FromStandardLibrary(logging.Handler):
    """Libraries that use `logging` (aiohttp, APScheduler, asyncio) speak through the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # a library's wrong format string is not worth losing the event
            message = str(record.msg)
        method = next((name for name in ("error", "warning", "info") if record.levelno >= LEVELS[name]), "debug")
        getattr(structlog.get_logger(), method)(message, logger=record.name, exc_info=record.exc_info)


def _finish(_logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    traceback = event.pop("exception", None)
    head = {
        "timestamp": now,
        "level": method if method in LEVELS else "error",
        "event": _bounded(str(event.pop("event", ""))),
        "node_id": _state.node_id,
    }
    fields = {key: _bounded(value) for key, value in event.items() if key not in head}
    if traceback is not None:
        fields["exception"] = str(traceback)[-TRACEBACK_MAX_CHARS:]  # its end says what went wrong
    return _state.render({**head, **fields})


def _bounded(value: object, depth: int = _DEPTH_MAX) -> object:
    """`value` in JSON's types, of limited size."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if value.bit_length() <= _INT_MAX_BITS else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset) and not depth:
        return "…"
    if isinstance(value, Mapping):
        return {_text(key): _bounded(item, depth - 1) for key, item in list(value.items())[:_ITEMS_MAX]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_bounded(item, depth - 1) for item in list(value)[:_ITEMS_MAX]]
    return _text(value)


def _text(value: object) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, bytes):
        text = repr(value[: TEXT_MAX_CHARS + 1])
    else:
        try:
            text = str(value)
        except Exception:  # a log line never fails for what it holds
            text = f"<{type(value).__name__}>"
    return text if len(text) <= TEXT_MAX_CHARS else text[:TEXT_MAX_CHARS] + "…"


def _render_json(event: dict[str, Any]) -> str:
    return json.dumps(event)  # ASCII only: no character of a field can act on a terminal or end the line


def _render_plain(event: dict[str, Any], colour: str = "", end: str = "") -> str:
    traceback = event.pop("exception", "")
    timestamp, level, text, node_id = (event.pop(key) for key in ("timestamp", "level", "event", "node_id"))
    fields = "".join(f" {_escaped(key)}={_value(value)}" for key, value in {"node_id": node_id, **event}.items())
    indented = "".join(f"\n    {_escaped(line)}" for line in traceback.split("\n") if line)
    return f"{timestamp} {colour}{level:<7}{end} {_escaped(text)} {fields}{indented}"


def _render_in_colour(event: dict[str, Any]) -> str:
    return _render_plain(event, _COLOURS[event["level"]], "\x1b[0m")


def _value(value: object) -> str:
    return value if isinstance(value, str) and _PLAIN_VALUE.fullmatch(value) else repr(value)


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def log_crash(kind: type[BaseException], error: BaseException, *_: object) -> None:
    """For exceptions that nobody caught: a bug, in the log like everything else."""
    structlog.get_logger().error("Crashed", exc_info=(kind, error, error.__traceback__))


def catch_crashes() -> None:
    """Log what no code of any thread caught, and what Python warns of."""
    import threading

    sys.excepthook = log_crash
    threading.excepthook = lambda args: log_crash(args.exc_type, args.exc_value or args.exc_type())
    logging.captureWarnings(True)
