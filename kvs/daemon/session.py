"""What the commands share that ask a node: which node they ask, as whom, and how they show what it answers."""

import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import click

from kvs.daemon.failure import NOT_FOUND, OK, USAGE, Failed, failed

if TYPE_CHECKING:
    from kvs.client import Client
    from kvs.daemon.trust import Trust

_RETRY_S = 2.0
"""A node that is restarted just now is waited for, and hardly more than that."""
_LONG_RETRY_S = 30.0
_TIMEOUT_S = 10.0
_NONE: Mapping[str, str] = MappingProxyType({})


class Way(NamedTuple):
    """How a node is asked: where, with which header fields, and whom it is believed to be. `url` may name several nodes
    of one cluster, separated by commas."""

    url: str
    headers: Mapping[str, str]
    trust: "Trust"

    def at(self, address: str) -> "Way":
        """Another node of the cluster, asked in the same way."""
        return self._replace(url=f"{self.url.partition('://')[0]}://{address}")


class Session:
    """One node, asked with one credential."""

    def __init__(self, client: "Client", way: Way, *, as_json: bool) -> None:
        self.client = client
        self.way = way
        self.as_json = as_json

    def user_uuid(self, ref: str) -> str:
        """The uuid that is given, or that of the user with this nickname. Raises Failed."""
        return self._uuid(ref, "users", "nickname", "user")

    def group_uuid(self, ref: str) -> str:
        """The uuid that is given, or that of the group with this name. Raises Failed."""
        return self._uuid(ref, "groups", "groupname", "group")

    def _uuid(self, ref: str, resource: str, by: str, kind: str) -> str:
        try:
            return str(UUID(ref))
        except ValueError:
            for found in self.client.pages(f"/api/{resource}", resource, {by: ref}):
                return str(found["uuid"])
        raise Failed(f"there is no {kind} {ref!r}", NOT_FOUND)

    def done(self, document: Mapping[str, str]) -> int:
        """Say that something was done: words are not data."""
        if self.as_json:
            click.echo(json.dumps(document))
        else:
            click.echo(" ".join(f"{done} {what}" for done, what in document.items()), err=True)
        return OK

    def print_one(self, document: Mapping[str, Any]) -> int:
        if self.as_json:
            click.echo(json.dumps(document))
            return OK
        for name, value in document.items():
            text = ", ".join(value) if isinstance(value, list) else str(value)
            click.echo(f"{name + ':':16}{time_text(value) if name.endswith('_at') else text}")
        return OK

    def print_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        heads: Sequence[str],
        cells: Callable[[Mapping[str, Any]], Sequence[str]],
    ) -> int:
        from kvs.daemon.table import table

        click.echo(json.dumps(list(rows)) if self.as_json else table(heads, [cells(row) for row in rows]))
        return OK


def in_session(command: Callable[..., int]) -> Callable[..., int]:
    """Gives a command the options that say which node is asked and as whom, and a Session as its first argument."""
    return _in_session(command, may_be_open=False)


def in_open_session(command: Callable[..., int]) -> Callable[..., int]:
    """As `in_session`, for what a node that asks nobody for a token answers too."""
    return _in_session(command, may_be_open=True)


def in_remote_session(command: Callable[..., int]) -> Callable[..., int]:
    """As `in_open_session`, for what has its own way to a node of this host."""

    @_url
    @_token
    @_ca_file
    @_context
    @_json
    @functools.wraps(command)
    def with_session(
        url: str | None, token: str, ca_file: Path | None, context: str | None, as_json: bool, **arguments: Any
    ) -> int:
        way = way_of(url, token, ca_file, context)
        with asking(way) as client:
            return command(Session(client, way, as_json=as_json), **arguments)

    return with_session


def way_of(url: str | None, token: str, ca_file: Path | None, context: str | None) -> Way:
    """How the node is asked that the options, or the context, name. Raises Failed."""
    from kvs.daemon.contexts import chosen
    from kvs.daemon.trust import Trust

    node = chosen(url, token, ca_file, context)
    trust = Trust(Path(node.ca_file) if node.ca_file else None)
    return Way(node.url, authorization_field(f"Bearer {node.token}" if node.token else ""), trust)


class _Setting(click.Option):
    """White space around a variable of the environment is no part of it: files of secrets end with a line end."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        found = super().resolve_envvar_value(ctx)
        return None if found is None else found.strip() or None


_url = click.option(
    "--url",
    cls=_Setting,
    envvar="KVS_URL",
    help="The node, or several of one cluster, separated by commas (KVS_URL). Without it that of the context, or "
    "http://127.0.0.1:8080.",
)
_token = click.option(
    "--token",
    cls=_Setting,
    envvar="KVS_TOKEN",
    default="",
    help="A token. Better given as KVS_TOKEN: other users of this host can see the arguments of programs.",
)
_ca_file = click.option(
    "--ca-file",
    cls=_Setting,
    envvar="KVS_CA_FILE",
    type=click.Path(path_type=Path),
    help="Whose certificates are believed, in PEM, instead of those that this host believes (KVS_CA_FILE).",
)
_context = click.option(
    "--context",
    cls=_Setting,
    envvar="KVS_CONTEXT",
    help="The node and the token that this context names (KVS_CONTEXT).",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _in_session(command: Callable[..., int], *, may_be_open: bool) -> Callable[..., int]:
    @_url
    @_token
    @click.option(
        "--local", metavar="CONFIG", help="Ask the node of CONFIG on this host, by the key in its data directory."
    )
    @_ca_file
    @_context
    @_json
    @functools.wraps(command)
    def with_session(
        url: str | None,
        token: str,
        local: str | None,
        ca_file: Path | None,
        context: str | None,
        as_json: bool,
        **arguments: Any,
    ) -> int:
        from kvs.daemon.local import local_credential

        if local is not None:
            found, authorization, trust = local_credential(local, may_be_open=may_be_open)
            way = Way(found, authorization_field(authorization), trust)
        else:
            way = way_of(url, token, ca_file, context)
            if not (way.headers or may_be_open):
                raise click.UsageError("a token is needed: set KVS_TOKEN, or use --local CONFIG on the node's host")
        with asking(way) as client:
            return command(Session(client, way, as_json=as_json), **arguments)

    return with_session


def authorization_field(value: str) -> Mapping[str, str]:
    """None if it is empty."""
    return {"Authorization": value} if value else _NONE


@contextmanager
def asking(way: Way, *, timeout_s: float = _TIMEOUT_S, retry_s: float = _RETRY_S) -> Iterator["Client"]:
    """A client of one node. Its failures come out as Failed."""
    from kvs.client import Client, ClientError

    context = way.trust.context() if "https:" in way.url else None
    urls = [url.strip() for url in way.url.split(",")]
    try:
        client = Client(*urls, headers=way.headers, timeout_s=timeout_s, retry_s=retry_s, ssl_context=context)
    except ValueError as error:
        raise Failed(str(error), USAGE) from None
    try:
        with client:
            yield client
    except ClientError as error:
        raise failed(error) from None


@contextmanager
def patient(session: Session) -> Iterator[Session]:
    """The same for long work, which is not to end because a node is away for a moment."""
    with asking(session.way, retry_s=_LONG_RETRY_S) as client:
        yield Session(client, session.way, as_json=session.as_json)


def scopes(text: str) -> list[str]:
    """What stands between commas; every scope there is for `all`."""
    from kvs.auth.scopes import ALL

    return list(ALL) if text.strip() == "all" else [word.strip() for word in text.split(",") if word.strip()]


def time_text(unix_ms: int) -> str:
    """RFC 3339, in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read_password() -> str:
    """Asked for on a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")
