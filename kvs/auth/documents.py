"""KVS's own records as documents: what they are called, and what is in them.

    user/<uuid>            a User with this uuid
    group/<uuid>           a Group with this uuid
    nickname/<hash>        the uuid of a user, as JSON text
    groupname/<hash>       the uuid of a group
    token/<hash>           a StoredToken, whose id begins the hash
    deleted/<uuid>         Deleted
    metadata/<key>         Metadata of a user's key
    <kind>/<name>          of a kind that only a later version of KVS has; nobody here reads it

Other nodes bring them, and one of those may be at fault. `check_shape` is for readers: what does not decode counts as
corrupt, which is left out, logged and can be deleted. `check_brought` is for what comes in: a document that no node
could have written is not taken, so that all who read them later need not expect it.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from kvs.auth.accounts import (
    DELETED,
    GROUPNAMES,
    GROUPS,
    NICKNAMES,
    USERS,
    Group,
    User,
    decode_deleted,
    decode_group,
    decode_user,
)
from kvs.auth.permissions import Metadata, decode_metadata
from kvs.auth.tokens import TOKEN_ID_CHARS, TOKENS, StoredToken, decode_token
from kvs.errors import BadMessage, BadRequest, StoreCorrupt
from kvs.keys import check_key
from kvs.limits import GROUPS_PER_USER_MAX, MEMBERS_PER_GROUP_MAX, SCOPES_MAX

METADATA = "metadata/"

_decode_text = msgspec.json.Decoder(str).decode
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    USERS: decode_user,
    GROUPS: decode_group,
    NICKNAMES: _decode_text,
    GROUPNAMES: _decode_text,
    TOKENS: decode_token,
    DELETED: decode_deleted,
    METADATA: decode_metadata,
}
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, StoreCorrupt)

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HASH = re.compile(r"[0-9a-f]{128}")
_SCOPE = re.compile(r"[a-z][a-z0-9:_-]{0,63}")
_PASSWORD = re.compile(r"\$argon2id\$v=19\$m=[1-9]\d{0,4},t=[1-9],p=[1-9]\$[A-Za-z0-9+/]{8,128}\$[A-Za-z0-9+/]{8,128}")
"""What is checked costs whoever checks it the memory (`m`, KiB) and the rounds (`t`) that it names."""


def check_shape(name: str, document: bytes) -> None:
    """Raises StoreCorrupt when the document under a name is not what its name says."""
    kind = name.partition("/")[0] + "/"
    decode = _DECODERS.get(kind)
    if decode is not None:
        try:
            decode(document)
        except _UNREADABLE as error:
            raise StoreCorrupt(f"it holds no {kind[:-1]}: {error}") from None


def check_brought(name: bytes, document: bytes | None) -> None:
    """Raises BadMessage for a record of KVS's own that no node could have written. None is for a tombstone."""
    try:
        kind, slash, rest = name.decode().partition("/")
    except UnicodeDecodeError:
        raise BadMessage("a name of KVS's own is not UTF-8") from None
    kind += slash
    _check_name(kind, rest)
    if document is None or kind not in _DECODERS:
        return
    try:
        found = _DECODERS[kind](document)
    except _UNREADABLE as error:
        raise BadMessage(f"a record holds no {kind[:-1]}, as its name says: {error}") from None
    if not _is_likely(rest, found):
        raise BadMessage(f"a record holds a {kind[:-1]} that no node writes")


def _check_name(kind: str, rest: str) -> None:
    if kind in (USERS, GROUPS, DELETED):
        is_name = _is_uuid(rest)
    elif kind in (NICKNAMES, GROUPNAMES, TOKENS):
        is_name = _HASH.fullmatch(rest) is not None
    elif kind == METADATA:
        try:
            check_key(rest.encode())
        except BadRequest as error:
            raise BadMessage(f"metadata of a key that is none: {error.detail}") from None
        return
    else:
        is_name = re.fullmatch(r"[a-z][a-z_]{0,31}/", kind) is not None and rest.isprintable() and rest != ""
    if not is_name:
        raise BadMessage("a name of KVS's own that no node gives")


def _is_likely(name: str, found: object) -> bool:
    match found:
        case User():
            return (
                found.uuid == name
                and _HASH.fullmatch(found.nickname_hash) is not None
                and (found.password_hash is None or _PASSWORD.fullmatch(found.password_hash) is not None)
                and len(found.groups) <= GROUPS_PER_USER_MAX
                and _are_uuids(found.groups)
                and _are_scopes(found.scopes)
            )
        case Group():
            return (
                found.uuid == name
                and _HASH.fullmatch(found.groupname_hash) is not None
                and len(found.members) <= MEMBERS_PER_GROUP_MAX
                and _are_uuids(found.members)
            )
        case StoredToken():
            users = [uuid for uuid in (found.user_uuid, found.created_by) if uuid]
            return found.token_id == name[:TOKEN_ID_CHARS] and _are_uuids(users) and _are_scopes(found.scopes)
        case Metadata():
            return _are_uuids(uuid for uuid in (found.owner_uuid, found.group_uuid) if uuid is not None)
        case str():
            return _is_uuid(found)
    return True


def _is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def _are_uuids(texts: Iterable[str]) -> bool:
    return all(map(_is_uuid, texts))


def _are_scopes(texts: tuple[str, ...]) -> bool:
    return len(texts) <= SCOPES_MAX and all(_SCOPE.fullmatch(text) for text in texts)
