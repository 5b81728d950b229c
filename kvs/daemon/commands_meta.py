"""kvs meta."""

import click

from kvs.daemon.completing import complete_key
from kvs.daemon.failure import OK
from kvs.daemon.session import Session, in_remote_session, time_text
from kvs.daemon.showing import print_json

_BITS = "rwdc"
_NOBODY = "none"


def _bits(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """12 bits: decimal, 0x…, or in letters, such as `owner=rwdc,group=rw,others=r`."""
    if text is None:
        return None
    try:
        number = _of_letters(text) if "=" in text else int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= 0xFFF:
        raise click.BadParameter(f"{text!r} is not like 0xF31 or owner=rwdc,group=rw,others=r", ctx, param)
    return number


def _of_letters(text: str) -> int:
    """Classes that are not named may do nothing. Raises ValueError."""
    shifts = {"owner": 8, "group": 4, "others": 0}
    number = 0
    for part in text.split(","):
        name, _, letters = part.partition("=")
        if name not in shifts or len(set(letters)) != len(letters):
            raise ValueError(part)
        number |= sum(1 << _BITS.index(letter) for letter in letters) << shifts.pop(name)
    return number


def letters(permissions: int) -> str:
    """`owner=rwdc,group=rw,others=r`."""
    classes = (("owner", 8), ("group", 4), ("others", 0))
    return ",".join(
        f"{name}={''.join(letter for bit, letter in enumerate(_BITS) if permissions >> shift + bit & 1)}"
        for name, shift in classes
    )


@click.command("meta")
@click.argument("key", shell_complete=complete_key)
@click.option("--owner", metavar="USER", help='Set the owner: a nickname or a uuid, or "none".')
@click.option("--group", metavar="GROUP", help='Set the group: a name or a uuid, or "none".')
@click.option(
    "--permissions",
    metavar="BITS",
    callback=_bits,
    help="Set who may read, write, delete and create: like 0xF31, or owner=rwdc,group=rw,others=r.",
)
@in_remote_session
def meta_command(session: Session, key: str, owner: str | None, group: str | None, permissions: int | None) -> int:
    """Show what applies to a key: owner, group, permissions, time to live. Or change what is named."""
    from kvs.client.accounts import KEEP

    if owner is None and group is None and permissions is None:
        found = session.client.metadata(key, effective=True)
    else:
        found = session.client.set_metadata(
            key,
            owner_uuid=KEEP if owner is None else None if owner == _NOBODY else session.user_uuid(owner),
            group_uuid=KEEP if group is None else None if group == _NOBODY else session.group_uuid(group),
            permissions=KEEP if permissions is None else permissions,
        )
    if session.as_json:
        names = ("owner_uuid", "group_uuid", "permissions", "ttl", "created_at", "updated_at")
        print_json({name: getattr(found, name) for name in names})
        return OK
    lines = (
        ("owner", found.owner_uuid or "-"),
        ("group", found.group_uuid or "-"),
        ("permissions", f"0x{found.permissions:03X} {letters(found.permissions)}"),
        ("lives for", f"{found.ttl} ms" if found.ttl else "ever"),
        ("created", time_text(found.created_at) if found.created_at else "-"),
        ("updated", time_text(found.updated_at) if found.updated_at else "-"),
    )
    click.echo("\n".join(f"{name + ':':14}{text}" for name, text in lines))
    return OK
