"""kvs export."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from kvs.daemon.completing import complete_key
from kvs.daemon.failure import OK, Failed
from kvs.daemon.progress import progress
from kvs.daemon.session import Session, in_remote_session, patient
from kvs.daemon.showing import print_json

if TYPE_CHECKING:
    from kvs.daemon.exporting import State


@click.command("export")
@click.argument("target", required=False)
@click.option("--prefix", default="", shell_complete=complete_key, help="Only keys that begin with it.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["ndjson", "dir"]),
    help='A JSON object a line, or a file for each key. Without it "dir" if TARGET is a folder or ends with "/".',
)
@in_remote_session
def export_command(session: Session, target: str | None, prefix: str, form: str | None) -> int:
    """Write all values into TARGET, or as lines onto standard output: those of one moment.

    An export into TARGET that was interrupted goes on where it was when it is started again.
    """
    try:
        with patient(session) as asked:
            count = _export(asked, target, prefix, form)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or tempfile.gettempdir() if target in (None, "-") else target
        raise Failed(f"{where}: {error.strerror}") from None
    if target not in (None, "-") and session.as_json:
        print_json({"exported": target, "keys": count})
    else:
        click.echo(f"{count:,} keys", err=True)
    return OK


def _export(session: Session, target: str | None, prefix: str, form: str | None) -> int:
    """How many keys there are."""
    if target is None or target == "-":
        if form == "dir":
            raise click.UsageError("a folder needs a TARGET")
        return _onto_output(session, prefix)
    if form == "dir" or (form is None and (target.endswith("/") or Path(target).is_dir())):
        return _into_folder(session, Path(target), prefix)
    path = Path(target)
    if path.exists() and not path.is_file():
        return _into_special(session, path, prefix)
    return _into_file(session, path.resolve() if path.is_symlink() else path, prefix)


def _onto_output(session: Session, prefix: str) -> int:
    with _gathered(session, prefix) as (values, count):
        sys.stdout.flush()
        shutil.copyfileobj(values, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    return count


def _into_special(session: Session, target: Path, prefix: str) -> int:
    """A device, a FIFO: it gets what comes, and no file takes its place."""
    with _gathered(session, prefix) as (values, count), target.open("wb") as file:
        shutil.copyfileobj(values, file)
    return count


@contextmanager
def _gathered(session: Session, prefix: str) -> Iterator[tuple[BinaryIO, int]]:
    """The lines of all values, and how many there are: only what is whole goes out."""
    from kvs.daemon import exporting

    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as mended:
        with progress("Exporting", None, unit="keys") as show:
            state = exporting.begin(session.client, prefix)
            walk = exporting.Walk(session.client, state, _has_choice(session), show)
            exporting.walk_lines(cast(BinaryIO, file), walk)
            count = exporting.mend_lines(cast(BinaryIO, file), cast(BinaryIO, mended), walk)
        mended.seek(0)
        yield cast(BinaryIO, mended), count


def _into_file(session: Session, target: Path, prefix: str) -> int:
    from kvs.client import ResyncRequiredError
    from kvs.daemon import exporting

    partial = target.with_name(f"{target.name}.partial")
    state_file = target.with_name(f"{target.name}.state")
    state = _state(state_file, partial, prefix)
    while True:
        if state is None:
            state = exporting.begin(session.client, prefix)
            partial.unlink(missing_ok=True)
            _save(state_file, state)
        else:
            click.echo(f"going on with {partial}", err=True)
        with partial.open("a+b") as file, progress("Exporting", None, unit="keys") as show:
            walk = exporting.Walk(session.client, state, _has_choice(session), show)
            exporting.walk_lines(file, walk)
            try:
                with exporting.replaced(target) as mended:
                    count = exporting.mend_lines(file, mended, walk)
                break
            except ResyncRequiredError:
                click.echo("the node does not know any more what has changed since: beginning anew", err=True)
                state = None
    partial.unlink()
    state_file.unlink()
    return count


def _state(state_file: Path, partial: Path, prefix: str) -> "State | None":
    """That of an export that was interrupted. Raises Failed."""
    import msgspec

    from kvs.daemon.exporting import State

    try:
        state = msgspec.json.decode(state_file.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        raise Failed(f"{state_file} holds no state of an export") from None
    if state.prefix != prefix:
        raise Failed(f"{partial} is an export of the prefix {state.prefix!r}: go on with that, or remove {state_file}")
    return state


def _save(state_file: Path, state: "State") -> None:
    import msgspec

    from kvs.daemon.exporting import replaced

    with replaced(state_file) as file:
        file.write(msgspec.json.encode(state))


def _into_folder(session: Session, target: Path, prefix: str) -> int:
    from kvs.client import ResyncRequiredError
    from kvs.daemon import exporting

    folder = exporting.Folder(target)
    state = folder.load()
    if state is None:
        state = exporting.begin(session.client, prefix)
        folder.save(state)
    elif state.prefix != prefix:
        raise Failed(f"{target} is an export of the prefix {state.prefix!r}: go on with that, or remove it")
    else:
        click.echo(f"going on with {target}", err=True)
    with progress("Exporting", None, unit="keys") as show:
        walk = exporting.Walk(session.client, state, _has_choice(session), show)
        folder.walk(walk)
        try:
            folder.mend(walk)
        except ResyncRequiredError:
            raise Failed(
                f"the node does not know any more what has changed since: remove {target}, and export again"
            ) from None
    return sum(1 for path in target.rglob("*") if path.is_file())


def _has_choice(session: Session) -> bool:
    return "," in session.way.url
