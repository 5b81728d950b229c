"""kvs history, kvs undo."""

from typing import Any

import click

from kvs.daemon.completing import complete_key
from kvs.daemon.failure import NOT_FOUND, OK, Failed
from kvs.daemon.session import Session, in_remote_session, time_text
from kvs.daemon.showing import print_json, printable, summary, value_fields


@click.command("history")
@click.argument("key", shell_complete=complete_key)
@in_remote_session
def history_command(session: Session, key: str) -> int:
    """Show the kept versions of a key, newest first. `kvs get KEY --revision N` prints one."""
    from kvs.daemon.table import table

    versions = session.client.history(key)
    if not versions:
        raise Failed(f"nothing is kept of {printable(key)}", NOT_FOUND)
    if session.as_json:
        print_json([_fields(one.number, one.uuid, one.timestamp, one.value) for one in versions])
        return OK
    cells = [
        (str(one.number), time_text(one.timestamp), one.uuid, "deleted" if one.value is None else summary(one.value))
        for one in versions
    ]
    click.echo(table(("N", "TIME", "VERSION", "VALUE"), cells))
    return OK


def _fields(number: int, uuid: str, timestamp: int, value: Any) -> dict[str, Any]:
    if value is None:
        return {"revision": number, "uuid": uuid, "timestamp": timestamp, "deleted": True, "data": None}
    fields = value_fields(value)
    del fields["path"]
    return {"revision": number, **fields}


@click.command("undo")
@click.argument("key", shell_complete=complete_key)
@in_remote_session
def undo_command(session: Session, key: str) -> int:
    """Put back what a key held before its last change; code 5 if somebody changes it at the same moment."""
    made = session.client.undo(key)
    if session.as_json:
        version = {} if made is None else {"uuid": made.uuid, "timestamp": made.timestamp}
        print_json({"path": key, "deleted": made is None, **version})
    else:
        what = "there was no value before, and is none now" if made is None else "the value before is back"
        click.echo(f"{printable(key)}: {what}", err=True)
    return OK
