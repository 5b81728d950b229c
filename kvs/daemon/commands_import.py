"""kvs import."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvs.daemon.failure import FAILED, OK, Failed
from kvs.daemon.progress import progress
from kvs.daemon.session import Session, in_remote_session, patient
from kvs.daemon.showing import print_json, printable

if TYPE_CHECKING:
    from kvs.daemon.importing import Found

_TOLD_MAX = 20
_FORMATS = {".csv": "csv", ".tsv": "csv"}


@click.command("import")
@click.argument("source", required=False)
@click.option("--prefix", default="", help="Put it before every key.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["ndjson", "dir", "csv"]),
    help="JSON objects, one a line; a file for each key; a table. Without it: by what SOURCE is and how it ends.",
)
@click.option("--key", "key_column", metavar="COLUMN", help="The column of a table that is the key, else the first.")
@click.option("--delimiter", metavar="CHAR", help="Between the columns of a table: a comma, in a .tsv a tab.")
@click.option("--keep-versions", is_flag=True, help="Keep uuid and time of each item, and merge: the newer one stays.")
@click.option(
    "--state", metavar="FILE", type=click.Path(path_type=Path), help="Keep in FILE how far it is, and go on there."
)
@in_remote_session
def import_command(
    session: Session,
    source: str | None,
    prefix: str,
    form: str | None,
    key_column: str | None,
    delimiter: str | None,
    keep_versions: bool,
    state: Path | None,
) -> int:
    """Write what is in SOURCE, or in lines on standard input: an export, a folder of files, a table (CSV).

    What is wrong with an item is told, and the others are written; the code is then 1.
    """
    from kvs.daemon.importing import Progress, Target

    path = None if source in (None, "-") else Path(str(source))
    form = form or _form_of(path)
    if (key_column or delimiter) and form != "csv":
        raise click.UsageError("--key and --delimiter are for tables")
    if delimiter is not None and len(delimiter) != 1:
        raise click.UsageError("--delimiter is one character")
    if path is None and form == "dir":
        raise click.UsageError("a folder needs a SOURCE")
    between = delimiter or ("\t" if path is not None and path.suffix == ".tsv" else ",")
    told = 0

    def tell(where: str, reason: str) -> None:
        nonlocal told
        told += 1
        if told <= _TOLD_MAX:
            click.echo(f"kvs: {printable(where)}: {printable(reason)}", err=True)

    owner = _owner(session) if keep_versions else None
    done = Progress(state, str(path.absolute() if path is not None else "standard input"))
    with (
        patient(session) as asked,
        _opened(path, form, key_column, between) as found,
        progress("Importing", None, unit="items") as show,
    ):
        target = Target(asked.client, lambda: time.time_ns() // 1_000_000, tell, owner)
        target.write(found, done, prefix, show)
    done.end()
    counts = {"written": target.written, "failed": target.failed, "expired": target.expired}
    if keep_versions:
        counts["older"] = target.older
    if session.as_json:
        print_json(counts)
    else:
        click.echo(", ".join(f"{name} {count:,}" for name, count in counts.items()), err=True)
    return FAILED if target.failed else OK


def _form_of(path: Path | None) -> str:
    if path is None:
        return "ndjson"
    return "dir" if path.is_dir() else _FORMATS.get(path.suffix.lower(), "ndjson")


def _owner(session: Session) -> str:
    """Whose the items become that keep their versions: exports do not say whose they were."""
    found = session.client.whoami()
    return "" if found is None else found.user_uuid


@contextmanager
def _opened(path: Path | None, form: str, key_column: str | None, delimiter: str) -> "Iterator[Iterator[Found]]":
    from kvs.daemon import importing

    try:
        if form == "dir" and path is not None:
            if not path.is_dir():
                raise Failed(f"{path} is no folder")
            yield importing.of_folder(path)
        elif form == "csv":
            # A byte order mark, as spreadsheets write it, is no part of the first name.
            with open(path or sys.stdin.fileno(), encoding="utf-8-sig", newline="", closefd=path is not None) as table:
                yield importing.of_table(table, key_column, delimiter)
        elif path is None:
            yield importing.of_lines(sys.stdin.buffer)
        else:
            with path.open("rb") as file:
                yield importing.of_lines(file)
    except UnicodeDecodeError:
        raise Failed("the table is no UTF-8 text") from None
    except OSError as error:
        raise Failed(f"{error.filename or path or 'standard input'}: {error.strerror}") from None
