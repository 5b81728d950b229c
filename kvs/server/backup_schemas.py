"""The shapes of what `/api/backup` answers, as those of kvs/server/schemas.py."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

_Moment = Annotated[int, Meta(description="Unix milliseconds.")]


class BackupBegun(msgspec.Struct, frozen=True):
    """It is being made."""

    state: Literal["running"]


class BackupCounts(msgspec.Struct, frozen=True, kw_only=True):
    """KVS's own documents, current records, and what they replaced; how many of the first two are tombstones; entries
    that failed their checksum; what it unpacks to."""

    documents: int
    records: int
    revisions: int
    tombstones: int
    left_out: int
    content_bytes: int


class BackupMade(BackupCounts, frozen=True, kw_only=True):
    """A new backup."""

    state: Literal["done"]
    name: str
    size_bytes: int


class BackupFound(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the folder of backups. One that is damaged at its ends is not readable, and has nothing but a size."""

    name: str
    readable: bool
    size_bytes: int
    created_at: _Moment | UnsetType = UNSET
    node_id: str | UnsetType = UNSET
    version: str | UnsetType = UNSET
    documents: int | UnsetType = UNSET
    records: int | UnsetType = UNSET
    revisions: int | UnsetType = UNSET
    tombstones: int | UnsetType = UNSET
    left_out: int | UnsetType = UNSET
    content_bytes: int | UnsetType = UNSET


class BackupList(msgspec.Struct, frozen=True):
    """All of them."""

    backups: list[BackupFound]


class BackupShown(msgspec.Struct, frozen=True):
    """What is known of backups. `succeeded` and `failed` count since the node's start."""

    last_backup_time: _Moment | None
    last_backup_success: bool | None
    last_backup_path: str | None
    last_backup_error: str | None
    next_backup_time: _Moment | None
    backups_running: int
    rows_written: int | None
    succeeded: int
    failed: int


class BackupMerged(msgspec.Struct, frozen=True):
    """How many entries."""

    taken: int
    known: int
    older: int
    forgotten: int
    refused: int
