"""The documentation names every setting with its default and meaning."""

import re
from pathlib import Path

import pytest

from kvs.config_text import yaml_value
from kvs.settings import DEFAULTS, SECTIONS, SETTINGS

CONFIGURATION = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()


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
def test_every_section_is_told_of(section: tuple[str, str]) -> None:
    _, title = section
    assert CONFIGURATION.partition(f"\n### {title}\n")[2].partition("\n###")[0]
