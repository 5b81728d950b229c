"""The shapes of JSON: bodies, which the handlers decode with these, and answers.

They are also what `/openapi.json` is made of, so their texts are written for readers of the API. Answers are held
against theirs in the tests. Further conditions, whose refusals have codes of their own, stand in `extra_json_schema`,
which msgspec does not check. What peers say is in kvs/cluster/messages.py and kvs/server/peer_json.py.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from kvs.auth.permissions import DEFAULT_PERMISSIONS, PERMISSIONS_MAX
from kvs.auth.scopes import ALL
from kvs.cluster.audit_heads import Head, LongHash, Number
from kvs.cluster.messages import Leave
from kvs.limits import (
    GROUPS_PER_USER_MAX,
    KEY_MAX_BYTES,
    MEMBERS_PER_GROUP_MAX,
    NAME_MAX_BYTES,
    PASSWORD_MAX_BYTES,
    PASSWORD_MIN_CHARS,
)
from kvs.server.peer_json import RangeNode
from kvs.storage.record import JSON


def _shown(about: str, **schema: Any) -> Meta:
    """A description, and conditions that are only shown."""
    return Meta(description=about, extra_json_schema=schema or None)


_Name = Annotated[
    str, _shown("Printable text, not only spaces. Unique; never shown.", minLength=1, maxLength=NAME_MAX_BYTES)
]
_Password = Annotated[
    str,
    _shown(
        "The characters are at least, the bytes at most so many.",
        minLength=PASSWORD_MIN_CHARS,
        maxLength=PASSWORD_MAX_BYTES,
    ),
]
_Scopes = Annotated[list[str], _shown("What may be done.", items={"enum": list(ALL)})]
_Groups = Annotated[list[UUID], _shown("Groups that the user is in.", maxItems=GROUPS_PER_USER_MAX)]
_Users = Annotated[list[UUID], _shown("Users in the group.", maxItems=MEMBERS_PER_GROUP_MAX)]
_Moment = Annotated[int, Meta(description="Unix milliseconds.")]
_Cursor = Annotated[str | None, Meta(description="Where the next page begins; null at the end.")]
_Uuid = Annotated[str, _shown("", format="uuid")]
_Data = Annotated[Any, Meta(description="The value as it was sent; base64 text for a blob, null for a tombstone.")]
_Encoding = Literal["base64"]
_DAMAGED_ROW = {
    "type": "object",
    "properties": {"number": {"type": ["integer", "null"]}, "damaged": {"type": "string"}},
    "required": ["number", "damaged"],
}
_HEAD_ROW = {"anyOf": [{"$ref": "#/components/schemas/Head"}, _DAMAGED_ROW]}
"""Written out, because msgspec knows no choice between two structs."""


# --- bodies ---


class TtlForm(msgspec.Struct):
    """A value with a time to live."""

    data: msgspec.Raw
    ttl: str


class BulkItem(msgspec.Struct, frozen=True):
    """One write. `data` is JSON, or with `encoding: base64` the text of a blob of `content_type`."""

    op: Literal["put", "delete"]
    path: Annotated[str, _shown("The key.", minLength=1, maxLength=KEY_MAX_BYTES)]
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    ttl: str | None = None
    content_type: str = JSON
    encoding: Literal["json", "base64"] = "json"
    if_match: str | None = None
    if_none_match: str | None = None


class MetadataChanges(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is not named stays."""

    owner_uuid: UUID | UnsetType | None = UNSET
    group_uuid: UUID | UnsetType | None = UNSET
    permissions: Annotated[int, _shown("12 bits.", minimum=0, maximum=PERMISSIONS_MAX)] | UnsetType = UNSET


class NewUser(msgspec.Struct, frozen=True):
    """`scopes` are what a login gives; without them those of read, write and delete that the token has."""

    nickname: _Name
    password: _Password | None = None
    groups: _Groups = []
    scopes: _Scopes | None = None


class UserChanges(msgspec.Struct, frozen=True):
    """What is not named stays. A password of null takes the password away."""

    nickname: _Name | UnsetType = UNSET
    password: _Password | UnsetType | None = UNSET
    groups: _Groups | UnsetType = UNSET
    scopes: _Scopes | UnsetType = UNSET


class NewGroup(msgspec.Struct, frozen=True):
    """A group."""

    groupname: _Name
    members: _Users = []


