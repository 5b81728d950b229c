"""kvs start, stop, restart."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from kvs.daemon.failure import FAILED, OK, USAGE, Failed
from kvs.errors import ConfigError

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
"""Longer than a node takes to answer what is under way and to close its store (10 s)."""

_F = TypeVar("_F", bound=Callable[..., int])

_configs = click.argument("configs", metavar="CONFIG...", nargs=-1, required=True, type=click.Path())


def _timeout(default_s: float, text: str) -> Callable[[_F], _F]:
    return click.option(
        "--timeout",
        type=click.FloatRange(0, 86_400),
        default=default_s,
        show_default=True,
        metavar="SECONDS",
        help=text,
    )


_force = click.option("--force", is_flag=True, help="Kill it with SIGKILL if it does not end in time.")


@click.command()
@_configs
@_timeout(_START_TIMEOUT_S, "How long to wait until the node serves.")
def start(configs: tuple[str, ...], timeout: float) -> int:
    """Start the node of each CONFIG as a daemon.

    Returns once every node answers requests. The extension .yaml may be left out.
    """
    from kvs.daemon import daemonize

    return _each(configs, lambda home, path, note: daemonize.start(home, path, timeout, note))


@click.command()
@_configs
@_timeout(_STOP_TIMEOUT_S, "How long to wait for a clean end.")
@_force
def stop(configs: tuple[str, ...], timeout: float, force: bool) -> int:
    """Stop the daemon of each CONFIG with SIGTERM and wait for its end."""
    from kvs.daemon import stopping
    from kvs.daemon.instances import inspect

    return _each(configs, lambda home, path, note: stopping.stop(home, inspect(home, path), timeout, note, force=force))


@click.command()
@_configs
@_timeout(_START_TIMEOUT_S, "How long to wait until the node serves.")
@click.option(
    "--stop-timeout",
    type=click.FloatRange(0, 86_400),
    default=_STOP_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a clean end.",
)
@_force
def restart(configs: tuple[str, ...], timeout: float, stop_timeout: float, force: bool) -> int:
    """Stop the daemon of each CONFIG if it runs, then start it.

    A configuration or a certificate that cannot be used is found before the running node is stopped.
    """
    import os

    from kvs.config import load
    from kvs.daemon import daemonize, stopping
    from kvs.daemon.certificate_check import certificate_problems
    from kvs.daemon.home import Home
    from kvs.daemon.instances import inspect

    def restart_one(home: Home, path: Path, note: Callable[[str], None]) -> str:
        load(path, os.environ, certificate_problems)
        instance = inspect(home, path)
        if instance.running:
            note(stopping.stop(home, instance, stop_timeout, note, force=force))
        return daemonize.start(home, path, timeout, note)

    return _each(configs, restart_one)


def _each(configs: tuple[str, ...], act: Callable[..., str]) -> int:
    """Do `act` for every configuration, report each, go on after a failure."""
    import os

    from kvs.daemon.home import Home
    from kvs.daemon.instances import config_of

    home = Home.of(os.environ)
    failures: list[int] = []
    for word in configs:

        def say(line: str, *, err: bool = True, word: str = word) -> None:
            click.echo(f"{word}: {line}".encode(errors="backslashreplace"), err=err)

        try:
            say(act(home, config_of(word, home), say), err=False)
        except ConfigError as error:
            for line in error.lines():
                say(line)
            failures.append(USAGE)
        except Failed as error:
            say(str(error))
            failures.append(error.exit_code)
    if not failures:
        return OK
    return failures[0] if len(configs) == 1 else FAILED
