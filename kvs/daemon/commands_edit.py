"""kvs edit."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvs.daemon.completing import complete_key
from kvs.daemon.failure import OK, Failed
from kvs.daemon.session import Session, in_remote_session
from kvs.daemon.showing import kind_of, print_json, printable

if TYPE_CHECKING:
    from kvs.client import Value

_EDITORS = ("VISUAL", "EDITOR")
_DEFAULT_EDITOR = "vi"


@click.command("edit")
@click.argument("key", shell_complete=complete_key)
@in_remote_session
def edit_command(session: Session, key: str) -> int:
    """Change a value in an editor (VISUAL, EDITOR), or write a new one.

    JSON must be JSON afterwards, and a value with a time to live ends when it would have. If somebody else changed it
    meanwhile, nothing is written: code 5. What was typed and could not be stored stays in a file, whose name is told.
    """
    from kvs.client import ClientError
    from kvs.daemon.failure import failed

    value = session.client.find(key)
    before = b"" if value is None else value.raw
    suffix = ".json" if value is None or value.is_json else ".txt"
    descriptor, name = tempfile.mkstemp(suffix, "kvs-")
    path = Path(name)
    with os.fdopen(descriptor, "wb") as file:
        file.write(before)
    try:
        after = _edited(path)
        if after == before:
            path.unlink()
            click.echo(f"{printable(key)} is as it was", err=True)
            return OK
        kind = kind_of(after)
        if value is not None:
            if value.is_json and kind != "application/json":
                raise Failed("this is no JSON any more")
            kind = value.content_type
        only_over = None if value is None else value.uuid
        only_new = "*" if value is None else None
        ttl = None if value is None else _rest(value)
        made = session.client.put(key, after, content_type=kind, ttl=ttl, if_match=only_over, if_none_match=only_new)
    except (ClientError, Failed) as error:
        reason = failed(error) if isinstance(error, ClientError) else error
        if not path.exists() or path.read_bytes() == before:
            path.unlink(missing_ok=True)
            raise reason from None
        raise Failed(f"{reason}; what you wrote is in {path}", reason.exit_code) from None
    path.unlink()
    if session.as_json:
        print_json({"path": key, "uuid": made.uuid, "timestamp": made.timestamp, "created": made.created})
    else:
        click.echo(f"{'created' if made.created else 'replaced'} {printable(key)}", err=True)
    return OK


def _rest(value: "Value") -> str:
    """The time to live that lets a value end when this one does."""
    return "0" if value.expires_at is None else f"{max(1, value.expires_at - time.time_ns() // 1_000_000)}ms"


def _edited(path: Path) -> bytes:
    """Raises Failed."""
    editor = next((os.environ[name] for name in _EDITORS if os.environ.get(name)), _DEFAULT_EDITOR)
    try:
        shown = None if sys.stdout.isatty() else sys.stderr  # what an editor draws is no data
        done = subprocess.run([*shlex.split(editor), str(path)], check=False, stdout=shown)  # noqa: S603 - the user's own
        if done.returncode:
            raise Failed(f"{editor} ended with {done.returncode}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise Failed(f"cannot run the editor {editor!r}: {getattr(error, 'strerror', None) or error}") from None