class GroupChanges(msgspec.Struct, frozen=True):
    """What is not named stays."""

    groupname: _Name | UnsetType = UNSET
    members: _Users | UnsetType = UNSET


class NewToken(msgspec.Struct, frozen=True):
    """`expires_in` is seconds, or a duration such as "12h"."""

    user_uuid: UUID
    scopes: _Scopes
    expires_in: int | str | None = None


class Login(msgspec.Struct, frozen=True):
    """Who logs in."""

    nickname: str
    password: str


class MemberLeaves(Leave, frozen=True, kw_only=True):
    """`id` is gone. With `remove` it is an operator's word: it will not come back."""

    remove: bool = False


# --- answers ---


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457. `code` is a stable word for programs. `field` is what is at fault; `limit` and `actual` come with
    too_large."""

    title: str
    status: int
    detail: str
    code: str
    request_id: str
    field: str | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    actual: int | UnsetType = UNSET


class Version(msgspec.Struct, frozen=True):
    """What a writer is told."""

    uuid: _Uuid
    timestamp: _Moment


class UnconfirmedVersion(Version, frozen=True, kw_only=True):
    """`replicated` nodes have it on their disks."""

    replicated: int


class Value(Version, frozen=True, kw_only=True):
    """A JSON value. `expires_at` is there if it ends."""

    data: _Data
    expires_at: _Moment | UnsetType = UNSET


class StoredValue(Value, frozen=True, kw_only=True):
    """A value inside JSON. A blob says so by `encoding`."""

    content_type: str | UnsetType = UNSET
    encoding: _Encoding | UnsetType = UNSET


class Revision(StoredValue, frozen=True, kw_only=True):
    """A kept version; 1 is the current one."""

    revision: int
    deleted: Literal[True] | UnsetType = UNSET


class Pair(msgspec.Struct, frozen=True):
    """With `keys_only` the value is left out."""

    path: str
    stored_value: StoredValue | UnsetType = UNSET


class RangePage(msgspec.Struct, frozen=True):
    """Values in key order."""

    pairs: list[Pair]
    next_cursor: _Cursor


class ListEntry(msgspec.Struct, frozen=True):
    """A key, or the common beginning of keys, which is only a `path`."""

    path: str
    type: Literal["key", "prefix"]
    uuid: _Uuid | UnsetType = UNSET
    timestamp: _Moment | UnsetType = UNSET
    content_type: str | UnsetType = UNSET
    expires_at: _Moment | UnsetType = UNSET


class ListPage(msgspec.Struct, frozen=True):
    """One level of the hierarchy of keys."""

    entries: list[ListEntry]
    next_cursor: _Cursor


class BulkResult(msgspec.Struct, frozen=True):
    """What the single request would have been answered: a version, or a problem without `request_id`."""

    status: int
    uuid: _Uuid | UnsetType = UNSET
    timestamp: _Moment | UnsetType = UNSET
    title: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    field: str | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    actual: int | UnsetType = UNSET


class BulkResults(msgspec.Struct, frozen=True):
    """In the order of the items."""

    results: list[BulkResult]


class KeyMetadata(msgspec.Struct, frozen=True):
    """Who owns a key and what may be done with it. `ttl` is what remains of the value's life in milliseconds."""

    owner_uuid: _Uuid | None
    group_uuid: _Uuid | None
    permissions: Annotated[
        int, _shown(f"12 bits; {DEFAULT_PERMISSIONS} if none were set.", minimum=0, maximum=PERMISSIONS_MAX)
    ]
    ttl: int
    created_at: _Moment | None
    updated_at: _Moment | None


class Made(msgspec.Struct, frozen=True):
    """What was made is found under its uuid."""

    uuid: _Uuid


class UserShown(msgspec.Struct, frozen=True):
    """`nickname_hash` is SHA3-512 in hex."""

    uuid: _Uuid
    nickname_hash: str
    groups: list[_Uuid]
    scopes: list[str]
    created_at: _Moment
    updated_at: _Moment
    has_password: bool


class UserPage(msgspec.Struct, frozen=True):
    """In the order of uuids."""

    users: list[UserShown]
    next_cursor: _Cursor


