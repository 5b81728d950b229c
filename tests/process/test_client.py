"""The Python client and real nodes: one of three dies under load; and the fixtures for the tests of other programs."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from kvs.client import AsyncClient, Client, OutcomeUnknownError, PreconditionFailedError
from kvs.client.testing import Cluster, Node, NodeFailed
from tests.process.eventually import eventually

ROOT = Path(__file__).parents[2]
WORKERS = 12
COUNTERS = 4
BEFORE, AFTER = 60, 60
LONG_S = 60.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3) as made:
        yield made


class Load:
    """Workers that make keys which nobody else makes, and others that count. All of it is noted only once the client
    says that it was done."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.made: dict[str, str] = {}
        self.counted = dict.fromkeys((f"counter/{number}" for number in range(COUNTERS)), 0)
        self.doubtful: set[str] = set()
        self.is_ended = False

    async def make(self, worker: int) -> None:
        number = 0
        while not self.is_ended:
            key = f"made/{worker}/{number}"
            if number % 2:
                version = await self.client.put(key, key, if_none_match="*")  # fails if its own attempt were in its way
            else:
                version = await self.client.put(key, key)
            self.made[key] = version.uuid
            found = await self.client.find(key)
            assert found is None or found.data == key  # another node may not have it yet
            number += 1

    async def count(self, key: str) -> None:
        version = await self.client.put(key, 0, if_none_match="*", w=2)
        while not self.is_ended:
            try:
                version = await self.client.put(key, self.counted[key] + 1, if_match=version.uuid, w=2)
            except PreconditionFailedError:
                # A node that lags behind. It must come to the version that this counter has, and to none beyond.
                found = await self.client.get(key)
                assert found.data <= self.counted[key]
                continue
            except OutcomeUnknownError:
                # The node is dead that got it, and the other one has not even heard of the version before.
                self.doubtful.add(key)
                return
            self.counted[key] += 1

    async def reaches(self, count: int) -> None:
        while len(self.made) < count:
            await asyncio.sleep(0)
            await self.client.health()


async def under_load(cluster: Cluster) -> Load:
    async with cluster.async_client(retry_s=LONG_S) as client:
        load = Load(client)
        async with asyncio.TaskGroup() as workers:
            for number in range(WORKERS):
                workers.create_task(load.make(number))
            for key in load.counted:
                workers.create_task(load.count(key))
            await load.reaches(BEFORE * WORKERS)
            asked = next(node for node in cluster.nodes if node.url == client._http.endpoints.current)
            await asyncio.to_thread(asked.kill)
            await load.reaches(len(load.made) + AFTER * WORKERS)
            load.is_ended = True
    return load


def uuids(client: Client) -> dict[str, str]:
    return {value.path: value.uuid for value in client.range("made/", page=1000)}


def all_have_one_of(clients: Sequence[Client], key: str, data: Sequence[object]) -> bool:
    found = [client.get(key).data for client in clients]
    return found[0] in data and len(set(found)) == 1


def test_the_client_goes_on_when_its_node_dies_and_writes_nothing_twice(cluster: Cluster) -> None:
    load = asyncio.run(under_load(cluster))
    (dead,) = (node for node in cluster.nodes if not node.is_running)
    dead.start()
    cluster.wait_until_whole()
    clients = [node.client() for node in cluster.nodes]

    def is_everywhere() -> bool:
        return all(uuids(client) == load.made for client in clients)

    # What the client was told is what there is: no write is missing, and none was made again behind its back.
    assert eventually(is_everywhere, LONG_S)
    for client in clients:
        assert all(value.data == value.path for value in client.range("made/", page=1000))
    for key, counted in load.counted.items():
        ends = (counted, counted + 1) if key in load.doubtful else (counted,)
        assert eventually(partial(all_have_one_of, clients, key, ends), LONG_S)
        for client in clients:
            told = [revision.value.data for revision in client.history(key) if revision.value is not None]
            assert told == sorted(set(told), reverse=True)


def test_a_node_for_tests_keeps_what_it_has_until_it_is_removed() -> None:
    node = Node()
    with node:
        client = node.client()
        client.put("a", 1)
        url = node.url
        node.kill()
        assert not node.is_running
        node.start()
        assert (node.url, client.get("a").data) == (url, 1)
        node.stop()
        node.start()
        assert client.get("a").data == 1
        folder = node._folder
    assert not node.is_running
    assert not folder.exists()


def test_a_node_for_tests_that_asks_for_tokens() -> None:
    with Node(auth_enabled=True) as node:
        who = node.client().whoami()
        assert who is not None
        assert who.is_accepted
        node.client().create_user("ada")


def test_a_node_that_cannot_start_says_why() -> None:
    with pytest.raises(NodeFailed, match="colour"), Node(colour="red"):
        pass


PROGRAM = """
def test_one(kvs_node):
    kvs_node.client().put("a", 1)
    assert kvs_node.client().get("a").data == 1

def test_with_settings(make_kvs_node):
    node = make_kvs_node(read_only=True)
    assert not node.client(retry_s=0).ready()

def test_three(kvs_cluster):
    kvs = kvs_cluster.client()
    kvs.put("a", 1, w=3)
    kvs_cluster.nodes[0].kill()
    assert kvs.get("a").data == 1
"""


def test_the_fixtures_for_other_projects(tmp_path: Path) -> None:
    (tmp_path / "test_program.py").write_text(PROGRAM)
    is_installed = bool(entry_points(group="pytest11", name="kvs"))
    plugin = () if is_installed else ("-p", "kvs.client.pytest_plugin")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "3 passed" in ran.stdout, ran.stdout + ran.stderr
