"""kvs watch."""

from typing import TYPE_CHECKING

import click

from kvs.daemon.completing import complete_key
from kvs.daemon.failure import OK
from kvs.daemon.session import Session, in_remote_session
from kvs.daemon.showing import print_json, printable, styled, summary, value_fields

if TYPE_CHECKING:
    from kvs.client import UnreachableError

_COLOURS = {"put": "green", "delete": "red", "expire": "yellow", "uptodate": "blue", "resync": "magenta"}


@click.command("watch")
@click.argument("prefix", default="", shell_complete=complete_key)
@click.option(
    "--since",
    metavar="WHERE",
    help='"snapshot": first what is there. The position of an event: first what happened since. Else from now on.',
)
@click.option("-n", "--count", metavar="N", type=click.IntRange(1), help="End after N events.")
@in_remote_session
def watch_command(session: Session, prefix: str, since: str | None, count: int | None) -> int:
    """Tell of every change of the keys that begin with PREFIX, until Ctrl-C. With --json an object on each line.

    It survives restarts of the node; if none answers at the beginning, it ends with code 6. "resync" says that
    something may have been missed: a snapshot follows.
    """
    for number, event in enumerate(session.client.watch(prefix, since=since, tell=_tell), 1):
        if session.as_json:
            about = {} if not event.path else {"path": event.path, "uuid": event.uuid, "timestamp": event.timestamp}
            value = {} if event.value is None else value_fields(event.value)
            print_json({"event": event.kind, **about, **value, "position": event.position})
        else:
            words = [styled(event.kind, _COLOURS[event.kind])]
            words += [printable(event.path)] if event.path else []
            words += [summary(event.value)] if event.value is not None else []
            click.echo(" ".join(words))
        if number == count:
            break
    return OK


def _tell(failure: "UnreachableError | None") -> None:
    click.echo("kvs: it is there again" if failure is None else f"kvs: {failure}; waiting for it", err=True)
