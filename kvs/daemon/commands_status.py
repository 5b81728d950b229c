"""kvs status, kvs logs."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from kvs.daemon.failure import FAILED, NOT_FOUND, OK, Failed

if TYPE_CHECKING:
    from kvs.daemon.home import Home
    from kvs.daemon.instances import Instance

_HEALTH_TIMEOUT_S = 2.0


@click.command()
@click.argument("config", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object with CONFIG, else a list of them.")
def status(config: str | None, as_json: bool) -> int:
    """Show whether the node of CONFIG runs, or every known node.

    RUNNING: the process lives. STALE: it is gone and left its PID file behind. STOPPED: there is none. Exit code 3 if
    the node of CONFIG does not run.
    """
    from kvs.daemon.home import Home
    from kvs.daemon.instances import State, all_instances, config_of, inspect

    home = Home.of(os.environ)
    if config is not None:
        instance = inspect(home, config_of(config, home))
        row = _row(home, instance)
        click.echo(json.dumps(row) if as_json else _table([row]))
        return OK if instance.state is State.RUNNING else NOT_FOUND
    instances, problems = all_instances(home)
    rows = [_row(home, instance) for instance in instances]
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        click.echo(_table(rows))
    elif not problems:
        click.echo(f"no node is known in {home.root}", err=True)
    for problem in problems:
        click.echo(f"kvs: {problem}", err=True)
    return FAILED if problems else OK


def _row(home: "Home", instance: "Instance") -> dict[str, Any]:
    from kvs.daemon.health import ask_health
    from kvs.daemon.process import uptime_s

    running = instance.running
    health = ask_health(running.url, running.certificate, _HEALTH_TIMEOUT_S) if running else None
    uptime = uptime_s(running.pid) if running else None
    url = running.url if running else ""
    return {
        "name": instance.name,
        "state": instance.state.value,
        "pid": instance.info.pid if instance.info else None,
        "url": url or None,
        "address": urlsplit(url).netloc or None,
        "mode": _mode(running.url, health) if running else None,
        "uptime_seconds": None if uptime is None else round(uptime, 1),
        "node_id": health.get("node_id") if health else None,
        "version": health.get("version") if health else None,
        "config": str(instance.config),
        "log": str(home.log_file(instance.config)),
    }


def _mode(url: str, health: dict[str, object] | None) -> object:
    if not url:
        return "starting"
    return health.get("mode") if health else "no answer"


def _table(rows: list[dict[str, Any]]) -> str:
    from kvs.daemon.table import table

    heads = ("NAME", "STATE", "PID", "ADDRESS", "MODE", "UPTIME", "CONFIG")
    cells = [
        (
            row["name"],
            row["state"],
            str(row["pid"] or "-"),
            row["url"] or "-",
            str(row["mode"] or "-"),
            _uptime(row["uptime_seconds"]),
            row["config"],
        )
        for row in rows
    ]
    return table(heads, cells)


def _uptime(seconds: float | None) -> str:
    from kvs.durations import format_duration
    from kvs.types import Millis

    if seconds is None:
        return "-"
    return format_duration(Millis(int(seconds) * 1000)) if seconds >= 1 else "0s"


@click.command()
@click.argument("config", type=click.Path())
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is written, also after a rotation.")
@click.option("-n", "--lines", type=click.IntRange(0, 1_000_000), default=100, show_default=True, help="How many.")
def logs(config: str, follow: bool, lines: int) -> int:
    """Show the last lines of the log of CONFIG's daemon."""
    from kvs.daemon.home import Home
    from kvs.daemon.instances import config_of
    from kvs.daemon.logfile import last_lines

    home = Home.of(os.environ)
    path = home.log_file(config_of(config, home))
    try:
        data = last_lines(path, lines)
    except FileNotFoundError:
        raise Failed(f"no log yet: {path}", NOT_FOUND) from None
    if follow:
        _follow(path, lines)
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return OK


def _follow(path: Path, lines: int) -> None:
    """Become `tail -F`, which waits for events of the file system and survives a rotation."""
    tail = shutil.which("tail")
    if tail is None:
        raise Failed("cannot follow the log: there is no program `tail` here")
    os.execv(tail, [tail, "-n", str(lines), "-F", "--", str(path)])  # noqa: S606 - no shell is wanted
