"""Loading the configuration: environment over file over default, every problem at once.

`load` is the only way from the outside to a `Config`; nothing else of the program reads a setting from the environment.
"""

import difflib
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kvs.config_file import ConfigFile, Entry, read_config_file, shown_name
from kvs.errors import ConfigError, Problem
from kvs.limits import SECRET_MIN_BYTES
from kvs.setting_checks import tls_problems
from kvs.setting_kinds import Text, Texts, WrongItems
from kvs.settings import DEFAULTS, SETTINGS, Setting, Settings

ENVIRONMENT_PREFIX = "KVS_"
INTERNAL_PREFIX = "KVS_INTERNAL_"
"""Variables that one KVS process hands to another."""
_NO_SETTINGS = {"KVS_HOME", "KVS_URL", "KVS_TOKEN", "KVS_CA_FILE", "KVS_CONTEXT"}

_NOT_ABOVE = (
    ("gossip_interval_min", "gossip_interval_max"),
    ("probe_timeout_ms", "probe_interval_ms"),
    ("suspicion_timeout", "member_timeout"),
)
_MASK = "********"


@dataclass(frozen=True)
class Config(Settings):
    """All settings and where they came from. `repr` leaves secrets out.

    `path` is the file. `origins` says for each setting `default`, `file` or `environment`. `warnings` are sentences
    for the operator about what is allowed but has no effect.
    """

    path: Path | None = None
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def other_seeds(self) -> tuple[str, ...]:
        """The seeds beside this node itself: one file may serve all nodes of a cluster."""
        own = self.advertise_address or f"{self.bind_address}:{self.port}"
        return tuple(seed for seed in self.seed_nodes if seed != own)

    @property
    def certificate_file(self) -> Path | None:
        """The certificate that the node serves HTTPS with, under whichever name it was set; None: HTTP."""
        return self.tls_cert_file or self.cluster_tls_cert_file

    @property
    def key_file(self) -> Path | None:
        return self.tls_key_file or self.cluster_tls_key_file

    def masked(self) -> dict[str, object]:
        """Every setting as it is written in YAML, secrets masked."""
        shown = {name: setting.kind.plain(getattr(self, name)) for name, setting in SETTINGS.items()}
        return {name: _MASK if value and SETTINGS[name].secret else value for name, value in shown.items()}


Check = Callable[[Config], Iterable[tuple[str, str]]]
"""Finds what is wrong with what a configuration leads to: (setting, problem)."""


def load(path: Path, environ: Mapping[str, str], check: Check | None = None) -> Config:
    """The effective configuration of the file at `path`, with a further `check` of its TLS settings.

    Raises ConfigError with every problem found, each with its line.
    """
    loading = _Loading(path)
    file = read_config_file(path)
    loading.problems.extend(file.problems)
    for name, entry in file.entries.items():
        loading.take_from_file(name, entry, file)
    for variable in sorted(environ):
        if variable.startswith(ENVIRONMENT_PREFIX):
            loading.take_from_environment(variable, environ[variable])
    loading.check_together()
    loading.check_tls()
    loading.fill_in()
    if check is not None:
        loading.check_files(check)
    if loading.problems:
        raise ConfigError(str(path), sorted(loading.problems, key=lambda problem: problem.line or 0))
    return loading.result()


