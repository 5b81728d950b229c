"""The shell around the replica where the store closes under it, where much is set aside, and where a peer is gone."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from kvs.cluster.events import Command, Discard, Outcome, Put
from kvs.cluster.exchange import DiffRequest
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.replica_events import Event, Failed, PeerCall, SetAside, Submitted
from kvs.cluster.runner import Runner
from kvs.cluster.time_of import Now
from kvs.cluster.transport import Transport
from kvs.cluster.tree_building import open_tree
from kvs.config import Config
from kvs.limits import SWEEP_MAX_KEYS
from kvs.server.cluster_records import RecordsShell
from kvs.server.cluster_tasks import Tasks
from kvs.storage.compression import RAW
from kvs.storage.keyspace import data_key
from kvs.storage.memory import MemoryStore
from kvs.storage.record import new_uuid
from kvs.storage.state import QUARANTINE_FILE, open_state, read_progress

NOW_MS = 1_800_000_000_000
SECRET = "a-secret-of-some-length"


class Site:
    """A node's records and the shell around them, without a network."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        open_state(self.store, NOW_MS)
        config = Config(data_dir=folder, cluster_secret=SECRET)
        settings = NodeSettings("node1", 1, 3, config.tombstone_retention, config.max_clock_drift)
        node = Node(settings, read_progress(self.store), open_tree(self.store))
        self.runner = Runner(self.store, node, lambda: NOW_MS)
        self.runner.start()
        self.tasks = Tasks()
        self.shell = RecordsShell(
            config,
            self.store,
            node,
            self.runner,
            Transport("node1", SECRET, lambda: None),
            self.tasks,
            Random(1),
            lambda: Now(round(asyncio.get_running_loop().time() * 1000), NOW_MS),
        )
        self.told: list[Event] = []

    async def put(self, count: int) -> list[bytes]:
        entries = [data_key(b"%06d" % number) for number in range(count)]
        puts = [Put(entry=entry, uuid=new_uuid(), codec=RAW, payload=b"1") for entry in entries]
        await self.runner.submit(puts)
        return entries


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    monkeypatch.setattr(site.shell, "handle", site.told.append)
    yield site
    await site.tasks.end()
    await site.runner.stop()


async def test_what_is_set_aside_is_read_of_a_snapshot(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store itself may be closed, or opened anew, while a thread reads."""
    entries = await site.put(3)
    get = site.store.get

    def looked_up(key: bytes) -> bytes | None:
        assert threading.current_thread() is threading.main_thread()
        return get(key)

    monkeypatch.setattr(site.store, "get", looked_up)
    await site.shell._set_aside(SetAside(7, entries, NOW_MS + 1))
    lines = (tmp_path / QUARANTINE_FILE).read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["000000", "000001", "000002"]
    assert [get(entry) for entry in entries] == [None] * 3
    assert site.told == [Submitted(7, [])]


async def test_a_store_that_is_closed_keeps_what_was_to_be_set_aside(site: Site) -> None:
    entries = await site.put(3)
    site.store.close()
    await site.shell._set_aside(SetAside(7, entries, NOW_MS + 1))
    (failed,) = site.told
    assert isinstance(failed, Failed)
    assert failed.call == 7


async def test_what_is_set_aside_leaves_the_store_some_at_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = await site.put(2 * SWEEP_MAX_KEYS + 1)
    submit = site.runner.submit
    discarded: list[int] = []

    async def submitted(commands: list[Command]) -> list[Outcome]:
        discarded.extend(len(command.entries) for command in commands if isinstance(command, Discard))
        return await submit(commands)

    monkeypatch.setattr(site.runner, "submit", submitted)
    await site.shell._set_aside(SetAside(7, entries, NOW_MS + 1))
    assert discarded == [SWEEP_MAX_KEYS, SWEEP_MAX_KEYS, 1]
    assert [entry for entry in entries if site.store.get(entry) is not None] == []


async def test_a_question_whose_peer_has_gone_meanwhile_fails_as_that(site: Site) -> None:
    await site.shell._call(PeerCall(3, "b", DiffRequest(b"", b"", 1), delay_ms=1))
    assert site.told == [Failed(3, "the peer is not up any more")]
