"""kvs get, kvs set, kvs rm."""

import re
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from kvs.daemon.completing import complete_key
from kvs.daemon.failure import CONDITION, FAILED, NOT_FOUND, OK, Failed
from kvs.daemon.session import Session, in_remote_session
from kvs.daemon.showing import is_json, kind_of, print_json, printable, value_fields, write
from kvs.limits import DECOMPRESSED_MAX_BYTES

if TYPE_CHECKING:
    from kvs.client import Value

_AT_ONCE = 500


@click.command("get")
@click.argument("key", shell_complete=complete_key)
@click.option(
    "-o", "--output", metavar="FILE", help='Write the value into FILE; "-" is standard output, whatever it is.'
)
@click.option("--revision", metavar="N", type=click.IntRange(1), help="An older version: 1 is the current one.")
@in_remote_session
def get_command(session: Session, key: str, output: str | None, revision: int | None) -> int:
    """Print a value, exactly as it was stored.

    With --json it is an object with its uuid, its time and its data; of anything but JSON these are base64.
    """
    if revision is None:
        value = session.client.get(key)
    else:
        found = session.client.revision(key, revision).value
        if found is None:
            raise Failed(f"version {revision} of {printable(key)} is a deletion", NOT_FOUND)
        value = found
    if session.as_json:
        print_json(value_fields(value))
    elif output not in (None, "-"):
        _save(value, Path(output))
    elif output is None and sys.stdout.isatty():
        _show(value)
    else:
        write(value.raw)
    return OK


def _save(value: "Value", path: Path) -> None:
    try:
        path.write_bytes(value.raw)
    except OSError as error:
        raise Failed(f"cannot write {path}: {error.strerror}") from None


def _show(value: "Value") -> None:
    """On a terminal: with an end of the line, and nothing that would act on it."""
    try:
        text = value.raw.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not all(c.isprintable() or c in "\n\t\r" for c in text):
        what = f"{len(value.raw)} bytes of {printable(value.content_type)}"
        raise Failed(f"{what} are not for a terminal; use > FILE, or -o FILE")
    click.echo(text, nl=not text.endswith("\n"))


