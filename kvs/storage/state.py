"""The node's own rows: the format of the data, who the node is, how far it has come.

    n format     decimal digits
    n identity   JSON {"instance_id": text, "joined_timestamp": Unix ms}
    n progress   timestamp:u64 counter:u32 seq:u64 records:u64 tombstones:u64, big-endian
    n tree       empty: the Merkle tree covers every record
    n members    JSON, see Persisted in kvs/cluster/messages.py
    n floor      JSON, see kvs/cluster/floor.py
    n filled     empty: the node was filled by its peers once, or never needed that
    n filling    how far it is filled, see kvs/cluster/bootstrap.py
    n log_start  seq:u64, the last of the change log that is gone without a newer one of the same key
    n backup     JSON, what came of the last backup, see kvs/server/backups.py

`progress` is part of every batch, so that the clock's floor and the change log's sequence on disk are never behind a
write that a client was told of: a node that comes back with its clock set to the past still goes on above them, and
knows how many records it has without counting them. Rows from before these were counted end with `seq`.
"""

import json
from contextlib import suppress
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from kvs.errors import StoreCorrupt, StoreError
from kvs.storage.audit import first_rows
from kvs.storage.codec import FORMAT, decode
from kvs.storage.keyspace import DATA, STATE, SYSTEM, after, decode_seq
from kvs.storage.record import new_uuid
from kvs.storage.store import Reader, Store

FORMAT_ROW = STATE + b"format"
IDENTITY_ROW = STATE + b"identity"
PROGRESS_ROW = STATE + b"progress"
TREE_ROW = STATE + b"tree"
MEMBERS_ROW = STATE + b"members"
FLOOR_ROW = STATE + b"floor"
FILLED_ROW = STATE + b"filled"
FILLING_ROW = STATE + b"filling"
LOG_START_ROW = STATE + b"log_start"
BACKUP_ROW = STATE + b"backup"
QUARANTINE_FILE = "quarantine.ndjson"

_PROGRESS = Struct(">QIQQQ")
_PROGRESS_UNCOUNTED = Struct(">QIQ")


class Identity(NamedTuple):
    """What tells this data directory from any other. `joined_timestamp` is Unix ms, set once."""

    instance_id: str
    joined_timestamp: int


class Progress(NamedTuple):
    """The highest version stamped and the last sequence number given; how many current records there are, tombstones
    and KVS's own documents included, and how many of them are tombstones. One that is corrupt is a record as before; if
    it was a tombstone, it goes on counting as one."""

    timestamp: int
    counter: int
    seq: int
    records: int
    tombstones: int


def encode_progress(progress: Progress) -> bytes:
    return _PROGRESS.pack(*progress)


def read_progress(reader: Reader) -> Progress:
    """Raises StoreCorrupt when it is none."""
    raw = reader.get(PROGRESS_ROW) or bytes(_PROGRESS_UNCOUNTED.size)
    if len(raw) == _PROGRESS_UNCOUNTED.size:
        timestamp, counter, seq = _PROGRESS_UNCOUNTED.unpack(raw)
        return Progress(timestamp, counter, seq, *_count(reader))
    if len(raw) != _PROGRESS.size:
        raise StoreCorrupt("the node's progress is unreadable")
    return Progress._make(_PROGRESS.unpack(raw))


def _count(store: Reader) -> tuple[int, int]:
    """(Records, tombstones), some seconds for a million; needed once for data in which they were not counted. What is
    damaged beyond reading is left out."""
    records = tombstones = 0
    for prefix in (DATA, SYSTEM):
        with suppress(StoreCorrupt):
            for entry, raw in store.scan(prefix, after(prefix)):
                records += 1
                with suppress(StoreCorrupt):
                    tombstones += decode(entry, raw).record.deleted
    return records, tombstones


def read_log_start(reader: Reader) -> int:
    """Who knows the change log up to an earlier number than this may have missed that a key is gone."""
    return decode_seq(reader.get(LOG_START_ROW) or b"")


def read_identity(store: Store) -> Identity | None:
    """Who the node of these data is; None where no node ever ran. Raises StoreCorrupt."""
    raw = store.get(IDENTITY_ROW)
    try:
        return None if raw is None else Identity(**json.loads(raw))
    except (ValueError, TypeError):
        raise StoreCorrupt("the node's identity is unreadable") from None


def open_state(store: Store, now_ms: int) -> Identity:
    """Who this node is; made up in an empty store. Raises StoreError when the data have a format unknown here."""
    raw_format = store.get(FORMAT_ROW)
    raw_identity = store.get(IDENTITY_ROW)
    if raw_format is None and raw_identity is None:
        identity = Identity(str(UUID(bytes=new_uuid())), now_ms)
        rows = {FORMAT_ROW: b"%d" % FORMAT, IDENTITY_ROW: json.dumps(identity._asdict()).encode()}
        store.commit({**rows, **first_rows(identity.instance_id)})
        return identity
    if raw_format != b"%d" % FORMAT:
        found = (raw_format or b"none").decode(errors="replace")
        raise StoreError(f"the data have format {found}, this version of KVS reads format {FORMAT} only")
    known = read_identity(store)
    if known is None:
        raise StoreCorrupt("the node's identity is missing")
    return known
