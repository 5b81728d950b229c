"""kvs context."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import click

from kvs.daemon.contexts import Context, client_file, load, save, unknown
from kvs.daemon.failure import OK, USAGE, Failed


@click.group()
def context() -> None:
    """Name the nodes that commands ask, with the tokens for them."""


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@context.command("add")
@click.argument("name")
@click.option("--url", required=True, help="The node, or several of one cluster, separated by commas.")
@click.option(
    "--token", default="", help="A token. Better in --token-file: other users of this host can see the arguments."
)
@click.option(
    "--token-file", type=click.File("r"), help='A file with a token; "-" is standard input. Without it: no token.'
)
@click.option("--ca-file", type=click.Path(path_type=Path), help="Whose certificates are believed, in PEM.")
@_json
def context_add(name: str, url: str, token: str, token_file: TextIO | None, ca_file: Path | None, as_json: bool) -> int:
    """Add a context, or replace the one of this name. The first one is used from then on."""
    from kvs.client.http import checked_url

    if token and token_file is not None:
        raise click.UsageError("--token and --token-file say the same thing")
    try:
        checked = ",".join(checked_url(one.strip()) for one in url.split(","))
    except ValueError as error:
        raise Failed(str(error), USAGE) from None
    if token_file is not None:
        token = token_file.read().strip()
    if (token_file is not None or token) and (not token or not token.isprintable() or " " in token):
        raise Failed("this is no token")
    path = client_file()
    contexts = load(path)
    contexts.by_name[name] = Context(checked, token, "" if ca_file is None else str(ca_file.absolute()))
    contexts.current = contexts.current or name
    save(path, contexts)
    is_current = contexts.current == name
    words = f"added {name}{', which is used now' if is_current else ''}"
    return _done(words, {"added": name, "current": is_current}, as_json=as_json)


@context.command("use")
@click.argument("name")
@_json
def context_use(name: str, as_json: bool) -> int:
    """Use a context from now on."""
    path = client_file()
    contexts = load(path)
    if name not in contexts.by_name:
        raise unknown(name)
    contexts.current = name
    save(path, contexts)
    return _done(f"using {name}", {"using": name}, as_json=as_json)


@context.command("list")
@_json
def context_list(as_json: bool) -> int:
    """List the contexts. Tokens are not shown."""
    from kvs.daemon.table import table

    contexts = load(client_file())
    rows = [
        {**asdict(one), "name": name, "current": name == contexts.current, "token": bool(one.token)}
        for name, one in contexts.by_name.items()
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return OK
    cells = [
        ("*" if row["current"] else "", str(row["name"]), str(row["url"]), "yes" if row["token"] else "no")
        for row in rows
    ]
    click.echo(table(("", "NAME", "URL", "TOKEN"), cells))
    return OK


@context.command("remove")
@click.argument("name")
@_json
def context_remove(name: str, as_json: bool) -> int:
    """Forget a context and its token."""
    path = client_file()
    contexts = load(path)
    if contexts.by_name.pop(name, None) is None:
        raise unknown(name)
    contexts.current = "" if contexts.current == name else contexts.current
    save(path, contexts)
    return _done(f"removed {name}", {"removed": name}, as_json=as_json)


def _done(words: str, document: dict[str, object], *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(document))
    else:
        click.echo(words, err=True)
    return OK
