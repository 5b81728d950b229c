"""The file into which goes what may have been deleted elsewhere."""

import json
from base64 import b64decode
from pathlib import Path

from kvs.cluster import quarantine
from kvs.cluster.events import Delete, Put, Transact
from kvs.storage.keyspace import data_key, system_key
from kvs.storage.record import new_uuid
from tests.nodes import LoneNode

NOW_MS = 1_700_000_000_000


def test_values_are_written_as_they_are_and_nothing_else(tmp_path: Path) -> None:
    node, path = LoneNode(in_cluster=True), tmp_path / "quarantine.ndjson"
    node.do(NOW_MS, Put(entry=b"da/b", uuid=new_uuid(), codec=0, payload=b'{"n": 1}'))
    node.do(NOW_MS, Put(entry=b"dblob", uuid=new_uuid(), codec=0, payload=b"\xff", content_type="a/b"))
    node.do(NOW_MS, Put(entry=b"dends", uuid=new_uuid(), codec=0, payload=b"2", ttl_ms=10))
    node.do(
        NOW_MS, Put(entry=b"dgone", uuid=new_uuid(), codec=0, payload=b"3"), Delete(entry=b"dgone", uuid=new_uuid())
    )
    node.do(NOW_MS, Transact(uuid=new_uuid(), decide=lambda *_: {system_key(b"user/1"): b"{}"}))
    node.store.commit({data_key(b"rotten"): b"x"})
    entries = [b"da/b", b"dblob", b"dends", b"dgone", b"drotten", b"dnothing", system_key(b"user/1")]
    quarantine.append(path, node.store, entries, NOW_MS + 10)
    quarantine.append(path, node.store, [b"dends"], NOW_MS + 9)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shown = [(line["path"], line["content_type"], b64decode(line["data"])) for line in lines]
    assert shown == [
        ("a/b", "application/json", b'{"n": 1}'),
        ("blob", "a/b", b"\xff"),
        ("/user/1", "application/json", b"{}"),
        ("ends", "application/json", b"2"),
    ]
    assert {line["encoding"] for line in lines} == {"base64"}
    assert path.stat().st_mode & 0o777 == 0o600
