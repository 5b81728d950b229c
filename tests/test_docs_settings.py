"""The documentation names every setting with its default, every command, every option and every exit code."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kvs.config_text import yaml_value
from kvs.daemon import failure
from kvs.daemon.cli import cli
from kvs.settings import DEFAULTS, SECTIONS, SETTINGS

DOCS = Path(__file__).parents[1] / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text()
OPERATIONS = (DOCS / "operations.md").read_text()


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        yield path, command


COMMANDS = dict(commands(cli, "kvs"))


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_a_row_with_its_default_and_meaning(name: str) -> None:
    setting = SETTINGS[name]
    default = yaml_value(setting.kind.plain(DEFAULTS[name]))
    (row,) = re.findall(rf"^\| `{name}` \|.*$", CONFIGURATION, re.MULTILINE)
    assert f"| `{default}` |" in row
    assert setting.doc in row
    assert ("Changes live." in row) == setting.live
    assert setting.unit in row


def test_no_row_names_a_setting_that_is_gone() -> None:
    assert re.findall(r"^\| `([a-z0-9_]+)` \|", CONFIGURATION, re.MULTILINE) == list(SETTINGS)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_says_what_this_version_lacks(section: tuple[str, str, str]) -> None:
    _, title, waits_for = section
    text = CONFIGURATION.partition(f"\n### {title}\n")[2].partition("\n###")[0]
    assert text
    assert waits_for in text
    assert bool(waits_for) == ("does not have" in text)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_described(path: str) -> None:
    assert f"| `{path} " in OPERATIONS
    for parameter in COMMANDS[path].params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert f"`{option}" in OPERATIONS or f"`{option} " in OPERATIONS, (path, option)


def test_every_command_has_help() -> None:
    assert [path for path, command in COMMANDS.items() if not command.help] == []


def test_exit_codes() -> None:
    codes = {value for name, value in vars(failure).items() if name.isupper()}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", OPERATIONS, re.MULTILINE)} == codes
