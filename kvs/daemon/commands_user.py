"""kvs user."""

import json

import click

from kvs.daemon.failure import OK
from kvs.daemon.session import Session, in_session, read_password, scopes


@click.group()
def user() -> None:
    """Manage users. USER is a nickname or a uuid."""


@user.command("create")
@click.argument("nickname")
@click.option("--password", "with_password", is_flag=True, help="Ask for a password, or read it from standard input.")
@click.option(
    "--scopes",
    "scope_words",
    help='What a login gives, separated by commas; "all" for every scope.  [default: read,write,delete]',
)
@in_session
def user_create(session: Session, nickname: str, with_password: bool, scope_words: str | None) -> int:
    """Make a user and print the uuid."""
    body: dict[str, object] = {"nickname": nickname}
    if scope_words is not None:
        body["scopes"] = scopes(scope_words)
    if with_password:
        body["password"] = read_password()
    made = session.client.call("POST", "/api/users", body)
    click.echo(json.dumps(made) if session.as_json else made["uuid"])
    return OK


@user.command("list")
@in_session
def user_list(session: Session) -> int:
    """List all users. Nicknames are not known: only their hashes are stored."""
    rows = list(session.client.pages("/api/users", "users"))
    return session.print_rows(
        rows,
        ("USER", "GROUPS", "PASSWORD", "SCOPES"),
        lambda row: (
            row["uuid"],
            str(len(row["groups"])),
            "yes" if row["has_password"] else "no",
            ",".join(row["scopes"]),
        ),
    )


@user.command("show")
@click.argument("user_ref", metavar="USER")
@in_session
def user_show(session: Session, user_ref: str) -> int:
    """Show one user."""
    return session.print_one(session.client.call("GET", f"/api/users/{session.user_uuid(user_ref)}"))


@user.command("update")
@click.argument("user_ref", metavar="USER")
@click.option("--nickname", help="A new nickname.")
@click.option(
    "--password", "with_password", is_flag=True, help="Ask for a new password, or read it from standard input."
)
@click.option("--no-password", is_flag=True, help="Take the password away: no login any more.")
@click.option("--scopes", "scope_words", help='What a login gives, separated by commas; "all" for every scope.')
@in_session
def user_update(
    session: Session,
    user_ref: str,
    nickname: str | None,
    with_password: bool,
    no_password: bool,
    scope_words: str | None,
) -> int:
    """Change what is named."""
    body: dict[str, object] = {}
    if nickname is not None:
        body["nickname"] = nickname
    if scope_words is not None:
        body["scopes"] = scopes(scope_words)
    if with_password or no_password:
        body["password"] = read_password() if with_password else None
    return session.print_one(session.client.call("PUT", f"/api/users/{session.user_uuid(user_ref)}", body))


@user.command("delete")
@click.argument("user_ref", metavar="USER")
@in_session
def user_delete(session: Session, user_ref: str) -> int:
    """Remove a user. His tokens are worthless at once; his keys stay."""
    uuid = session.user_uuid(user_ref)
    session.client.delete_user(uuid)
    return session.done({"deleted": uuid})
