"""A real node whose database was changed behind its back: it finds out, says so, and is right again."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog

from kvs.storage.keyspace import ITEMS, RUNS, data_key
from kvs.storage.leveldb import LevelDBStore
from tests.api.peers import CLUSTER, Peer, fill, root_hash
from tests.api.running import RunningNode
from tests.process.eventually import eventually

KEYS = [f"k{number}" for number in range(300)]
FAST = {"probe_interval_ms": 50, "probe_timeout_ms": 50}
_TIMEOUT_S = 30.0


class Site:
    """Starts nodes on folders that stay."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ends = ExitStack()
        self._nodes: dict[str, RunningNode] = {}

    def start(self, node_id: str = "node1", **settings: Any) -> Peer:
        node = RunningNode(self._folder / node_id, node_id=node_id, **{**CLUSTER, **FAST, **settings})
        self._nodes[node_id] = node
        peer = Peer(node.address, node_id="tool")
        self.ends.callback(peer.close)
        return peer

    def stop(self, node_id: str = "node1") -> None:
        self._nodes.pop(node_id).stop()

    def change(self, change: Callable[[LevelDBStore], dict[bytes, bytes | None]], node_id: str = "node1") -> None:
        """Change the database of a node that was stopped."""
        store = LevelDBStore(self._folder / node_id, sync=False)
        store.commit(change(store))
        store.close()

    def close(self) -> None:
        self.ends.close()
        for node in self._nodes.values():
            node.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def scrubbed(peer: Peer) -> dict[str, Any]:
    found: dict[str, Any] = peer.get("/api/cluster/status").json["scrub"]
    return found


def test_a_pass_over_a_right_tree_finds_nothing(site: Site) -> None:
    peer = site.start()
    fill(peer, *KEYS)
    assert eventually(lambda: scrubbed(peer)["passes"], _TIMEOUT_S)
    shown = scrubbed(peer)
    assert (shown["drifted"], shown["corrupt"]) == (0, 0)
    assert shown["last_pass"] > 0
    assert scrubbed(peer)["passes"] == 1, "it rests between two passes"


DAMAGES: dict[str, dict[bytes, bytes | None]] = {
    "an item": {ITEMS + data_key(b"k7"): b"\1" * 32},
    "a missing item": {ITEMS + data_key(b"k7"): None},
    "an item too many": {ITEMS + data_key(b"nothing"): b"\1" * 32},
    "a run": {RUNS: b"\0" * 36},
}


@pytest.mark.parametrize("rows", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_tree_is_mended_and_said(site: Site, rows: dict[bytes, bytes | None]) -> None:
    peer = site.start()
    fill(peer, *KEYS)
    right = root_hash(peer)
    site.stop()
    site.change(lambda _: rows)
    with structlog.testing.capture_logs() as log:
        peer = site.start()
        assert eventually(lambda: scrubbed(peer)["passes"], _TIMEOUT_S)
    assert root_hash(peer) == right
    assert scrubbed(peer)["drifted"] == 1
    (line,) = [line for line in log if line["event"] == "The Merkle tree had drifted from the records and was mended"]
    assert (line["log_level"], line["items"] + line["runs"]) == ("error", 1)


def test_a_tree_that_cannot_be_read_is_made_anew(site: Site) -> None:
    peer = site.start()
    fill(peer, *KEYS)
    right = root_hash(peer)
    site.stop()
    site.change(lambda store: {RUNS: b"short"})
    assert root_hash(site.start()) == right


def test_a_corrupt_record_is_fetched_from_another_node(site: Site) -> None:
    """Soon after somebody asked for it."""
    first = site.start("node1")
    fill(first, *KEYS)
    seeds = ("{}:{}".format(*first.address),)
    second = site.start("node2", seed_nodes=seeds)
    assert eventually(lambda: second.get("/kv/k7").status == 200, _TIMEOUT_S)
    whole = second.get("/kv/k7").json
    site.stop("node2")

    def flip(store: LevelDBStore) -> dict[bytes, bytes | None]:
        raw = store.get(data_key(b"k7"))
        assert raw is not None
        return {data_key(b"k7"): raw[:-1] + bytes([raw[-1] ^ 1])}

    site.change(flip, "node2")
    second = site.start("node2", seed_nodes=seeds)
    refused = second.get("/kv/k7")
    assert (refused.status, refused.code) == (503, "corrupt_record")
    assert eventually(lambda: second.get("/kv/k7").status == 200, _TIMEOUT_S)
    assert second.get("/kv/k7").json == whole
    assert root_hash(first) == root_hash(second)
