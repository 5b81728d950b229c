"""kvs token."""

import json

import click

from kvs.daemon.failure import OK
from kvs.daemon.session import Session, in_session, scopes, time_text


@click.group()
def token() -> None:
    """Make, list and revoke tokens."""


@token.command("create")
@click.option("--user", "user_ref", default="root", show_default=True, help="Whose: a nickname or a uuid.")
@click.option(
    "--scopes",
    "scope_words",
    default="read,write,delete",
    show_default=True,
    help='Separated by commas; "all" for every scope.',
)
@click.option("--expires-in", help="How long it is good, like 12h or 7d.  [default: 1h]")
@in_session
def token_create(session: Session, user_ref: str, scope_words: str, expires_in: str | None) -> int:
    """Make a token and print it. It is shown this once."""
    body: dict[str, object] = {"user_uuid": session.user_uuid(user_ref), "scopes": scopes(scope_words)}
    if expires_in is not None:
        body["expires_in"] = expires_in
    made = session.client.call("POST", "/api/tokens", body)
    if session.as_json:
        click.echo(json.dumps(made))
    else:
        click.echo(f"token id {made['token_id']}, good until {time_text(made['expires_at'])}", err=True)
        click.echo(made["token"])
    return OK


@token.command("list")
@click.option("--user", "user_ref", help="Only of this user: a nickname or a uuid.")
@in_session
def token_list(session: Session, user_ref: str | None) -> int:
    """List the tokens that are good."""
    query = {} if user_ref is None else {"user_uuid": session.user_uuid(user_ref)}
    rows = list(session.client.pages("/api/tokens", "tokens", query))
    return session.print_rows(
        rows,
        ("TOKEN ID", "USER", "EXPIRES", "SCOPES"),
        lambda row: (row["token_id"], row["user_uuid"], time_text(row["expires_at"]), ",".join(row["scopes"])),
    )


@token.command("revoke")
@click.argument("token_id")
@in_session
def token_revoke(session: Session, token_id: str) -> int:
    """Make the token with this id worthless at once."""
    session.client.revoke_token(token_id)
    return session.done({"revoked": token_id})
