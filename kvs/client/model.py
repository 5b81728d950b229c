"""What the client hands out and takes. Times are Unix milliseconds."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import msgspec
import orjson

JSON = "application/json"
OCTETS = "application/octet-stream"

Duration = str | timedelta
"""`"1h30m"` as KVS writes it, or a timedelta."""


def duration_text(duration: Duration) -> str:
    if isinstance(duration, str):
        return duration
    return f"{round(duration / timedelta(milliseconds=1))}ms"


class Version(msgspec.Struct, frozen=True):
    """What a write made. `created`: there was no value before. `replicated`: with `w`, on how many nodes it was in time
    if those were too few; None when they were enough."""

    uuid: str
    timestamp: int
    created: bool = False
    replicated: int | None = None


class Value(msgspec.Struct, frozen=True):
    """A stored value: `raw` holds its bytes, exactly as they were written."""

    path: str
    uuid: str
    timestamp: int
    raw: bytes
    content_type: str = JSON
    expires_at: int | None = None

    @property
    def is_json(self) -> bool:
        return self.content_type == JSON

    @property
    def data(self) -> Any:
        """A document as Python's own types; the bytes of anything else."""
        return orjson.loads(self.raw) if self.is_json else self.raw


class Revision(msgspec.Struct, frozen=True):
    """One version of a history; number 1 is the current one. `value` is None for a deletion."""

    number: int
    uuid: str
    timestamp: int
    value: Value | None


class Entry(msgspec.Struct, frozen=True):
    """One line of a list: a key, or a prefix under which there are more (it ends with the delimiter; the other fields
    are then empty)."""

    path: str
    is_prefix: bool
    uuid: str = ""
    timestamp: int = 0
    content_type: str = ""
    expires_at: int | None = None


class Event(msgspec.Struct, frozen=True):
    """What a watcher is told.

    put        `value` is the new value
    delete     the key has no value any more
    expire     the same, because of its time to live
    resync     what happened in between cannot be told: forget everything, a snapshot follows
    uptodate   the snapshot is complete

    `position` is where the node was with it, "" if a stream cannot begin there. `path` is empty for the last two.
    """

    kind: Literal["put", "delete", "expire", "resync", "uptodate"]
    path: str = ""
    uuid: str = ""
    timestamp: int = 0
    value: Value | None = None
    position: str = ""


class Metadata(msgspec.Struct, frozen=True):
    """Who owns a key and who may do what with it. `ttl` is what remains of its value, in ms; 0 without an end."""

    permissions: int
    owner_uuid: str | None = None
    group_uuid: str | None = None
    ttl: int = 0
    created_at: int | None = None
    updated_at: int | None = None


class User(msgspec.Struct, frozen=True):
    """`scopes` are what a login gives. `etag` is for `if_match`; empty in lists."""

    uuid: str
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    has_password: bool = False
    created_at: int = 0
    updated_at: int = 0
    etag: str = ""


class Group(msgspec.Struct, frozen=True):
    """`members` are uuids of users. `etag` is for `if_match`; empty in lists."""

    uuid: str
    members: tuple[str, ...] = ()
    created_at: int = 0
    updated_at: int = 0
    etag: str = ""


class Token(msgspec.Struct, frozen=True):
    """What is stored of a token; never the token itself."""

    token_id: str
    user_uuid: str
    scopes: tuple[str, ...] = ()
    created_at: int = 0
    expires_at: int = 0


class NewToken(msgspec.Struct, frozen=True):
    """A token, shown this once."""

    token: str
    token_id: str
    expires_at: int

    def __repr__(self) -> str:
        return f"NewToken(token_id={self.token_id!r}, expires_at={self.expires_at})"


class WhoAmI(msgspec.Struct, frozen=True):
    """Who a token speaks for, as it says itself, and whether the node takes it."""

    user_uuid: str
    scopes: tuple[str, ...]
    token_id: str
    expires_at: int
    is_accepted: bool


class BulkPut(msgspec.Struct, frozen=True):
    """Bytes are a blob, anything else is JSON; bytes with the content type of JSON are a document as it is."""

    path: str
    value: Any
    content_type: str | None = None
    ttl: Duration | None = None
    if_match: str | None = None
    if_none_match: str | None = None


class BulkDelete(msgspec.Struct, frozen=True):
    path: str
    if_match: str | None = None
    if_none_match: str | None = None


class BulkResult(msgspec.Struct, frozen=True):
    """What became of one item. `problem` is empty if it succeeded."""

    status: int
    uuid: str = ""
    timestamp: int = 0
    problem: Mapping[str, Any] | None = None

    @property
    def is_ok(self) -> bool:
        return self.status < 300
