"""kvs ping, kvs whoami."""

import time

import click

from kvs.daemon.failure import FAILED, OK, REFUSED, Failed
from kvs.daemon.session import Session, asking, in_remote_session, time_text
from kvs.daemon.showing import print_json, printable


@click.command("ping")
@in_remote_session
def ping_command(session: Session) -> int:
    """Ask each node how it is, and show how long the answer took; code 6 if one does not answer."""
    rows = []
    missing: Failed | None = None
    for url in session.way.url.split(","):
        try:
            with asking(session.way._replace(url=url.strip()), retry_s=0) as client:
                client.health()  # the connection is made
                started_s = time.perf_counter()
                health = client.health()
                rows.append({"url": url.strip(), "ms": round((time.perf_counter() - started_s) * 1000, 2), **health})
        except Failed as error:
            missing = error
            click.echo(f"kvs: {error}", err=True)
    if session.as_json:
        print_json(rows)
    for row in rows if not session.as_json else ():
        name, mode = printable(str(row.get("node_id", "?"))), row.get("mode", row.get("code", "?"))
        click.echo(f"{row['url']}: {name} is {mode}, version {row.get('version', '?')}, {row['ms']} ms")
    if missing is not None:
        return missing.exit_code
    return OK if all(row.get("mode") not in (None, "degraded") for row in rows) else FAILED


@click.command("whoami")
@in_remote_session
def whoami_command(session: Session) -> int:
    """Show whom the token speaks for, what it may do, and until when; code 4 if the node does not take it."""
    found = session.client.whoami()
    if found is None:
        if session.as_json:
            print_json(None)
        else:
            click.echo("nobody: there is no token", err=True)
        return OK
    document = {
        "user_uuid": found.user_uuid,
        "scopes": list(found.scopes),
        "token_id": found.token_id,
        "expires_at": found.expires_at,
        "accepted": found.is_accepted,
    }
    if session.as_json:
        print_json(document)
    else:
        lines = (
            ("user", printable(found.user_uuid)),
            ("scopes", printable(",".join(found.scopes))),
            ("token id", found.token_id),
            ("expires", time_text(found.expires_at)),
        )
        click.echo("\n".join(f"{name + ':':10}{text}" for name, text in lines))
    if not found.is_accepted:
        raise Failed("the node does not take this token", REFUSED)
    return OK
