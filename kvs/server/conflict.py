"""Makes a conflict to try conflict resolution with: two nodes that wrote one key in the same millisecond."""

from pathlib import Path

import orjson

from kvs.cluster.events import Put, Submission
from kvs.cluster.node import Node, NodeSettings
from kvs.errors import StartError, StoreError
from kvs.server.server import unix_ms
from kvs.storage.compression import RAW
from kvs.storage.keyspace import data_key
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.record import new_uuid
from kvs.storage.state import open_state, read_progress

CONFLICT_KEY = b"test/conflict/data"

_AGE_MS = 60_000
"""How much earlier the first node joined: its value is to win."""


def make_conflict(dir1: Path, dir2: Path) -> None:
    """Write two data directories with different values under CONFLICT_KEY at one timestamp; the node of `dir1` joined
    first. Raises StartError when one of them holds data already or cannot be written."""
    now_ms = unix_ms()
    for directory in (dir1, dir2):
        if (directory / "CURRENT").exists():
            raise StartError(f"{directory} holds a database already")
    if dir1.resolve() == dir2.resolve():
        raise StartError("the two data directories are one and the same")
    try:
        _write_node(dir1, "conflict-older", now_ms - _AGE_MS, now_ms)
        _write_node(dir2, "conflict-newer", now_ms, now_ms)
    except StoreError as error:
        raise StartError(str(error)) from error


def _write_node(directory: Path, node_id: str, joined_ms: int, now_ms: int) -> None:
    store = LevelDBStore(directory, sync=True)
    try:
        identity = open_state(store, joined_ms)
        settings = NodeSettings(
            node_id, identity.joined_timestamp, versions_max=3, tombstone_retention_ms=0, clock_drift_max_ms=0
        )
        node = Node(settings, read_progress(store))
        put = Put(
            entry=data_key(CONFLICT_KEY), uuid=new_uuid(), codec=RAW, payload=orjson.dumps({"written_by": node_id})
        )
        store.commit(node.plan_group([Submission(1, (put,), len(put.payload))], store, now_ms).batch)
    finally:
        store.close()
