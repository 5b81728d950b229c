"""Reading a configuration file: the bytes, the YAML, and the line of every setting.

Messages never quote more of the file than the name of a setting, because a broken line may hold a secret.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from kvs.errors import ConfigError, Problem

_FILE_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """A setting's YAML value and its line, counted from 1."""

    value: object
    line: int


@dataclass(frozen=True)
class ConfigFile:
    """What a file says. `mode` holds its permission bits."""

    entries: dict[str, Entry] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    mode: int = 0o600


def read_config_file(path: Path) -> ConfigFile:
    """Raises ConfigError where the file as a whole cannot be read; what is wrong inside is in `problems`."""
    data, mode = _read_bytes(path)
    text = _decode(path, data)
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(str(path), [Problem("is not valid YAML: it holds a control character", line)]) from None
    try:
        root = loader.get_single_node()
        if root is None:
            return ConfigFile(mode=mode)
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(str(path), [Problem("expected lines of the form name: value", _line(root))])
        file = ConfigFile(mode=mode)
        for key, value in root.value:
            _read_entry(loader, key, value, file)
        return file
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [_yaml_problem(error)]) from None
    except RecursionError:
        raise ConfigError(str(path), [Problem("not a configuration: nested too deeply")]) from None
    finally:
        loader.dispose()


def _read_bytes(path: Path) -> tuple[bytes, int]:
    try:
        # A FIFO or a device must not block or act on being opened; the mode is that of the very file that is read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(str(path), [Problem(f"cannot be read: {reason}")]) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(str(path), [Problem("cannot be read: it is not a file")])
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), [Problem(f"cannot be read: {error.strerror}")]) from None
    finally:
        os.close(descriptor)
    if len(data) > _FILE_MAX_BYTES:
        raise ConfigError(str(path), [Problem(f"cannot be read: larger than {_FILE_MAX_BYTES} bytes")])
    return data, stat.S_IMODE(status.st_mode)


def _decode(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(str(path), [Problem("is not UTF-8 text; save it as UTF-8", line)]) from None


def _read_entry(loader: yaml.SafeLoader, key: yaml.Node, value: yaml.Node, file: ConfigFile) -> None:
    line = _line(key)
    if not isinstance(key, yaml.ScalarNode):
        file.problems.append(Problem("the name of a setting must be a plain word", line))
        return
    name = str(key.value)
    if name in file.entries:
        file.problems.append(
            Problem(f"{shown_name(name)} is given twice, first in line {file.entries[name].line}", line)
        )
        return
    try:
        content = loader.construct_object(value, deep=True)
    except (yaml.YAMLError, ValueError, TypeError):
        file.problems.append(Problem(f"{shown_name(name)}: the value cannot be understood; put it in quotes", line))
        return
    file.entries[name] = Entry(content, line)


def shown_name(name: str) -> str:
    """`name`, safe to show: bounded, without control characters."""
    short = name if len(name) <= 60 else name[:60] + "…"
    return short if short.isprintable() and short else repr(short)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _yaml_problem(error: yaml.YAMLError) -> Problem:
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem("is not valid YAML")
    what = re.sub(r"'(?!<|\\.')[^']{2,}'", "…", error.problem or "unreadable")  # '<scalar>' and '\t' may stay
    mark = error.problem_mark or error.context_mark
    return Problem(f"is not valid YAML: {what}", mark.line + 1 if mark else None)
