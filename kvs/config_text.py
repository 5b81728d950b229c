"""Configurations as text: the commented default file and the effective values."""

import json
import re
import textwrap

import yaml

from kvs.config import Config
from kvs.settings import DEFAULTS, SECTIONS, SETTINGS, Section

_WIDTH = 110
_HEAD = """\
# The configuration of one KVS node.
#
# Every setting stands here with its default. To change one, take the "#" away and write another value.
# An environment variable KVS_<NAME>, such as KVS_PORT, goes before the file.
# Paths are relative to the folder of this file. Durations are written like 300ms, 90s, 1h30m, 7d or 0.
# `kvs config check FILE` finds every mistake, `kvs config show FILE` shows what is in effect.
"""


def default_text(cluster_secret: str = "") -> str:
    """A configuration file with every setting at its default, commented out; it loads as it stands. A secret that is
    given is set in it."""
    given = {"cluster_secret": cluster_secret} if cluster_secret else {}
    sections = {section.first: section for section in SECTIONS}
    lines = [_HEAD]
    for name, setting in SETTINGS.items():
        if name in sections:
            lines.append(_heading(sections[name]))
        lines.extend(textwrap.wrap(setting.doc, _WIDTH, initial_indent="# ", subsequent_indent="# "))
        value = yaml_value(given.get(name, setting.kind.plain(DEFAULTS[name])))
        unit = f"  # {setting.unit}" if setting.unit else ""
        lines.append(f"{'' if name in given else '#'}{name}: {value}{unit}\n")
    return "\n".join(lines).rstrip("\n") + "\n"


def _heading(section: Section) -> str:
    return f"# --- {section.title} ".ljust(_WIDTH, "-") + "\n"


def effective_text(config: Config) -> str:
    """YAML: every setting's effective value, secrets masked, and where it came from."""
    lines = [f"{name}: {yaml_value(value)}" for name, value in config.masked().items()]
    width = min(max(map(len, lines)), 60)
    origins = [config.origins.get(name, "default") for name in SETTINGS]
    return "".join(f"{line.ljust(width)}  # {origin}\n" for line, origin in zip(lines, origins, strict=True))


def yaml_value(value: object) -> str:
    """`value` in YAML, on one line."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z./][A-Za-z0-9_./-]*", value):
        return value if yaml.safe_load(value) == value else json.dumps(value)  # `on` and `null` are words to YAML
    if isinstance(value, list):
        return "[" + ", ".join(map(yaml_value, value)) + "]"
    return json.dumps(value)
