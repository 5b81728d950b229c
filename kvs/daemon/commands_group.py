"""kvs group."""

import json
from collections.abc import Callable, Sequence

import click

from kvs.daemon.failure import OK
from kvs.daemon.session import Session, in_session

_ATTEMPTS_MAX = 20


@click.group()
def group() -> None:
    """Manage groups. GROUP is a name or a uuid, USER a nickname or a uuid."""


@group.command("create")
@click.argument("groupname")
@click.argument("users", metavar="[USER]...", nargs=-1)
@in_session
def group_create(session: Session, groupname: str, users: Sequence[str]) -> int:
    """Make a group with these members and print its uuid."""
    members = [session.user_uuid(ref) for ref in users]
    made = session.client.call("POST", "/api/groups", {"groupname": groupname, "members": members})
    click.echo(json.dumps(made) if session.as_json else made["uuid"])
    return OK


@group.command("list")
@in_session
def group_list(session: Session) -> int:
    """List all groups. Names are not known: only their hashes are stored."""
    rows = list(session.client.pages("/api/groups", "groups"))
    return session.print_rows(rows, ("GROUP", "MEMBERS"), lambda row: (row["uuid"], str(len(row["members"]))))


@group.command("show")
@click.argument("group_ref", metavar="GROUP")
@in_session
def group_show(session: Session, group_ref: str) -> int:
    """Show one group."""
    return session.print_one(session.client.call("GET", f"/api/groups/{session.group_uuid(group_ref)}"))


@group.command("add")
@click.argument("group_ref", metavar="GROUP")
@click.argument("users", metavar="USER...", nargs=-1, required=True)
@in_session
def group_add(session: Session, group_ref: str, users: Sequence[str]) -> int:
    """Add users to a group."""
    more = [session.user_uuid(ref) for ref in users]
    return _set_members(session, group_ref, lambda old: list(dict.fromkeys([*old, *more])))


@group.command("remove")
@click.argument("group_ref", metavar="GROUP")
@click.argument("users", metavar="USER...", nargs=-1, required=True)
@in_session
def group_remove(session: Session, group_ref: str, users: Sequence[str]) -> int:
    """Take users out of a group."""
    gone = {session.user_uuid(ref) for ref in users}
    return _set_members(session, group_ref, lambda old: [uuid for uuid in old if uuid not in gone])


@group.command("delete")
@click.argument("group_ref", metavar="GROUP")
@in_session
def group_delete(session: Session, group_ref: str) -> int:
    """Remove a group."""
    uuid = session.group_uuid(group_ref)
    session.client.delete_group(uuid)
    return session.done({"deleted": uuid})


def _set_members(session: Session, group_ref: str, change: Callable[[list[str]], list[str]]) -> int:
    """Tried again when somebody else changed the group meanwhile."""
    from kvs.client import PreconditionFailedError

    uuid = session.group_uuid(group_ref)
    path = f"/api/groups/{uuid}"
    for left in reversed(range(_ATTEMPTS_MAX)):
        group = session.client.group(uuid)
        try:
            changed = session.client.call("PUT", path, {"members": change(list(group.members))}, if_match=group.etag)
            break
        except PreconditionFailedError:
            if not left:
                raise
    return session.print_one(changed)