class GroupShown(msgspec.Struct, frozen=True):
    """`groupname_hash` is SHA3-512 in hex."""

    uuid: _Uuid
    groupname_hash: str
    members: list[_Uuid]
    created_at: _Moment
    updated_at: _Moment


class GroupPage(msgspec.Struct, frozen=True):
    """In the order of uuids."""

    groups: list[GroupShown]
    next_cursor: _Cursor


class TokenMade(msgspec.Struct, frozen=True):
    """The token is shown this once."""

    token: str
    expires_at: _Moment
    token_id: str


class LoggedIn(TokenMade, frozen=True, kw_only=True):
    """A token of the user."""

    user_uuid: _Uuid


class TokenShown(msgspec.Struct, frozen=True):
    """A token that is good, without the token itself. `created_by` is empty for one made on the node's own host."""

    token_id: str
    user_uuid: _Uuid
    scopes: list[str]
    created_at: _Moment
    expires_at: _Moment
    created_by: str


class TokenPage(msgspec.Struct, frozen=True):
    """In the order of ids."""

    tokens: list[TokenShown]
    next_cursor: _Cursor


class AuditEntry(msgspec.Struct, frozen=True):
    """An entry, or a row that is damaged: then there is its number, null where that is none, and its bytes in base64.
    `user_uuid` may also be `local`, `node`, or empty for nobody that is known."""

    number: int | None
    timestamp: Annotated[str, Meta(description="RFC 3339, in UTC.")] | UnsetType = UNSET
    action: str | UnsetType = UNSET
    user_uuid: str | UnsetType = UNSET
    resource: str | UnsetType = UNSET
    signature: Annotated[str, Meta(description="SHA3-512 in hex, of the entry and the one before.")] | UnsetType = UNSET
    damaged: str | UnsetType = UNSET


class AuditPage(msgspec.Struct, frozen=True):
    """Entries in the order that was asked for."""

    entries: list[AuditEntry]
    next_cursor: _Cursor


class AuditTip(msgspec.Struct, frozen=True):
    """The number of the last entry, 0 while there is none, and its signature."""

    number: Number
    signature: LongHash


class AuditHeadsPage(msgspec.Struct, frozen=True):
    """Heads of the log with the id `log`, in the order that was asked for. `tip` is where the log ends by its own word;
    null where that is missing or damaged."""

    node_id: str
    log: str
    tip: AuditTip | None
    heads: Annotated[list[Any], _shown("Heads; a damaged row is its number and its bytes in base64.", items=_HEAD_ROW)]
    next_cursor: _Cursor


class AuditHeadsKept(msgspec.Struct, frozen=True):
    """By node."""

    nodes: dict[str, list[Head]]


class Health(msgspec.Struct, frozen=True):
    """`member_count` counts the members that are up, this one included."""

    status: Literal["healthy", "degraded"]
    mode: Literal["normal", "read_only", "degraded", "syncing"]
    node_id: str
    member_count: int
    version: str
    uptime_seconds: float


class Ready(msgspec.Struct, frozen=True):
    """Whether the node takes writes of clients."""

    ready: bool
    mode: Literal["normal", "read_only", "degraded", "syncing"]


class ClusterSecret(msgspec.Struct, frozen=True):
    """What goes into the configuration of a new node."""

    cluster_secret: str
    seed_nodes: list[str]


class Root(msgspec.Struct, frozen=True):
    """The range of everything, how many records are in it, and about how many ranges may be asked at once."""

    root: RangeNode
    count: int
    ranges_max: int


class RecordVersion(Version, frozen=True, kw_only=True):
    """The version under a key."""

    path: str


class DiffShown(msgspec.Struct, frozen=True):
    """Equal, the keys of a short range, or the parts of a longer one; `ranges` in the batched form."""

    equal: Literal[True] | UnsetType = UNSET
    children: list[RangeNode] | UnsetType = UNSET
    keys: list[RecordVersion] | UnsetType = UNSET
    ranges: "list[DiffShown] | UnsetType" = UNSET


class RangeShown(msgspec.Struct, frozen=True):
    """`next_key` is where the range goes on, if it does."""

    pairs: list[Pair]
    next_key: str | UnsetType = UNSET


class ReplicateOutcomes(msgspec.Struct, frozen=True):
    """For each record, in order."""

    outcomes: list[Literal["taken", "known", "older", "refused"]]