class _Loading:
    """The values read so far, and what is wrong with them. A value that is wrong stays at its default."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        folder = self.path.parent
        self.values: dict[str, Any] = {
            name: folder / default if isinstance(default, Path) else default for name, default in DEFAULTS.items()
        }
        self.origins = dict.fromkeys(SETTINGS, "default")
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.bad: set[str] = set()

    def take_from_file(self, name: str, entry: Entry, file: ConfigFile) -> None:
        if name not in SETTINGS:
            problem = f"{shown_name(name)} is not a setting{_closest(name, list(SETTINGS))}"
            self.problems.append(Problem(problem, entry.line))
            return
        self.lines[name] = entry.line
        self._take(name, entry.value, "file", name)
        if SETTINGS[name].secret and entry.value and file.mode & 0o077:
            problem = f"{name}: the file holds a secret and others may read it (mode {file.mode:04o}); chmod it to 0600"
            self.problems.append(Problem(problem, entry.line))

    def take_from_environment(self, variable: str, text: str) -> None:
        if variable in _NO_SETTINGS or variable.startswith(INTERNAL_PREFIX):
            return
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in SETTINGS or variable != variable.upper():
            known = [ENVIRONMENT_PREFIX + setting.upper() for setting in SETTINGS]
            self.warnings.append(f"environment variable {shown_name(variable)} is unknown{_closest(variable, known)}")
            return
        self.lines.pop(name, None)
        where = f"environment variable {variable}"
        try:
            value = _from_text(SETTINGS[name], text)
        except (yaml.YAMLError, ValueError, RecursionError):
            self._wrong(name, f"{where}: expected {SETTINGS[name].kind.expected}")
            return
        self._take(name, value, "environment", where)

    def _take(self, name: str, value: object, origin: str, where: str) -> None:
        setting = SETTINGS[name]
        try:
            self.values[name] = setting.kind.read(value, self.path.parent)
            self.origins[name] = origin
        except WrongItems as error:
            for number, item, expected in error.items:
                self._wrong(name, f"{where}: item {number}: expected {expected}, not {_shown(item)}")
        except ValueError as error:
            given = _type_name(value) if setting.secret else _shown(value)
            self._wrong(name, f"{where}: expected {error}, not {given}{_quotes_hint(setting, value)}")

    def _wrong(self, name: str, message: str) -> None:
        self.bad.add(name)
        self.problems.append(Problem(message, self.lines.get(name)))

    def check_together(self) -> None:
        for low, high in _NOT_ABOVE:
            if not {low, high} & self.bad and self.values[low] > self.values[high]:
                message = f"{low} ({self.values[low]}) must not be above {high} ({self.values[high]})"
                self._wrong(low if low in self.lines else high, message)

        if self.values["clustering_enabled"] and self.values["seed_nodes"] and "cluster_secret" not in self.bad:
            if len(self.values["cluster_secret"].encode()) < SECRET_MIN_BYTES:
                self._wrong(
                    "cluster_secret",
                    f"cluster_secret: a cluster with seed_nodes needs one of at least {SECRET_MIN_BYTES} bytes, the "
                    "same on every node; `kvs config init` makes one",
                )
            if 0 < len(self.values["cluster_secret_previous"].encode()) < SECRET_MIN_BYTES:
                self._wrong(
                    "cluster_secret_previous",
                    f"cluster_secret_previous: a former secret still opens the cluster and has at least "
                    f"{SECRET_MIN_BYTES} bytes too",
                )
            if self.values["bind_address"] in ("0.0.0.0", "::") and not self.values["advertise_address"]:  # noqa: S104
                self._wrong(
                    "advertise_address",
                    "advertise_address: peers need one to reach a node that listens on every address",
                )

    def check_tls(self) -> None:
        if not any("tls_" in name for name in self.bad):
            for name, message in tls_problems(self.values):
                self._wrong(name, message)
        if self.values["cluster_tls_skip_verify"]:
            self.warnings.append(
                "cluster_tls_skip_verify: peers are not verified, and whoever stands between two nodes can read the "
                "cluster's secret and all that they tell each other; it is for tests"
            )

    def check_files(self, check: Check) -> None:
        """Only where the settings that name them are right."""
        if not any("tls_" in name for name in self.bad):
            for name, message in check(self.result()):
                self._wrong(name, f"{name}: {message}")

    def fill_in(self) -> None:
        """The defaults that follow from the host or from other settings."""
        if not self.values["node_id"] and "node_id" not in self.bad:
            host_name = socket.gethostname()
            self.values["node_id"] = host_name
            try:
                SETTINGS["node_id"].kind.read(host_name, self.path.parent)
            except ValueError as error:
                self._wrong("node_id", f"node_id: the host's name {host_name!r} cannot be used; set {error}")
        if not self.values["advertise_address"] and self.values["port"]:  # a free port is known only once it is taken
            host, port = self.values["bind_address"], self.values["port"]
            self.values["advertise_address"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def result(self) -> Config:
        return Config(**self.values, path=self.path, warnings=tuple(self.warnings), origins=self.origins)


def _from_text(setting: Setting, text: str) -> object:
    """An environment variable's value: the text itself where the setting is text, else a YAML scalar or list."""
    if setting.kind.raw_text:
        return text
    if isinstance(setting.kind, Texts) and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",")] if text.strip() else []
    return yaml.safe_load(text)


def _closest(name: str, known: list[str]) -> str:
    asked = name.replace("-", "_")
    same_case = asked.upper() if known[0].isupper() else asked.lower()
    matches = difflib.get_close_matches(same_case[:100], known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else ""


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else repr(value[:60]) + "…"
    if isinstance(value, int | float) and abs(value) < 1e18:
        return str(value)
    return _type_name(value)


def _type_name(value: object) -> str:
    names = {str: "this text", int: "this number", float: "this number", list: "a list", dict: "a mapping"}
    return names.get(type(value), "this")


def _quotes_hint(setting: Setting, value: object) -> str:
    """`node_id: 7` is a number to YAML."""
    if isinstance(setting.kind, Text) and isinstance(value, int | float):
        try:
            setting.kind.read(str(value), Path())
        except ValueError:
            return ""
        return "; put it in quotes"
    return ""
