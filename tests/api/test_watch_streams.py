"""Streams as connections: who is silent, slow, gone, or one of very many."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest

from kvs.errors import StoreFailed
from kvs.storage.memory import MemoryStore
from kvs.storage.store import Batch
from tests.api.client import Client
from tests.api.events import Stream
from tests.api.running import RunningNode
from tests.process.eventually import eventually
from tests.scrape import Scrape

MANY = 1_000
LARGE = b'"%b"' % (b"x" * 500_000)


@pytest.fixture
def busy(make_client: Callable[..., Client]) -> Client:
    """A node of the test's own, whose value sizes are not in its way."""
    return make_client(compression_enabled=False)


def test_a_silent_stream_is_kept_alive_and_moves_on(make_client: Callable[..., Client]) -> None:
    with patch("kvs.server.watch.WATCH_KEEPALIVE_S", 0.05), patch("kvs.server.watch.WATCH_TICK_S", 0.02):
        client = make_client()
        with Stream(client.address, "prefix=a") as stream:
            first = stream.begun().last_id
            client.put("/kv/b", b"1")
            while stream.last_id == first:
                assert stream.block() is not None
            assert stream.comments > 1
            # It has come to behind the other key, of which it was told nothing.
            client.put("/kv/a", b"1")
            assert stream.take(1)[0].path == "a"


def test_streams_of_clients_that_are_gone_are_given_up(busy: Client) -> None:
    with patch("kvs.server.watch.WATCHERS_MAX", 3):
        for _ in range(20):
            with ExitStack() as ends:
                for _ in range(3):
                    ends.enter_context(when_there_is_room(busy)).begun()


def when_there_is_room(client: Client, query: str = "") -> Stream:
    """The node hears a little later that others are gone."""
    deadline_s = time.monotonic() + 10
    while True:
        stream = Stream(client.address, query)
        if stream.reply.status == 200:
            return stream
        assert (stream.reply.status, stream.reply.code) == (503, "watcher_limit")
        assert time.monotonic() < deadline_s
        stream.close()


def test_the_number_of_streams_is_bounded(busy: Client) -> None:
    with patch("kvs.server.watch.WATCHERS_MAX", 2), ExitStack() as ends:
        for _ in range(2):
            ends.enter_context(Stream(busy.address)).begun()
        refused = busy.get("/watch")
        assert (refused.status, refused.code) == (503, "watcher_limit")
        assert refused.headers["retry-after"]
        assert busy.put("/kv/a", b"1").status == 201


def test_a_slow_reader_is_cut_off_and_resumes(busy: Client) -> None:
    """Nobody waits for it; what it missed it gets when it comes back."""
    with patch("kvs.server.watch.WATCH_QUEUE_MAX_BYTES", 1_000_000):
        slow = Stream(busy.address, receive_bytes=4096).begun()
        with slow, Stream(busy.address).begun() as quick:
            for number in range(60):
                assert busy.put(f"/kv/{number:02}", LARGE).status == 201
                assert quick.take(1)[0].path == f"{number:02}"
            got = [event.path for event in slow.rest()]
        assert len(got) < 60
        assert dropped(busy) == {"slow": 1, "access": 0, "position": 0}
        with Stream(busy.address, f"since={slow.last_id}") as again:
            rest = [event.path for event in again.take(60 - len(got))]
        assert got + rest == [f"{number:02}" for number in range(60)]


def dropped(client: Client) -> dict[str, float]:
    """How many streams the node ended, by the reason."""
    seen = Scrape(client.get("/metrics").body.decode())
    return {reason: seen.value("kvs_watch_dropped_total", reason=reason) for reason in ("slow", "access", "position")}


def test_open_streams_are_counted(busy: Client) -> None:
    with Stream(busy.address).begun(), Stream(busy.address).begun():
        assert Scrape(busy.get("/metrics").body.decode()).value("kvs_watchers") == 2
    assert eventually(lambda: Scrape(busy.get("/metrics").body.decode()).value("kvs_watchers") == 0, 10)
    assert dropped(busy) == {"slow": 0, "access": 0, "position": 0}, "they left by themselves"


