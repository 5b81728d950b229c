"""Which node commands ask when nothing else is said: named contexts in `~/.kvs/client.yaml`.

    current: home
    contexts:
      home:
        url: https://10.0.0.2:8080,https://10.0.0.3:8080
        token: eyJ…
        ca_file: /home/ada/certs/ca.pem

A file may also name one node without a name for it, by `url`, `token` and `ca_file` at the top; that one is used where
no context is the current one.

What is given on the command line goes before the variables of the environment, and these before the context. But the
token and the CA of a context are for its own nodes: they are used with the URL of one of these, and not with another
URL, which would get the token.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from kvs.daemon.failure import NOT_FOUND, Failed
from kvs.daemon.files import create_own, make_own_folder, open_own
from kvs.daemon.home import Home

DEFAULT_URL = "http://127.0.0.1:8080"
_FIELDS = ("url", "token", "ca_file")
_FILE_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Context:
    """`url` may name several nodes of one cluster, separated by commas. Empty fields are not set."""

    url: str
    token: str = ""
    ca_file: str = ""


@dataclass
class Contexts:
    """The file, as it is in memory. `current` is the name of one, or empty; `nameless` is used where it is empty."""

    current: str = ""
    by_name: dict[str, Context] = field(default_factory=dict)
    nameless: Context = Context("")


def client_file() -> Path:
    return Home.of(os.environ).root / "client.yaml"


def load(path: Path) -> Contexts:
    """None of them if there is no file. Raises Failed for a file that is not as described above."""
    import yaml

    try:
        descriptor = open_own(path, os.O_RDONLY)
    except FileNotFoundError:
        return Contexts()
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_mode & 0o077:
            click.echo(f"kvs: others can read {path}, and with it tokens: chmod it to 0600", err=True)
        text = file.read(_FILE_MAX_BYTES)
    try:
        document = yaml.safe_load(text)
        return _contexts({} if document is None else document)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is no YAML"
        raise Failed(f"{path}: {reason}") from None


def save(path: Path, contexts: Contexts) -> None:
    """Replace the file by one rename. Raises Failed."""
    import yaml

    shown = {name: _shown(one) for name, one in contexts.by_name.items()}
    document: dict[str, Any] = _shown(contexts.nameless)
    if contexts.current:
        document["current"] = contexts.current
    text = yaml.safe_dump({**document, "contexts": shown}, sort_keys=False, allow_unicode=True)
    make_own_folder(path.parent)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        create_own(fresh, text.encode())
        fresh.replace(path)
    except OSError as error:
        raise Failed(f"cannot write {path}: {error.strerror}") from None


def chosen(url: str | None, token: str, ca_file: Path | None, name: str | None) -> Context:
    """The node to ask, given what the command line and the environment say. Raises Failed."""
    contexts = Contexts() if url is not None and token and name is None else load(client_file())
    name = name or contexts.current
    if not name:
        context = contexts.nameless
    elif name in contexts.by_name:
        context = contexts.by_name[name]
    else:
        raise unknown(name)
    if url is not None and url != context.url:
        context = replace(context, url=url) if _are_among(url, context) else Context(url)
    return Context(
        context.url or DEFAULT_URL, token or context.token, context.ca_file if ca_file is None else str(ca_file)
    )


def _are_among(url: str, context: Context) -> bool:
    """Whether all nodes of `url` are nodes of the context, written as there but for a slash at the end."""
    return {one.strip().rstrip("/") for one in url.split(",")} <= set(context.url.split(","))


def unknown(name: str) -> Failed:
    return Failed(f"there is no context {name!r}; kvs context list shows them", NOT_FOUND)


def _contexts(document: object) -> Contexts:
    """Raises ValueError."""
    if not isinstance(document, Mapping):
        raise ValueError("it is no mapping")
    if strange := sorted(map(str, document.keys() - {"current", "contexts", *_FIELDS})):
        raise ValueError(f"it has the unknown member {strange[0]!r}")
    shown = document.get("contexts") or {}
    if not isinstance(shown, Mapping):
        raise ValueError("contexts is no mapping")
    by_name = {str(name): _context(str(name), one) for name, one in shown.items()}
    return Contexts(str(document.get("current") or ""), by_name, _read(document))


def _context(name: str, shown: object) -> Context:
    if not isinstance(shown, Mapping) or not isinstance(shown.get("url"), str):
        raise ValueError(f"the context {name!r} has no url")
    if strange := sorted(map(str, shown.keys() - set(_FIELDS))):
        raise ValueError(f"the context {name!r} has the unknown member {strange[0]!r}")
    return _read(shown)


def _read(shown: Mapping[Any, Any]) -> Context:
    return Context(*(str(shown.get(field_name) or "") for field_name in _FIELDS))


def _shown(context: Context) -> dict[str, str]:
    return {field_name: value for field_name in _FIELDS if (value := getattr(context, field_name))}
