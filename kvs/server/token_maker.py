"""Making tokens: signed, and stored under their hash."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

from kvs.actions import TOKEN_CREATE
from kvs.auth.tokens import TOKEN_ID_CHARS, TOKENS, SigningKey, StoredToken, encode_token, issue, token_hash
from kvs.cluster.events import Act, Put
from kvs.storage.compression import RAW
from kvs.storage.keyspace import system_key
from kvs.storage.record import new_uuid


class MadeToken(NamedTuple):
    """A token, what is known of it, and the command that stores it. Good once that is committed."""

    token: str
    stored: StoredToken
    command: Put


def make_token(
    key: SigningKey,
    *,
    user: str,
    scopes: Sequence[str],
    now_ms: int,
    life_ms: int,
    created_by: str,
    actor: str | None = None,
) -> MadeToken:
    """`life_ms` is rounded down to seconds. `actor` is who makes it in the words of the audit log, where that is not
    `created_by`."""
    token = issue(key, user=user, scopes=scopes, jti=str(uuid4()), now_ms=now_ms, life_ms=life_ms)
    digest = token_hash(token)
    stored = StoredToken(
        token_id=digest[:TOKEN_ID_CHARS],
        user_uuid=user,
        scopes=tuple(scopes),
        created_at=now_ms,
        expires_at=(now_ms + life_ms) // 1000 * 1000,
        created_by=created_by,
    )
    act = token_act(TOKEN_CREATE, created_by if actor is None else actor, stored)
    return MadeToken(token, stored, store_token(digest, stored, now_ms, act))


def token_act(action: str, actor: str, stored: StoredToken) -> Act:
    """What is done to a token, for the audit log. A record that was lost is of nobody."""
    owner = f"/user/{stored.user_uuid}" if stored.user_uuid else ""
    return Act(action, actor, f"{owner}/token/{stored.token_id}")


def store_token(digest: str, stored: StoredToken, now_ms: int, *acts: Act) -> Put:
    """The command that keeps a token's record until the token ends. `acts` are what it is in the audit log."""
    return Put(
        entry=system_key((TOKENS + digest).encode()),
        uuid=new_uuid(),
        codec=RAW,
        payload=encode_token(stored),
        ttl_ms=max(1, stored.expires_at - now_ms),
        acts=acts,
    )
