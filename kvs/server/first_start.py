"""The root account that a fresh node makes, so that somebody can make the others."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import structlog

from kvs.actions import GROUP_CREATE, USER_CREATE
from kvs.auth.accounts import (
    GROUPS,
    USERS,
    Changes,
    Group,
    User,
    create_group,
    create_user,
    find_by_groupname,
    name_hash,
    whole,
)
from kvs.auth.principal import NODE_ACTOR
from kvs.auth.scopes import ALL
from kvs.auth.tokens import SigningKey
from kvs.cluster.events import Act
from kvs.cluster.runner import Runner
from kvs.errors import KvsError, StoreCorrupt
from kvs.limits import ROOT_TOKEN_LIFE_MS
from kvs.server.system import Documents, all_documents, change_documents, live_document
from kvs.server.token_maker import make_token
from kvs.storage.store import Store

log = structlog.get_logger()

ROOT_NICKNAME = "root"
ADMIN_GROUPNAME = "admin"


async def make_root(
    store: Store,
    runner: Runner,
    key: SigningKey,
    now_ms: Callable[[], int],
    *,
    token_life_ms: int = ROOT_TOKEN_LIFE_MS,
) -> str:
    """The block to print once, or nothing when there are users. Raises KvsError when it cannot be written.

    Where the last user was deleted, the group of the admins may still be there: then it is that one which root joins.
    """
    now = now_ms()
    if _has_users(store, now):
        return ""
    # Names and groups that nobody is left to use are no loss if they are corrupt.
    left = find_by_groupname(whole(lambda name: live_document(store, name, now)), ADMIN_GROUPNAME)
    user, group = str(uuid4()), str(uuid4()) if left is None else left.uuid

    def change(look: Documents, now_ms: int) -> Changes:
        root = User(
            uuid=user,
            nickname_hash=name_hash(ROOT_NICKNAME),
            groups=() if left is None else (group,),
            scopes=ALL,
            created_at=now_ms,
            updated_at=now_ms,
        )
        look = whole(look)
        changes = create_user(look, root)
        if left is not None:
            return changes
        admins = Group(
            uuid=group,
            groupname_hash=name_hash(ADMIN_GROUPNAME),
            members=(user,),
            created_at=now_ms,
            updated_at=now_ms,
        )
        return changes | create_group(lambda name: changes[name] if name in changes else look(name), admins)

    made = make_token(key, user=user, scopes=ALL, now_ms=now, life_ms=token_life_ms, created_by=user, actor=NODE_ACTOR)
    acts = [Act(USER_CREATE, NODE_ACTOR, f"/{USERS}{user}")]
    if left is None:
        acts.append(Act(GROUP_CREATE, NODE_ACTOR, f"/{GROUPS}{group}"))
    for outcome in await runner.submit([change_documents(change, *acts), made.command]):
        if isinstance(outcome, KvsError):
            raise outcome
    expires = datetime.fromtimestamp(made.stored.expires_at / 1000, UTC).isoformat().replace("+00:00", "Z")
    return (
        "A root account was made. Its token is shown this once.\n"
        f"User UUID: {user}\n"
        f"Group UUID: {group}\n"
        f"Token: {made.token}\n"
        f"Expires: {expires}"
    )


def _has_users(store: Store, now_ms: int) -> bool:
    """A record that cannot be read was a user too: no root beside those that may be there."""
    try:
        for name, document in all_documents(store, USERS, USERS, now_ms):
            if isinstance(document, StoreCorrupt):
                log.error("A corrupt record counts as a user", key=name, error=str(document))
            if document is not None:
                return True
    except StoreCorrupt as error:
        log.error("The users cannot be read; there are taken to be some", error=str(error))
        return True
    return False
