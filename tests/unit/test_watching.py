"""Watchers on their way to the head, one step each in turn."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

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
    """A connection whose client takes everything at once, or `holds` what he is sent."""

    requests_seen = 0
    writing_paused = False
    peername = "1.2.3.4:5"

    def __init__(self, *, holds: bool = False) -> None:
        self.sent = b""
        self.holds = holds
        self.ended = False

    def end_stream(self) -> None:
        self.ended = True

    def send(self, data: bytes, most: int) -> bool:
        if self.holds and len(self.sent) > most:
            return False
        self.sent += data
        return True


class Watched:
    """A node with watchers, and a way to write."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.node = Node(NodeSettings("n", 1, 1, 1, 1), read_progress(self.store))
        self.watching = Watching(self.store, Runner(self.store, self.node, lambda: NOW_MS), "log", lambda: NOW_MS)

    def write(self, *entries: bytes, payload: bytes = b"1") -> None:
        puts = tuple(Put(entry=entry, uuid=new_uuid(), codec=RAW, payload=payload) for entry in entries)
        group = self.node.plan_group([Submission(1, puts, 0)], self.store, NOW_MS)
        self.store.commit(group.batch)
        for effect in self.node.committed(group):
            if isinstance(effect, Committed):
                self.watching.committed(effect)

    def watcher(self, *, holds: bool = False) -> tuple[Watcher, Taking]:
        """One who has joined."""
        watcher, connection = Watcher(b"", EVERYBODY, lambda: EVERYBODY), Taking(holds=holds)
        watcher.connection = cast(Any, connection)
        self.watching._enter(watcher)
        self.watching._join(watcher, b"")
        return watcher, connection


async def test_many_watchers_come_to_the_head_beside_a_writer() -> None:
    """Something new is written between any two steps of one of them."""
    node = Watched()
    watching = node.watching

    async def write() -> None:
        while True:
            node.write(b"da")
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


async def test_large_events_do_not_hold_up_the_loop() -> None:
    """In a turn of it others wait for a megabyte at most, or for one larger event."""
    node = Watched()
    watched = [node.watcher() for _ in range(20)]
    sent_before = 0
    node.write(*(b"d%d" % number for number in range(8)), payload=b'"%b"' % (b"x" * 400_000))
    async with asyncio.timeout(20):
        while node.watching._round is not None:
            await asyncio.sleep(0)
            sent = sum(len(connection.sent) for _, connection in watched)
            assert sent - sent_before <= 2 * 1024 * 1024
            sent_before = sent
    assert all(connection.sent.count(b"event: put") == 8 for _, connection in watched)
    node.watching.stop()


async def test_who_has_no_time_to_take_what_one_round_brings_is_not_cut_off() -> None:
    node = Watched()
    _, connection = node.watcher(holds=True)
    large = b'"%b"' % (b"x" * 1_000_000)

    async def told() -> None:
        while node.watching._round is not None:  # noqa: ASYNC110  # turns of the loop are what it takes
            await asyncio.sleep(0)

    async with asyncio.timeout(20):
        node.write(*(b"d%d" % number for number in range(20)), payload=large)
        await told()
        assert connection.sent.count(b"event: put") == 20
        assert node.watching.dropped["slow"] == 0
        node.write(b"dlast")
        await told()
    assert node.watching.dropped["slow"] == 1
    node.watching.stop()


async def test_watchers_of_more_than_can_be_told_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvs.server.feed.WATCH_GATHER_MAX_BYTES", 20_000)
    node = Watched()
    watcher, _ = node.watcher()
    for number in range(100):
        node.write(b"d%d" % number)
    assert watcher.ended.done()
    assert node.watching.dropped["slow"] == 1
    node.watching.stop()


async def test_those_who_take_nothing_while_they_catch_up_are_bounded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kvs.server.watch.WATCH_QUEUES_MAX_BYTES", 2_500_000)
    node = Watched()
    node.write(b"da", payload=b'"%b"' % (b"x" * 1_000_000))
    node.write(b"db")

    async def never() -> None:
        await asyncio.Future[None]()

    ways = []
    for _ in range(3):
        watcher, connection = Watcher(b"", EVERYBODY, lambda: EVERYBODY), Taking()
        connection.writing_paused = True
        watcher.connection = cast(Any, connection)
        request = SimpleNamespace(protocol=connection, writer=SimpleNamespace(drain=never))
        way = node.watching.begin(watcher, "snapshot")
        assert way is not None
        node.watching._enter(watcher)
        ways.append(
            (asyncio.create_task(node.watching._catch_up(watcher, way, cast(Any, request))), watcher, connection)
        )
    async with asyncio.timeout(20):
        done, waiting = await asyncio.wait([task for task, _, _ in ways], return_when=asyncio.FIRST_COMPLETED)
    assert (len(done), len(waiting)) == (1, 2)
    assert [(watcher.ended.done(), connection.ended) for task, watcher, connection in ways if task in done] == [
        (True, True)
    ]
    for _, watcher, _ in ways:
        node.watching._leave(watcher)
    async with asyncio.timeout(20):
        await asyncio.wait(waiting)
    assert node.watching._undrained_bytes == 0
    node.watching.stop()
