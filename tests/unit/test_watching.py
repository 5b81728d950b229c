"""Watchers on their way to the head, one step each in turn."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from kvs.auth.principal import EVERYBODY
from kvs.cluster.events import Committed, Put, Submission
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.runner import Runner
from kvs.server.watch import Watcher, Watching
from kvs.storage.compression import RAW
from kvs.storage.memory import MemoryStore
from kvs.storage.record import new_uuid
from kvs.storage.state import read_progress

NOW_MS = 1_700_000_000_000
MANY = 100


class Taking:
    """A connection whose client takes everything at once."""

    requests_seen = 0
    writing_paused = False

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes, most: int) -> bool:
        self.sent += data
        return True


async def test_many_watchers_come_to_the_head_beside_a_writer() -> None:
    """Something new is written between any two steps of one of them."""
    store = MemoryStore()
    node = Node(NodeSettings("n", 1, 1, 1, 1), read_progress(store))
    watching = Watching(store, Runner(store, node, lambda: NOW_MS), "log", lambda: NOW_MS)

    async def write() -> None:
        while True:
            put = Put(entry=b"da", uuid=new_uuid(), codec=RAW, payload=b"1")
            group = node.plan_group([Submission(1, (put,), 0)], store, NOW_MS)
            store.commit(group.batch)
            for effect in node.committed(group):
                if isinstance(effect, Committed):
                    watching.committed(effect)
            await asyncio.sleep(0)

    async def come() -> bytes:
        watcher, connection = Watcher(b"", EVERYBODY, lambda: EVERYBODY), Taking()
        watcher.connection = cast(Any, connection)
        way = watching.begin(watcher, "snapshot")
        watching._enter(watcher)
        assert way is not None
        await watching._catch_up(watcher, way, cast(Any, SimpleNamespace(protocol=connection)))
        watching._leave(watcher)
        return connection.sent

    writing = asyncio.create_task(write())
    async with asyncio.timeout(20):
        told = await asyncio.gather(*(come() for _ in range(MANY)))
    writing.cancel()
    assert all(b"event: uptodate\n" in each for each in told)
