"""A node without a cluster: it offers nothing to peers, asks nobody, and does nothing for others by and by."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvs.server import server
from kvs.server.scheduler import Scheduler
from tests.api.client import Client
from tests.api.peers import SECRET
from tests.api.running import RunningNode


@pytest.fixture
def seed() -> Iterator[socket.socket]:
    """Where a seed would be."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_a_lone_node_does_nothing_of_a_cluster(
    tmp_path: Path, seed: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else of a cluster is in its configuration."""
    made: list[Scheduler] = []

    def scheduler(*given: object, scrubber: object = None, **more: object) -> Scheduler:
        assert scrubber is None, "there is no tree to look at"
        made.append(Scheduler(*given, scrubber=scrubber, **more))  # type: ignore[arg-type]
        return made[-1]

    def cluster(*_: object) -> None:
        raise AssertionError("a part of a cluster was made")

    monkeypatch.setattr(server, "Scheduler", scheduler)
    monkeypatch.setattr(server, "Cluster", cluster)
    host, port = seed.getsockname()
    node = RunningNode(
        tmp_path / "data", clustering_enabled=False, cluster_secret=SECRET, seed_nodes=(f"{host}:{port}",)
    )
    try:
        client = Client(node.address)
        assert client.put("/kv/a", b"1").status == 201
        assert client.get("/kv/a").json["data"] == 1
        for path in ("/api/cluster/status", "/auth/cluster-bootstrap", "/members/", "/merkle_tree/root"):
            assert (client.get(path).status, client.get(path).code) == (404, "unknown_route")
        client.close()
    finally:
        node.stop()
    assert made
    seed.setblocking(False)
    with pytest.raises(BlockingIOError):
        seed.accept()
