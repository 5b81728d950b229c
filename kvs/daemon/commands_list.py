"""kvs ls, kvs tree."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from kvs.daemon.completing import complete_key
from kvs.daemon.failure import NOT_FOUND, OK, Failed
from kvs.daemon.session import Session, in_remote_session, time_text
from kvs.daemon.showing import print_json, printable, styled, write

if TYPE_CHECKING:
    from kvs.client import Entry

_PREFIX_COLOUR = "blue"
_PORTION = 1_000
Branches = dict[str, "Branches"]


@click.command("ls")
@click.argument("prefix", default="", shell_complete=complete_key)
@click.option("-l", "--long", "is_long", is_flag=True, help="With time, version and content type.")
@click.option("-R", "--recursive", is_flag=True, help="All keys below, not one level only.")
@click.option("-0", "--null", "ends_with_null", is_flag=True, help="End each line with a null byte, for xargs -0.")
@in_remote_session
def ls_command(session: Session, prefix: str, is_long: bool, recursive: bool, ends_with_null: bool) -> int:
    """List the keys of one level; what ends with "/" has more below it."""
    from kvs.daemon.listing import at, below

    entries = session.client.walk(below(prefix)) if recursive else session.client.list(below(prefix))
    found = False
    shown: list[Mapping[str, Any]] = []
    for entry in _with_itself(at(session.client, prefix), entries, is_wanted=recursive):
        found = True
        if session.as_json:
            shown.append(_fields(entry))
        elif ends_with_null:
            write(entry.path.encode() + b"\0")
        else:
            name = styled(printable(entry.path), _PREFIX_COLOUR) if entry.is_prefix else printable(entry.path)
            click.echo(f"{_about(entry)}  {name}" if is_long else name)
    if session.as_json:
        print_json(shown)
    if prefix and not found:
        raise Failed(f"there is nothing under {printable(prefix)}", NOT_FOUND)
    return OK


def _with_itself(itself: Iterator["Entry"], below: Iterable["Entry"], *, is_wanted: bool) -> Iterator["Entry"]:
    """The key that the prefix names comes first where all keys are wanted, and else where there is nothing below."""
    if is_wanted:
        yield from itself
    is_empty = True
    for entry in below:
        is_empty = False
        yield entry
    if is_empty and not is_wanted:
        yield from itself


def _fields(entry: "Entry") -> dict[str, Any]:
    if entry.is_prefix:
        return {"path": entry.path, "type": "prefix"}
    ends = {} if entry.expires_at is None else {"expires_at": entry.expires_at}
    about = {"uuid": entry.uuid, "timestamp": entry.timestamp, "content_type": entry.content_type}
    return {"path": entry.path, "type": "key", **about, **ends}


def _about(entry: "Entry") -> str:
    if entry.is_prefix:
        return f"{'-':20}  {'-':36}  {'-':16}"
    return f"{time_text(entry.timestamp)}  {entry.uuid}  {printable(entry.content_type):16}"


@click.command("tree")
@click.argument("prefix", default="", shell_complete=complete_key)
@click.option("--depth", metavar="N", type=click.IntRange(1), help="So many levels; without it all.")
@in_remote_session
def tree_command(session: Session, prefix: str, depth: int | None) -> int:
    """Draw the keys below PREFIX as a tree."""
    from kvs.daemon.listing import below

    start = below(prefix)
    entries = session.client.walk(start) if depth is None else session.client.list(start, depth=depth)
    root: Branches = {}
    count = 0
    for entry in entries:
        branch = root
        for part in entry.path[len(start) :].rstrip("/").split("/"):
            branch = branch.setdefault(part, {})
        if entry.is_prefix:
            branch["…"] = {}
        count += not entry.is_prefix
    if prefix and not root:
        raise Failed(f"there is nothing under {printable(prefix)}", NOT_FOUND)
    if session.as_json:
        print_json(_nested(root))
        return OK
    click.echo(styled(printable(start) or ".", _PREFIX_COLOUR))
    for line in _drawn(root, ""):
        click.echo(line)
    click.echo(f"{count:,} keys", err=True)
    return OK


def _nested(branches: Branches) -> dict[str, Any]:
    return {name: _nested(inner) for name, inner in branches.items() if name != "…" or inner}


def _drawn(branches: Branches, indent: str) -> Iterator[str]:
    last = len(branches) - 1
    for number, (name, inner) in enumerate(branches.items()):
        shown = styled(printable(name), _PREFIX_COLOUR) if inner else printable(name)
        yield f"{indent}{'└── ' if number == last else '├── '}{shown}"
        yield from _drawn(inner, indent + ("    " if number == last else "│   "))
