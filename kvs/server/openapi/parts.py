"""What an operation is described with, and the conditions that many of them share.

A problem code is a word; which status it has stands in one table here, for all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from kvs.limits import (
    COPIES_TIMEOUT_MS,
    ETAGS_MAX_COUNT,
    KEY_MAX_BYTES,
    PAGE_DEFAULT_ENTRIES,
    PAGE_MAX_ENTRIES,
)
from kvs.storage.record import JSON

Schema = Mapping[str, Any]

STATUSES: Mapping[str, int] = {
    **dict.fromkeys(
        (
            "bad_request",
            "invalid_key",
            "reserved_key",
            "invalid_json",
            "invalid_item",
            "invalid_body",
            "bad_message",
            "wrong_sender",
            "invalid_address",
            "invalid_cursor",
            "malformed_body",
            "malformed_request",
        ),
        400,
    ),
    "unauthorized": 401,
    **dict.fromkeys(("forbidden", "scope_exceeded", "foreign_host", "foreign_origin", "read_only", "cut_off"), 403),
    **dict.fromkeys(("not_found", "unknown_member", "unknown_route", "history_disabled"), 404),
    "method_not_allowed": 405,
    "request_timeout": 408,
    **dict.fromkeys(
        (
            "nickname_taken",
            "groupname_taken",
            "last_version",
            "backup_running",
            "wrong_node",
            "this_node",
            "node_id_taken",
            "clone_stops",
            "member_is_up",
        ),
        409,
    ),
    "resync_required": 410,
    "precondition_failed": 412,
    "too_large": 413,
    "unsupported_media": 415,
    "rate_limited": 429,
    "internal": 500,
    **dict.fromkeys(
        (
            "corrupt_record",
            "degraded",
            "overloaded",
            "stopping",
            "syncing",
            "clock_skew",
            "backup_failed",
            "starting",
            "leaving",
            "member_limit",
            "watcher_limit",
            "stalled",
        ),
        503,
    ),
}
"""Problem code to status."""


class Parameter(NamedTuple):
    """In the query, a header field, or the path."""

    name: str
    place: Literal["query", "header", "path"]
    about: str
    schema: Schema


class Body(NamedTuple):
    """Media type to what it holds: a type that JSON is made of, or a schema."""

    about: str
    content: Mapping[str, Any]
    required: bool = True


class Answer(NamedTuple):
    """An answer that is no problem. `content` as in Body; `headers` by name."""

    about: str
    content: Mapping[str, Any] = {}
    headers: Mapping[str, Schema] = {}


class Operation(NamedTuple):
    """What one route does. `problems` are codes beside those that follow from its access, its body and its path.

    `scopes` says in words what the scopes of the route alone do not.
    """

    id: str
    summary: str
    answers: Mapping[int, Answer]
    parameters: Sequence[Parameter] = ()
    body: Body | None = None
    problems: Sequence[str] = ()
    scopes: str = ""


def json(about: str, kind: Any, headers: Mapping[str, Schema] | None = None) -> Answer:
    return Answer(about, {JSON: kind}, headers or {})


# --- schemas and parameters that several operations have ---

TEXT: Schema = {"type": "string"}
DIGITS: Schema = {"type": "string", "pattern": "^[0-9]+$"}
BINARY: Schema = {"type": "string", "format": "binary"}
DURATION: Schema = {
    "type": "string",
    "pattern": r"^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)$",
    "maxLength": 64,
    "examples": ["90s", "1h30m", "0"],
}
SWITCH: Schema = {"type": "string", "enum": ["true", "false", "1", "0", ""], "default": "false"}
ETAG: Schema = {"type": "string", "pattern": '^"[!#-~]+"$'}
_ONE_TAG = '(W/)?"[!#-~]*"'
TAGS: Schema = {"type": "string", "pattern": rf"^(\*|{_ONE_TAG}(, ?{_ONE_TAG})*)$"}

VERSION_HEADERS: Mapping[str, Schema] = {
    "ETag": ETAG,
    "X-KVS-Timestamp": DIGITS,
    "Last-Modified": TEXT,
}


def key_text(about: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": KEY_MAX_BYTES, "description": about}


def query(name: str, about: str, schema: Schema) -> Parameter:
    return Parameter(name, "query", about, schema)


def whole(least: int, most: int | None = None, default: int | None = None) -> Schema:
    """A whole number."""
    schema: dict[str, Any] = {"type": "integer", "minimum": least}
    if most is not None:
        schema["maximum"] = most
    if default is not None:
        schema["default"] = default
    return schema


_HOW = f'"*", or up to {ETAGS_MAX_COUNT} entity tags in quotes, separated by commas'
IF_MATCH = Parameter("If-Match", "header", f"Refused unless it names the current version: {_HOW}.", TAGS)
IF_NONE_MATCH = Parameter("If-None-Match", "header", f"Refused if it names the current version: {_HOW}.", TAGS)
CONDITIONS = (IF_MATCH, IF_NONE_MATCH)
LIMIT = query("limit", "Entries on a page.", whole(1, PAGE_MAX_ENTRIES, PAGE_DEFAULT_ENTRIES))
CURSOR = query("cursor", "Where the page begins: the next_cursor of the page before.", {"type": "string"})
PAGING = (LIMIT, CURSOR)
TTL = query("ttl", "How long the value lives; 0 is for ever.", DURATION)
COPIES = query("w", "On how many nodes it shall be on the disk before the answer.", whole(1, default=1))
TIMEOUT = query("timeout", "How long to wait for them.", {**DURATION, "default": f"{COPIES_TIMEOUT_MS // 1000}s"})

PATH_PARAMETERS: Mapping[str, Parameter] = {
    "key": Parameter(
        "key",
        "path",
        "The key. Its segments are separated by `/`, or `%2F`, which is the same.",
        {"type": "string", "minLength": 1, "maxLength": KEY_MAX_BYTES},
    ),
    "n": Parameter("n", "path", "The number of a revision; 1 is the current one.", whole(1)),
    "uuid": Parameter("uuid", "path", "The account.", {"type": "string", "format": "uuid"}),
    "token_id": Parameter("token_id", "path", "The token's id.", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
}

# --- problems that several operations have ---

READS = ("corrupt_record", "degraded")
WRITES = ("read_only", "last_version", "degraded", "stopping", "syncing", "clock_skew")
"""With `overloaded`, which any request can get when too many connections are open."""
QUERY = ("bad_request",)
PAGES = ("bad_request", "invalid_cursor")
CONDITIONAL = ("bad_request", "precondition_failed")
JSON_BODY = ("invalid_json", "invalid_body")
EVERYWHERE = ("malformed_request", "internal", "overloaded")
OF_BODIES = ("malformed_body", "request_timeout", "too_large", "unsupported_media")
OF_KEYS = ("invalid_key", "reserved_key")
