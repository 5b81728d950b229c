"""Who may do what with a key: 12 bits as POSIX has them.

    bit   11     10     9     8    | 7      6      5     4    | 3      2      1     0
          create delete write read | create delete write read | create delete write read
          owner                      group                      others

The first class that fits decides, as in POSIX: an owner who took a right away from himself does not get it back as
one of the others. `create` applies to a key without a value, `write` to one with a value.

What applies to a key is its metadata, if they were set, else the owner of its record and the default bits.
"""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from kvs.auth.accounts import Moment
from kvs.auth.principal import Principal
from kvs.errors import StoreCorrupt

DEFAULT_PERMISSIONS = 0xF31
"""Owner everything; group write and read; others read."""
PERMISSIONS_MAX = 0xFFF

_OWNER_SHIFT, _GROUP_SHIFT, _OTHERS_SHIFT = 8, 4, 0


class Action(enum.IntEnum):
    """Its value is its bit within a class."""

    READ = 1
    WRITE = 2
    DELETE = 4
    CREATE = 8


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was set explicitly for a key. Times are Unix ms."""

    owner_uuid: str | None = None
    group_uuid: str | None = None
    permissions: Annotated[int, Meta(ge=0, le=PERMISSIONS_MAX)] = DEFAULT_PERMISSIONS
    created_at: Moment = 0
    updated_at: Moment = 0


_decode = msgspec.json.Decoder(Metadata).decode
encode_metadata = msgspec.json.Encoder().encode


def decode_metadata(document: bytes) -> Metadata:
    """Raises StoreCorrupt for a document that holds none: what it was to protect is unknown."""
    try:
        return _decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreCorrupt(f"a record of metadata holds none: {error}") from None


def permits(principal: Principal, action: Action, metadata: Metadata | None, record_owner: str | None) -> bool:
    """Whether the principal may do it.

    `record_owner` is the owner of the value under the key, empty for a value that an anonymous writer left, None when
    there is no value. A key without a value belongs to whoever creates it, unless its metadata name an owner.
    """
    if principal.bypasses:
        return True
    if metadata is None:
        if record_owner is None:
            return True  # created by its owner to be; for a read or delete there is nothing to protect
        # What anonymous writers left belongs to all of them; once metadata are set, they are among the others.
        shift = _OWNER_SHIFT if principal.user == record_owner else _OTHERS_SHIFT
        return bool(DEFAULT_PERMISSIONS >> shift & action)
    return bool(metadata.permissions >> _shift(principal, action, metadata, record_owner) & action)


def is_readable_by_all(metadata: Metadata | None) -> bool:
    """Whether whoever asks may read the key, whoever owns its record."""
    bits = DEFAULT_PERMISSIONS if metadata is None else metadata.permissions
    return bool(bits >> _OWNER_SHIFT & bits >> _GROUP_SHIFT & bits >> _OTHERS_SHIFT & Action.READ)


def owner_of(metadata: Metadata | None, record_owner: str | None) -> str | None:
    """The uuid of the key's owner; None or empty when it has none."""
    return (metadata.owner_uuid if metadata is not None else None) or record_owner


def _shift(principal: Principal, action: Action, metadata: Metadata, record_owner: str | None) -> int:
    if not principal.user:
        return _OTHERS_SHIFT
    owner = owner_of(metadata, record_owner)
    if owner == principal.user or (owner is None and action is Action.CREATE):
        return _OWNER_SHIFT
    return _GROUP_SHIFT if metadata.group_uuid in principal.groups else _OTHERS_SHIFT
