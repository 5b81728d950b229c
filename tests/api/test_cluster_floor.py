"""A tombstone is kept for the nodes that are known, from the moment they are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvs.cluster.exchange import FetchAnswer, FetchRequest
from kvs.storage.keyspace import data_key
from tests.api.peers import CLUSTER, PEER1, Peer
from tests.api.running import Clock, RunningNode

WEEKS_MS = 30 * 86_400_000
"""Longer than tombstones are retained."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def peer(tmp_path: Path, clock: Clock) -> Iterator[Peer]:
    """Of a node that has a tombstone of the key `k`, and asks nobody whether he lives."""
    node = RunningNode(tmp_path, clock=clock, probe_interval_ms=3_600_000, **CLUSTER)
    peer = Peer(node.address)
    assert peer.put("/kv/k", b"1").status == 201
    assert peer.delete("/kv/k").status == 204
    yield peer
    peer.close()
    node.stop()


def tombstones(peer: Peer) -> int:
    wanted = FetchRequest.of([(data_key(b"k"), (0, 0))])
    return len(peer.ask_binary("/kv_range", wanted, FetchAnswer).records)


def test_a_lone_node_keeps_it_for_the_retention(peer: Peer, clock: Clock) -> None:
    assert tombstones(peer) == 1
    clock.now_ms += WEEKS_MS
    assert tombstones(peer) == 0


def test_it_stays_until_the_nodes_that_are_known_are_proven_to_have_it(peer: Peer, clock: Clock) -> None:
    peer.ask("/members/ping", {"sender": {**PEER1, "last_seen": clock.now_ms}, "to": "node1"})
    clock.now_ms += WEEKS_MS
    assert tombstones(peer) == 1
