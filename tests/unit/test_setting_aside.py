"""Records that are set aside are in the file, and the changed floor on the disk, before they leave the store."""

import asyncio
import json
from pathlib import Path
from random import Random

from kvs.cluster.events import Put
from kvs.cluster.floor import Stored, decode, encode
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.replica_events import SetAside
from kvs.cluster.runner import Runner
from kvs.cluster.superseded import Absences
from kvs.cluster.time_of import Now
from kvs.cluster.transport import Transport
from kvs.cluster.tree_building import open_tree
from kvs.config import Config
from kvs.server.cluster_records import RecordsShell
from kvs.server.cluster_tasks import Tasks
from kvs.storage.compression import RAW
from kvs.storage.keyspace import data_key
from kvs.storage.memory import MemoryStore
from kvs.storage.record import new_uuid
from kvs.storage.state import FLOOR_ROW, QUARANTINE_FILE, open_state, read_progress

NOW_MS = 1_800_000_000_000
OLD_MS = NOW_MS - 30 * 86_400_000
OLD, NEW = data_key(b"old"), data_key(b"new")
SECRET = "a-secret-of-some-length"


async def test_what_is_set_aside_is_in_the_file_and_proves_no_deletion_afterwards(tmp_path: Path) -> None:
    store = MemoryStore()
    open_state(store, OLD_MS)
    store.commit({FLOOR_ROW: encode(Stored(NOW_MS - 1, {"b": OLD_MS, "c": OLD_MS + 1}))})
    config = Config(data_dir=tmp_path, cluster_secret=SECRET)
    settings = NodeSettings("node1", 1, 3, config.tombstone_retention, config.max_clock_drift)
    node = Node(settings, read_progress(store), open_tree(store))
    clock = [OLD_MS]
    runner = Runner(store, node, lambda: clock[0])
    runner.start()
    shell = RecordsShell(
        config,
        store,
        node,
        runner,
        Transport("node1", SECRET, lambda: None),
        Tasks(),
        Random(1),
        lambda: Now(round(asyncio.get_running_loop().time() * 1000), clock[0]),
    )
    for entry, at_ms in ((OLD, OLD_MS), (NEW, NOW_MS)):
        clock[0] = at_ms
        await runner.submit([Put(entry=entry, uuid=new_uuid(), codec=RAW, payload=b"1")])
    shell.know([])
    assert node.apart == {"b": OLD_MS, "c": OLD_MS + 1}
    drift_ms = config.max_clock_drift
    b, c = (OLD_MS, OLD_MS + drift_ms), (OLD_MS + 1, OLD_MS + drift_ms)
    assert node.superseded.absences == Absences((b, c))
    shell.up("b", "127.0.0.1:9")
    assert node.superseded.absences == Absences((c,), OLD_MS)
    shell.lost("b")
    assert node.superseded.absences == Absences((c, (OLD_MS, NOW_MS + drift_ms)))
    shell.know([])
    shell.floor.doubt()
    await shell._set_aside(SetAside(1, [OLD, NEW], NOW_MS - 1))
    await runner.stop()
    line = json.loads((tmp_path / QUARANTINE_FILE).read_text().splitlines()[0])
    assert (line["path"], line["timestamp"]) == ("old", OLD_MS)
    assert (store.get(OLD) is None, store.get(NEW) is None) == (True, False)
    saved = decode(store.get(FLOOR_ROW))
    assert (saved.equal, saved.last, node.apart) == ({}, OLD_MS + 1, {})
    assert node.superseded.absences == Absences(), "with nobody it was equal, as far as it counts"
