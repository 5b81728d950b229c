"""The table of settings, and the default file made from it."""

from pathlib import Path

import pytest
import yaml

from kvs.config import Config, load
from kvs.config_text import default_text, effective_text
from kvs.settings import DEFAULTS, SECTIONS, SETTINGS

ROOT = Path(__file__).parents[2]


def test_the_example_is_the_default_text() -> None:
    assert (ROOT / "config.example.yaml").read_text() == default_text()


def test_nothing_is_set_but_a_secret_that_is_given() -> None:
    assert yaml.safe_load(default_text()) is None
    assert yaml.safe_load(default_text(cluster_secret="a+b/c=")) == {"cluster_secret": "a+b/c="}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_default_is_valid_and_reads_back(name: str) -> None:
    setting = SETTINGS[name]
    assert setting.kind.read(setting.kind.plain(DEFAULTS[name]), Path()) == DEFAULTS[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_line_of_the_default_file_may_be_switched_on(name: str, tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(default_text().replace(f"\n#{name}: ", f"\n{name}: "))
    file.chmod(0o600)
    config = load(file, {})
    file.write_text(default_text())
    unchanged = load(file, {})
    assert config.origins[name] == "file"
    assert getattr(config, name) == getattr(unchanged, name)


def test_every_setting_is_described() -> None:
    for name, setting in SETTINGS.items():
        assert setting.doc.endswith("."), name
        assert f"{name}: " in default_text()


def test_sections_name_settings() -> None:
    assert [section.first for section in SECTIONS if section.first not in SETTINGS] == []
    assert SECTIONS[0].first == next(iter(SETTINGS))


def test_the_effective_text_is_yaml_that_loads_to_the_same(tmp_path: Path) -> None:
    file, again = tmp_path / "node.yaml", tmp_path / "again.yaml"
    file.write_text(default_text())
    config = load(
        file,
        {"KVS_NODE_ID": "on", "KVS_TAMPER_LOG_ACTIONS": "backup,restore", "KVS_PORT": "0"},
    )
    again.write_text(effective_text(config))
    again.chmod(0o600)
    assert load(again, {}).masked() == config.masked()


def test_a_configuration_may_be_made_without_a_file() -> None:
    config = Config(port=0, auth_enabled=False)
    assert (config.port, config.path, config.origins) == (0, None, {})
