"""kvs config init, check, show."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvs.daemon.failure import OK

if TYPE_CHECKING:
    from kvs.config import Check, Config

_config = click.argument("word", metavar="FILE", type=click.Path())


@click.group()
def config() -> None:
    """Make, check and show configuration files."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def init(file: Path) -> int:
    """Write a configuration with every setting, its default and meaning, to FILE, which must not exist."""
    from kvs.daemon.config_creation import create_config

    create_config(file)
    return OK


@config.command()
@_config
def check(word: str) -> int:
    """Check FILE together with the environment, and report every problem with its line."""
    from kvs.daemon.certificate_check import certificate_problems
    from kvs.daemon.local import config_file

    file = config_file(word)
    _load(file, certificate_problems)
    click.echo(f"{file}: ok", err=True)
    return OK


@config.command()
@_config
def show(word: str) -> int:
    """Show the value of every setting and where it comes from: default, file or environment. Secrets are masked."""
    from kvs.config_text import effective_text
    from kvs.daemon.local import config_file

    click.echo(effective_text(_load(config_file(word))), nl=False)
    return OK


def _load(file: Path, check: "Check | None" = None) -> "Config":
    from kvs.config import load

    loaded = load(file, os.environ, check)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    return loaded
