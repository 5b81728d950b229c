"""Backups for tests: of a store, as bytes; and what a store holds, to compare it with."""

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from kvs.server.restoring import restore
from kvs.storage.backup import Header, write
from kvs.storage.keyspace import CHANGES, DATA, EXPIRIES, REVISIONS, SYSTEM, TIMES, TOMBSTONES, after
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.state import read_progress
from kvs.storage.store import Reader, Store

NOW_MS = 1_700_000_000_000
KINDS = (SYSTEM, DATA, REVISIONS, TIMES, EXPIRIES, TOMBSTONES, CHANGES)


def header(
    *,
    created_at: int = NOW_MS,
    instance_id: str = "i1",
    progress: tuple[int, int, int] = (0, 0, 0),
    had_peers: bool = False,
    floor: int = 0,
    as_of: int = NOW_MS,
) -> Header:
    """A header like most others."""
    return Header(
        version="0.1.0",
        created_at=created_at,
        node_id="node1",
        instance_id=instance_id,
        progress=progress,
        had_peers=had_peers,
        floor=floor,
        as_of=as_of,
    )


def backup_of(store: Store, about: Header | None = None) -> bytes:
    """A backup of all that a store holds; `about` has its progress unless it is given."""
    file = BytesIO()
    snapshot = store.snapshot()
    write(file, about or header(progress=read_progress(snapshot)[:3]), snapshot, lambda _: None)
    snapshot.close()
    return file.getvalue()


def exported(reader: Reader) -> dict[bytes, bytes]:
    """Records, documents, revisions, and the rows of all indexes."""
    return {key: value for kind in KINDS for key, value in reader.scan(kind, after(kind))}


def restored(backup: bytes | BinaryIO, folder: Path, now_ms: int = NOW_MS) -> LevelDBStore:
    """A store with what is in a backup, in a folder that must not exist; to be closed."""
    restore(BytesIO(backup) if isinstance(backup, bytes) else backup, folder, now_ms, drift_max_ms=60_000)
    return LevelDBStore(folder, sync=False)