def test_one_event_larger_than_all_that_may_wait_is_told(busy: Client) -> None:
    with patch("kvs.server.watch.WATCH_QUEUE_MAX_BYTES", 1_000), Stream(busy.address) as stream:
        stream.begun()
        busy.put("/kv/a", LARGE)
        assert len(stream.take(1)[0].data["data"]) == 500_000


def test_a_snapshot_goes_at_the_pace_of_its_reader(busy: Client) -> None:
    for number in range(60):
        busy.put(f"/kv/{number:02}", LARGE)
    with (
        patch("kvs.server.watch.WATCH_QUEUE_MAX_BYTES", 1_000),
        Stream(busy.address, "since=snapshot", receive_bytes=4096) as stream,
    ):
        first = stream.take(1)
        busy.put("/kv/00", b"1")
        busy.delete("/kv/59")
        events = [*first, *stream.snapshot()]
        state = {event.path: event for event in events}
        assert [path for path in sorted(state) if state[path].kind == "put"] == [f"{number:02}" for number in range(59)]
        assert state["00"].data["data"] == 1


def test_who_takes_nothing_at_all_is_cut_off_in_time(busy: Client) -> None:
    with (
        patch("kvs.server.connection.RESPONSE_STALL_TIMEOUT_S", 0.3),
        Stream(busy.address, receive_bytes=4096).begun() as stream,
    ):
        for number in range(12):
            busy.put(f"/kv/{number}", LARGE)
        with patch("kvs.server.watch.WATCHERS_MAX", 1):
            when_there_is_room(busy).close()
        assert len(stream.rest()) < 12
        assert dropped(busy) == {"slow": 1, "access": 0, "position": 0}


def test_a_stop_ends_streams_at_once(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "data")
    client = Client(node.address)
    for number in range(20):
        client.put(f"/kv/{number}", LARGE)
    with ExitStack() as ends:
        streams = [ends.enter_context(Stream(node.address)).begun() for _ in range(20)]
        stuck = ends.enter_context(Stream(node.address, "since=snapshot", receive_bytes=4096))
        client.put("/kv/last", b"1")
        started_s = time.monotonic()
        node.stop()
        assert time.monotonic() - started_s < 3
        assert all([event.path for event in stream.rest()] == ["last"] for stream in streams)
        stuck.rest()
    client.close()


class Doubtful(MemoryStore):
    """A commit that puts `"lost"` under a key succeeds and says that it failed."""

    def commit(self, batch: Batch) -> None:
        super().commit(batch)
        if any(value is not None and b'"lost"' in value for value in batch.values()):
            raise StoreFailed("who knows")


def test_what_a_failed_commit_left_on_the_disk_is_told(make_client: Callable[..., Client]) -> None:
    client = make_client(store=Doubtful())
    with Stream(client.address).begun() as stream:
        client.put("/kv/a", b"1")
        assert client.put("/kv/b", b'"lost"').status == 503
        while client.get("/ready").status == 503:
            pass
        assert client.put("/kv/c", b"2").status == 201
        assert [event.value for event in stream.take(3)] == [("put", "a", 1), ("put", "b", "lost"), ("put", "c", 2)]


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_watchers_are_told_the_same(busy: Client) -> None:
    with ExitStack() as ends:
        streams = [
            ends.enter_context(Stream(busy.address, f"prefix={'' if number % 2 else 'a/'}")).begun()
            for number in range(MANY)
        ]
        for number in range(50):
            busy.put(f"/kv/a/{number}", b"%d" % number)
            busy.put(f"/kv/b/{number}", b"%d" % number)
        told = {tuple(event.path for event in stream.take(100 if at % 2 else 50)) for at, stream in enumerate(streams)}
        both = tuple(f"{side}/{number}" for number in range(50) for side in "ab")
        assert told == {both, both[::2]}
