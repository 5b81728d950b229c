"""Users and groups as stored documents, and every change of them as a pure function.

    user/<uuid>          User
    group/<uuid>         Group
    nickname/<hash>      uuid of the user   (JSON text)
    groupname/<hash>     uuid of the group
    deleted/<uuid>       Deleted, of a user or a group: there is none under this uuid, whatever else is stored

A change looks at what is there and returns the documents to write (None: remove); it runs inside the plan of a write,
so that of two that contradict each other the second sees the first.

That holds on one node. What two nodes decide apart from each other meets later, and of each document the last version
stays. So who is deleted stays deleted also where another change wrote the same document later, by the document that
only a deletion writes. And a membership, which stands on both sides and is written on both, counts only where both
agree: whichever side says that it ended is believed.

A record that is corrupt is never believed: nobody can be put into an account that is, and no name taken that may be
another's. But whoever leaves such an account leaves it, and what is corrupt can be removed.

Names are kept as SHA3-512 only: a stolen database tells no names. Names are unique on a node; when two nodes take one
name at the same time, both accounts stay, and the name leads to the one written last.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from kvs.errors import BadRequest, Conflict, NotFound, StoreCorrupt
from kvs.limits import GROUPS_PER_USER_MAX, MEMBERS_PER_GROUP_MAX, TIMESTAMP_MAX

Look = Callable[[str], bytes | None]
"""The live document under a name, or None. Raises StoreCorrupt."""
Changes = dict[str, bytes | None]

USERS = "user/"
GROUPS = "group/"
NICKNAMES = "nickname/"
GROUPNAMES = "groupname/"
DELETED = "deleted/"

Moment = Annotated[int, Meta(ge=0, le=TIMESTAMP_MAX)]
"""Unix ms."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """`scopes` are what a login gives. Times are Unix ms."""

    uuid: str
    nickname_hash: str
    password_hash: str | None = None
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    created_at: Moment
    updated_at: Moment


class Group(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    groupname_hash: str
    members: tuple[str, ...] = ()
    created_at: Moment
    updated_at: Moment


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    deleted_at: Moment


decode_deleted = msgspec.json.Decoder(Deleted).decode
decode_user = msgspec.json.Decoder(User).decode
decode_group = msgspec.json.Decoder(Group).decode
_encode = msgspec.json.Encoder().encode
_Account = TypeVar("_Account", User, Group)


def name_hash(name: str) -> str:
    """SHA3-512 in hex of a nickname or group name."""
    return hashlib.sha3_512(name.encode()).hexdigest()


def is_deleted(look: Look, uuid: str) -> bool:
    """Whether a user or group was deleted: what is stored under its uuid is not to be believed then."""
    return look(DELETED + uuid) is not None


def find_user(look: Look, uuid: str) -> User | None:
    raw = look(USERS + uuid)
    return None if raw is None or is_deleted(look, uuid) else decode_user(raw)


def find_group(look: Look, uuid: str) -> Group | None:
    raw = look(GROUPS + uuid)
    return None if raw is None or is_deleted(look, uuid) else decode_group(raw)


def groups_of(look: Look, user: User) -> tuple[str, ...]:
    """The groups that count for a user: those that it lists and that list it. One that cannot be read gives what it
    gave."""
    sides = ((uuid, members_listed(look, uuid)) for uuid in user.groups)
    return tuple(uuid for uuid, members in sides if members is None or user.uuid in members)


def members_listed(look: Look, group: str) -> tuple[str, ...] | None:
    """Whom a group lists, whatever they list; None when it cannot be read."""
    try:
        found = find_group(look, group)
    except StoreCorrupt:
        return None
    return () if found is None else found.members


def groups_listed(look: Look, user: str) -> tuple[str, ...] | None:
    """The groups that a user lists, whatever those list; None when it cannot be read."""
    try:
        found = find_user(look, user)
    except StoreCorrupt:
        return None
    return () if found is None else found.groups


def rests_on(user: User) -> tuple[str, ...]:
    """The names of the documents that say whether a user is there, and which groups count for it."""
    accounts = [(USERS, user.uuid), *((GROUPS, uuid) for uuid in user.groups)]
    return tuple(name for kind, uuid in accounts for name in (kind + uuid, DELETED + uuid))


def find_by_nickname(look: Look, nickname: str) -> User | None:
    raw = look(NICKNAMES + name_hash(nickname))
    return None if raw is None else find_user(look, msgspec.json.decode(raw, type=str))


def find_by_groupname(look: Look, groupname: str) -> Group | None:
    raw = look(GROUPNAMES + name_hash(groupname))
    return None if raw is None else find_group(look, msgspec.json.decode(raw, type=str))


def whole(look: Look) -> Look:
    """As `look`, with None for a document that is corrupt."""

    def found(name: str) -> bytes | None:
        try:
            return look(name)
        except StoreCorrupt:
            return None

    return found


# --- users ---


def create_user(look: Look, user: User) -> Changes:
    """A new user, also in the lists of its groups. Raises Conflict when the nickname is taken, BadRequest for a group
    that does not exist."""
    changes: Changes = {}
    _take_name(look, changes, NICKNAMES + user.nickname_hash, user.uuid, "nickname")
    changes[USERS + user.uuid] = _encode_user(user)
    _join_groups(look, changes, user.uuid, wanted=user.groups, held=(), now_ms=user.updated_at)
    return changes


def update_user(look: Look, uuid: str, now_ms: int, **fields: object) -> Changes:
    """Change the fields that are named. Raises NotFound, Conflict, BadRequest."""
    user = _existing(find_user(look, uuid), "user")
    changed = msgspec.structs.replace(user, updated_at=now_ms, **fields)
    changes: Changes = {}
    if changed.nickname_hash != user.nickname_hash:
        _take_name(look, changes, NICKNAMES + changed.nickname_hash, uuid, "nickname")
        _free_name(look, changes, NICKNAMES + user.nickname_hash, uuid)
    changes[USERS + uuid] = _encode_user(changed)
    if "groups" in fields:
        _join_groups(look, changes, uuid, wanted=changed.groups, held=user.groups, now_ms=now_ms)
    return changes


def delete_user(look: Look, uuid: str, now_ms: int, *, listed_by: Sequence[str] = ()) -> Changes:
    """Remove the user, its name, and it from its groups and those that list it. Raises NotFound.

    The name of a user whose record is corrupt stays, and leads nowhere.
    """
    changes: Changes = {USERS + uuid: None, DELETED + uuid: _encode(Deleted(deleted_at=now_ms))}
    groups: tuple[str, ...] = ()
    with suppress(StoreCorrupt):
        user = _existing(find_user(look, uuid), "user")
        _free_name(look, changes, NICKNAMES + user.nickname_hash, uuid)
        groups = user.groups
    _join_groups(look, changes, uuid, wanted=(), held=(*groups, *listed_by), now_ms=now_ms)
    return changes


# --- groups ---


def create_group(look: Look, group: Group) -> Changes:
    """A new group, also in the lists of its members. Raises Conflict when the name is taken, BadRequest for a member
    that does not exist."""
    changes: Changes = {}
    _take_name(look, changes, GROUPNAMES + group.groupname_hash, group.uuid, "groupname")
    changes[GROUPS + group.uuid] = _encode_group(group)
    _admit_members(look, changes, group.uuid, wanted=group.members, held=(), now_ms=group.updated_at)
    return changes


def update_group(look: Look, uuid: str, now_ms: int, **fields: object) -> Changes:
    """Change the fields that are named. Raises NotFound, Conflict, BadRequest."""
    group = _existing(find_group(look, uuid), "group")
    changed = msgspec.structs.replace(group, updated_at=now_ms, **fields)
    changes: Changes = {}
    if changed.groupname_hash != group.groupname_hash:
        _take_name(look, changes, GROUPNAMES + changed.groupname_hash, uuid, "groupname")
        _free_name(look, changes, GROUPNAMES + group.groupname_hash, uuid)
    changes[GROUPS + uuid] = _encode_group(changed)
    if "members" in fields:
        _admit_members(look, changes, uuid, wanted=changed.members, held=group.members, now_ms=now_ms)
    return changes


def delete_group(look: Look, uuid: str, now_ms: int, *, listed_by: Sequence[str] = ()) -> Changes:
    """Remove the group, its name, and it from its members and those that list it. Raises NotFound.

    The name of a group whose record is corrupt stays, and leads nowhere.
    """
    changes: Changes = {GROUPS + uuid: None, DELETED + uuid: _encode(Deleted(deleted_at=now_ms))}
    members: tuple[str, ...] = ()
    with suppress(StoreCorrupt):
        group = _existing(find_group(look, uuid), "group")
        _free_name(look, changes, GROUPNAMES + group.groupname_hash, uuid)
        members = group.members
    _admit_members(look, changes, uuid, wanted=(), held=(*members, *listed_by), now_ms=now_ms)
    return changes


# --- both sides of a membership ---


def _join_groups(
    look: Look, changes: Changes, user: str, *, wanted: Sequence[str], held: Sequence[str], now_ms: int
) -> None:
    """Write the user into the lists of the groups wanted that lack it, and out of those of the others that it held.
    One that it held may be gone by now."""
    for uuid in wanted:
        group = find_group(whole(look) if uuid in held else look, uuid)
        if group is None and uuid not in held:
            raise BadRequest(f"there is no group {uuid}", field="groups")
        if group is not None and user not in group.members:
            changes[GROUPS + uuid] = _with_members(group, (*group.members, user), now_ms)
    for uuid in _without(held, wanted):
        group = find_group(whole(look), uuid)
        if group is not None and user in group.members:
            changes[GROUPS + uuid] = _with_members(group, _without(group.members, (user,)), now_ms)


def _admit_members(
    look: Look, changes: Changes, group: str, *, wanted: Sequence[str], held: Sequence[str], now_ms: int
) -> None:
    """Write the group into the lists of the users wanted that lack it, and out of those of the others that it held.
    One that it held may be gone by now."""
    kept = set(held)
    for uuid in wanted:
        user = find_user(whole(look) if uuid in kept else look, uuid)
        if user is None and uuid not in kept:
            raise BadRequest(f"there is no user {uuid}", field="members")
        if user is not None and group not in user.groups:
            changes[USERS + uuid] = _with_groups(user, (*user.groups, group), now_ms)
    for uuid in _without(held, wanted):
        user = find_user(whole(look), uuid)
        if user is not None and group in user.groups:
            changes[USERS + uuid] = _with_groups(user, _without(user.groups, (group,)), now_ms)


def _with_members(group: Group, members: tuple[str, ...], now_ms: int) -> bytes:
    return _encode_group(msgspec.structs.replace(group, members=members, updated_at=now_ms))


def _with_groups(user: User, groups: tuple[str, ...], now_ms: int) -> bytes:
    return _encode_user(msgspec.structs.replace(user, groups=groups, updated_at=now_ms))


def _encode_group(group: Group) -> bytes:
    if len(group.members) > MEMBERS_PER_GROUP_MAX:
        raise BadRequest(f"a group has at most {MEMBERS_PER_GROUP_MAX} members", field="members")
    return _encode(group)


def _encode_user(user: User) -> bytes:
    if len(user.groups) > GROUPS_PER_USER_MAX:
        raise BadRequest(f"a user is in at most {GROUPS_PER_USER_MAX} groups", field="groups")
    return _encode(user)


def _without(items: Sequence[str], gone: Sequence[str]) -> tuple[str, ...]:
    absent = set(gone)
    return tuple(item for item in items if item not in absent)


# --- names ---


def _take_name(look: Look, changes: Changes, name: str, uuid: str, kind: str) -> None:
    raw = look(name)
    holder = None if raw is None else msgspec.json.decode(raw, type=str)
    find = find_user if kind == "nickname" else find_group
    if holder is not None and holder != uuid and find(look, holder) is not None:
        raise Conflict(f"this {kind} is taken", code=f"{kind}_taken")
    changes[name] = _encode(uuid)


def _free_name(look: Look, changes: Changes, name: str, uuid: str) -> None:
    """Unless it leads to another account by now. A corrupt one leads nowhere."""
    try:
        raw = look(name)
    except StoreCorrupt:
        changes[name] = None
    else:
        if raw is not None and msgspec.json.decode(raw, type=str) == uuid:
            changes[name] = None


def _existing(account: _Account | None, kind: str) -> _Account:
    if account is None:
        raise NotFound(f"there is no such {kind}")
    return account
