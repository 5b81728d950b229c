"""The routes of values."""

from collections.abc import Mapping

from kvs.limits import DELIMITER_MAX_BYTES, LIST_DEPTH_MAX, REVISIONS_MAX
from kvs.server import schemas
from kvs.server.openapi.parts import (
    BINARY,
    CONDITIONAL,
    CONDITIONS,
    COPIES,
    DIGITS,
    JSON_BODY,
    PAGES,
    PAGING,
    QUERY,
    READS,
    SWITCH,
    TAGS,
    TEXT,
    TIMEOUT,
    TTL,
    VERSION_HEADERS,
    WRITES,
    Answer,
    Body,
    Operation,
    Parameter,
    json,
    key_text,
    query,
    whole,
)
from kvs.storage.record import JSON

_ANY: dict[str, object] = {}
_BLOB = "*/*"

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/kv/{key}"): Operation(
        "readValue",
        "Read a value",
        {
            200: Answer(
                "The value: JSON in an envelope, a blob as it is, under its own media type.",
                {JSON: schemas.Value, _BLOB: BINARY},
                VERSION_HEADERS,
            ),
            304: Answer("The version that If-None-Match names is the current one.", headers=VERSION_HEADERS),
        },
        (Parameter("If-None-Match", "header", "Versions that need not be sent again.", TAGS),),
        problems=("bad_request", "not_found", *READS),
    ),
    ("PUT", "/kv/{key}"): Operation(
        "writeValue",
        "Write a value",
        {
            200: json("It replaced a value.", schemas.Version, VERSION_HEADERS),
            201: json("There was none before.", schemas.Version, VERSION_HEADERS),
            202: json(
                "It is on the disk here, but not on `w` nodes in time.", schemas.UnconfirmedVersion, VERSION_HEADERS
            ),
        },
        (TTL, COPIES, TIMEOUT, *CONDITIONS),
        Body(
            "JSON of any kind, or a blob under its own media type. A JSON object with exactly the members `data` and "
            "`ttl` is a value with a time to live.",
            {JSON: _ANY, _BLOB: BINARY},
            required=False,
        ),
        (*CONDITIONAL, "invalid_json", "corrupt_record", *WRITES),
    ),
    ("DELETE", "/kv/{key}"): Operation(
        "deleteValue",
        "Delete a value",
        {204: Answer("It is deleted.")},
        CONDITIONS,
        problems=(*CONDITIONAL, "not_found", "corrupt_record", *WRITES),
    ),
    ("GET", "/kv/_range"): Operation(
        "readRange",
        "Read many values in key order",
        {200: json("A page.", schemas.RangePage)},
        (
            query("prefix", "Only keys that begin with it.", key_text("")),
            query("start_key", "The first key, inclusive.", key_text("")),
            query("end_key", "The last key, inclusive.", key_text("")),
            *PAGING,
            query("keys_only", "Without the values.", SWITCH),
        ),
        problems=(*PAGES, *READS),
    ),
    ("GET", "/kv/_list"): Operation(
        "listKeys",
        "Show one level of the key hierarchy",
        {200: json("A page.", schemas.ListPage)},
        (
            query("prefix", "Only keys that begin with it.", key_text("")),
            query(
                "delimiter",
                "What separates levels.",
                {"type": "string", "minLength": 1, "maxLength": DELIMITER_MAX_BYTES, "default": "/"},
            ),
            query("depth", "Levels that are shown.", whole(1, LIST_DEPTH_MAX, 1)),
            *PAGING,
        ),
        problems=(*PAGES, *READS),
    ),
    ("POST", "/kv/_bulk"): Operation(
        "writeMany",
        "Put and delete many keys in one commit",
        {200: json("A result for each item. A bad item fails alone.", schemas.BulkResults)},
        body=Body(
            "A JSON array of items, or one item a line.",
            {JSON: list[schemas.BulkItem], "application/x-ndjson": {"type": "string"}},
            required=False,
        ),
        problems=("invalid_json", "invalid_item", *WRITES),
        scopes="Each put needs `write`, each delete `delete`.",
    ),
    ("GET", "/api/data/{key}/history"): Operation(
        "readHistory",
        "Show the kept versions of a key, newest first",
        {200: json("Those that may be read. `Link` names the rest, where there is one.", list[schemas.Revision])},
        (query("from", "The first number that is shown.", whole(1, REVISIONS_MAX, 1)),),
        problems=("bad_request", "not_found", "history_disabled", *READS),
    ),
    ("GET", "/api/data/{key}/history/{n}"): Operation(
        "readRevision",
        "Show one kept version",
        {200: json("The version.", schemas.Revision, VERSION_HEADERS)},
        problems=("bad_request", "not_found", "history_disabled", *READS),
    ),
    ("POST", "/api/data/{key}/history/{n}/restore"): Operation(
        "restoreRevision",
        "Write a kept version again as a new one",
        {200: json("The new version.", schemas.Version, VERSION_HEADERS)},
        CONDITIONS,
        problems=(*CONDITIONAL, "not_found", "history_disabled", "corrupt_record", *WRITES),
        scopes="To restore a deletion needs `delete` too.",
    ),
    ("GET", "/watch"): Operation(
        "watchKeys",
        "Tell of changes as they happen",
        {
            200: Answer(
                "Server-sent events, without an end: `put`, `delete`, `expire`, `uptodate`.",
                {"text/event-stream": TEXT},
                {"X-Accel-Buffering": TEXT},
            )
        },
        (
            query("prefix", "Only keys that begin with it.", key_text("")),
            query(
                "since",
                "`snapshot`: first what is there. A position, which is the id of an event: first what happened since.",
                {"type": "string", "pattern": "^(snapshot|[0-9]{1,30})$"},
            ),
            Parameter("Last-Event-ID", "header", "A position; goes before `since`.", DIGITS),
        ),
        problems=("bad_request", "resync_required", "watcher_limit", "stopping"),
    ),
    ("GET", "/kv/{key}/metadata"): Operation(
        "readMetadata",
        "Read the owner, group and permissions of a key",
        {200: json("What was set, or with `effective` what applies.", schemas.KeyMetadata)},
        (query("effective", "Also when nothing was set.", SWITCH),),
        problems=(*QUERY, "not_found", *READS),
        scopes="The owner of the key needs no `admin:users:read`.",
    ),
    ("PUT", "/kv/{key}/metadata"): Operation(
        "changeMetadata",
        "Change the owner, group and permissions of a key",
        {200: json("All of them, as they are now.", schemas.KeyMetadata)},
        body=Body("What is named changes.", {JSON: schemas.MetadataChanges}),
        problems=("bad_request", *JSON_BODY, "corrupt_record", *WRITES),
        scopes="The owner of the key needs no `admin:users:update`.",
    ),
}