class _Set(click.Command):
    """A negative number may stand as VALUE, where what begins with "-" would else be an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption as error:
            if re.fullmatch(r"-\d", error.option_name) is None:
                raise
            ctx.ignore_unknown_options = True
            rest = super().parse_args(ctx, args)  # whatever else is unknown is an argument too many now
            if ctx.params["key"].startswith("-") or not _is_negative(ctx.params["value"]):
                raise
            return rest


def _is_negative(value: str | None) -> bool:
    return value is not None and value.startswith("-") and is_json(value.encode(errors="surrogateescape"))


@click.command("set", cls=_Set)
@click.argument("key", shell_complete=complete_key)
@click.argument("value", required=False)
@click.option("--ttl", metavar="DURATION", help="How long the value lives, like 90s or 1h30m.")
@click.option("-t", "--content-type", metavar="TYPE", help="Store it as a blob of this media type, whatever it holds.")
@click.option("--new", "only_new", is_flag=True, help="Only if there is no value yet; else code 5.")
@click.option("--if-match", metavar="UUID", help="Only in the place of this version; else code 5.")
@click.option("-w", "--wait", "copies", metavar="N", type=click.IntRange(1), help="Wait until N nodes have it.")
@click.option("--wait-timeout", metavar="DURATION", default="5s", show_default=True, help="For so long at most.")
@in_remote_session
def set_command(
    session: Session,
    key: str,
    value: str | None,
    ttl: str | None,
    content_type: str | None,
    only_new: bool,
    if_match: str | None,
    copies: int | None,
    wait_timeout: str,
) -> int:
    """Store a value: VALUE, the file of @FILE, or without it (and for "-") standard input, byte for byte.

    What is JSON is stored as JSON, anything else as a blob.
    """
    raw, file_name = _given(value)
    made = session.client.put(
        key,
        raw,
        content_type=content_type or kind_of(raw, file_name),
        ttl=ttl,
        if_match=if_match,
        if_none_match="*" if only_new else None,
        w=copies,
        w_timeout=wait_timeout if copies else None,
    )
    if session.as_json:
        document = {"path": key, "uuid": made.uuid, "timestamp": made.timestamp, "created": made.created}
        print_json(document if made.replicated is None else {**document, "replicated": made.replicated})
    else:
        click.echo(f"{'created' if made.created else 'replaced'} {printable(key)}", err=True)
    if made.replicated is not None:
        click.echo(f"kvs: it is on {made.replicated} of {copies} nodes so far", err=True)
        return FAILED
    return OK


def _given(value: str | None) -> tuple[bytes, str]:
    """The bytes, and the name of the file that they come from."""
    if value in (None, "-"):
        return _bounded(sys.stdin.buffer), ""
    assert value is not None
    if not value.startswith("@"):
        return value.encode(errors="surrogateescape"), ""
    if value == "@":
        raise click.UsageError("the name of a file is missing behind @")
    path = Path(value[1:])
    try:
        with path.open("rb") as file:
            return _bounded(file), path.name
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from None


def _bounded(file: BinaryIO) -> bytes:
    """All of it; what no node would take is not read to its end, which may be none. Raises Failed."""
    raw = file.read(DECOMPRESSED_MAX_BYTES + 1)
    if len(raw) > DECOMPRESSED_MAX_BYTES:
        raise Failed(f"no node takes a value of more than {DECOMPRESSED_MAX_BYTES} bytes")
    return raw


@click.command("rm")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True, shell_complete=complete_key)
@click.option("-r", "--recursive", is_flag=True, help="Also all keys below each KEY. It asks first.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-f", "--force", is_flag=True, help="That there is nothing is no failure.")
@click.option("--if-match", metavar="UUID", help="Only this version; else code 5.")
@in_remote_session
def rm_command(
    session: Session, keys: tuple[str, ...], recursive: bool, yes: bool, force: bool, if_match: str | None
) -> int:
    """Delete values. `kvs undo KEY` brings one back as long as its history is kept."""
    from kvs.client import NotFoundError

    if if_match is not None and (recursive or len(keys) > 1):
        raise click.UsageError("--if-match is for one key")
    if recursive:
        return _rm_below(session, keys, yes=yes, force=force)
    deleted, missing = [], []
    for key in keys:
        try:
            session.client.delete(key, if_match=if_match)
        except NotFoundError as error:
            if error.code != "not_found":
                raise
            missing.append(key)
        else:
            deleted.append(key)
    _say_deleted(session, deleted)
    if missing and not force:
        raise Failed(f"there is no value under {', '.join(map(printable, missing))}", NOT_FOUND)
    return OK


def _rm_below(session: Session, keys: tuple[str, ...], *, yes: bool, force: bool) -> int:
    """Asks with the number of keys. What is written below meanwhile stays, and what was changed is not deleted."""
    from kvs.client import BulkDelete
    from kvs.daemon.listing import at_and_below

    found = {entry.path: entry.uuid for key in keys for entry in at_and_below(session.client, key)}
    if not found and not force:
        raise Failed("there is nothing to delete", NOT_FOUND)
    if found and not yes and not _is_confirmed(len(found)):
        return FAILED
    items = iter([BulkDelete(path, if_match=uuid) for path, uuid in found.items()])
    deleted: list[str] = []
    changed: list[str] = []
    refused: list[str] = []
    while portion := list(islice(items, _AT_ONCE)):
        for item, result in zip(portion, session.client.bulk(portion), strict=True):
            if result.is_ok:
                deleted.append(item.path)
            elif result.status in (404, 412):
                changed.append(item.path)
            else:
                refused.append(f"{printable(item.path)}: {(result.problem or {}).get('detail', result.status)}")
    _say_deleted(session, deleted)
    for line in refused:
        click.echo(f"kvs: {line}", err=True)
    if refused:
        raise Failed(f"{len(refused):,} keys were not deleted")
    if changed:
        raise Failed(f"{len(changed):,} keys were changed meanwhile, and are as they were left", CONDITION)
    return OK


def _is_confirmed(count: int) -> bool:
    keys = "1 key" if count == 1 else f"{count:,} keys"
    try:
        return click.confirm(f"Delete {keys}?", err=True)
    except click.Abort as end:
        if not isinstance(end.__context__, EOFError):
            raise
        click.echo(err=True)  # ends the line of the question
        raise click.UsageError(f"nobody answers whether to delete {keys}: --yes deletes them without asking") from None


def _say_deleted(session: Session, deleted: list[str]) -> None:
    if session.as_json:
        print_json({"deleted": deleted})
    elif deleted:
        shown = printable(deleted[0]) if len(deleted) == 1 else f"{len(deleted):,} keys"
        click.echo(f"deleted {shown}", err=True)
