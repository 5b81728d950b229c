"""The routes of backups."""

from collections.abc import Mapping

from kvs.limits import BACKUP_WAIT_MS, MOMENT_MAX_MS, TIMESTAMP_MAX
from kvs.server import backup_schemas as schemas
from kvs.server.openapi.parts import (
    BINARY,
    DURATION,
    QUERY,
    READS,
    SWITCH,
    TEXT,
    WRITES,
    Body,
    Operation,
    json,
    query,
    whole,
)
from kvs.storage.backup import ROWS_TYPE

_LOCATED = {"Location": TEXT}
_TIMEOUT = query(
    "timeout",
    "How long to wait until it is done; at most 10 minutes.",
    {**DURATION, "default": f"{BACKUP_WAIT_MS // 1000}s"},
)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/api/backup"): Operation(
        "createBackup",
        "Make a backup",
        {
            201: json("It is on the disk.", schemas.BackupMade, _LOCATED),
            202: json("It goes on.", schemas.BackupBegun, _LOCATED),
        },
        (_TIMEOUT,),
        problems=(*QUERY, "backup_running", "backup_failed"),
    ),
    ("GET", "/api/backup"): Operation(
        "listBackups",
        "List the backups in the folder",
        {200: json("The oldest first.", schemas.BackupList)},
        problems=("backup_failed",),
    ),
    ("GET", "/api/backup/status"): Operation(
        "readBackupStatus",
        "Show what came of the last backup",
        {200: json("The first four members outlive a restart.", schemas.BackupShown)},
    ),
    ("POST", "/api/backup/restore"): Operation(
        "mergeBackup",
        "Merge entries of a backup, by the order of versions",
        {200: json("What became of them.", schemas.BackupMerged)},
        (
            query("as_of", "The `as_of` of the header of the backup.", whole(0, TIMESTAMP_MAX, 0)),
            query("created_at", "The `created_at` of that header, for the audit log.", whole(0, MOMENT_MAX_MS)),
            query("forgotten", "Take also what is missing here and may have been deleted.", SWITCH),
        ),
        Body("An array of [key, value], as they stand in the backup; at most 500.", {ROWS_TYPE: BINARY}),
        (*QUERY, "bad_message", "scope_exceeded", *READS, *WRITES),
        scopes="Accounts, tokens and metadata are taken from a token with every scope only.",
    ),
}
