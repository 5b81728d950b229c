"""A watch that goes on: over broken streams, restarts, and from node to node."""

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, cast

import pytest

from kvs.client import AsyncClient, BadRequestError, Client, Event, ForbiddenError, UnauthorizedError
from tests.api.accounts import Place
from tests.api.client import Client as Raw
from tests.api.running import RunningNode
from tests.client.conftest import url_of


def told(events: Iterator[Event], count: int) -> list[tuple[str, str, Any]]:
    return [(event.kind, event.path, event.value and event.value.data) for event in islice(events, count)]


def closed(events: Iterator[Event]) -> Any:
    """For the length of a block; the iterators of the client are generators."""
    return closing(cast(Any, events))


def test_a_snapshot_and_then_what_happens(client: Client, key: str) -> None:
    client.put(f"{key}/a", {"n": 1})
    client.put(f"{key}/b", b"\xff", content_type="image/png")
    with closed(client.watch(f"{key}/", since="snapshot")) as events:
        assert told(events, 3) == [
            ("put", f"{key}/a", {"n": 1}),
            ("put", f"{key}/b", b"\xff"),
            ("uptodate", "", None),
        ]
        made = client.put(f"{key}/a", 2)
        client.delete(f"{key}/b")
        put, deleted = islice(events, 2)
        assert put.value is not None
        assert (put.kind, put.uuid, put.value.uuid, put.timestamp) == ("put", made.uuid, made.uuid, made.timestamp)
        assert (deleted.kind, deleted.path, deleted.value) == ("delete", f"{key}/b", None)
        assert deleted.position
    with closed(client.watch(f"{key}/", since=put.position)) as events:
        assert told(events, 1) == [("delete", f"{key}/b", None)]


def test_a_restart_of_the_node_is_not_noticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("node") / "data"
    node = RunningNode(folder)
    port = node.address[1]
    with Client(url_of(node.address)) as client, closed(client.watch(since="snapshot")) as events:
        assert told(events, 1) == [("uptodate", "", None)]
        client.put("a", 1)
        assert told(events, 1) == [("put", "a", 1)]
        for number in range(3):
            node.stop()
            node = RunningNode(folder, port=port)
            client.put("b", number)
            assert told(events, 1) == [("put", "b", number)]
    node.stop()


def test_what_was_missed_for_too_long_comes_as_a_snapshot(make_node: Callable[..., RunningNode]) -> None:
    one, other = make_node(), make_node()
    with Client(url_of(one.address)) as client, Client(url_of(other.address)) as elsewhere:
        client.put("a", 1)
        with closed(client.watch(since="snapshot")) as events:
            told(events, 2)
            client.put("b", 1)
            position = next(events).position
        elsewhere.put("c", 1)
        with closed(elsewhere.watch(since=position)) as events:
            assert told(events, 3) == [("resync", "", None), ("put", "c", 1), ("uptodate", "", None)]


def test_another_node_takes_over_with_a_snapshot(
    make_node: Callable[..., RunningNode], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvs.client.watching._LOYALTY_S", 0.3)
    first = RunningNode(tmp_path_factory.mktemp("first") / "data")
    second = make_node()
    with Client(url_of(second.address)) as direct:
        direct.put("on/second", 2)
    with Client(url_of(first.address), url_of(second.address)) as client:
        client.put("on/first", 1)
        with closed(client.watch(since="snapshot")) as events:
            assert told(events, 2) == [("put", "on/first", 1), ("uptodate", "", None)]
            first.stop()
            assert told(events, 3) == [("resync", "", None), ("put", "on/second", 2), ("uptodate", "", None)]
            client.put("x", 1)
            assert told(events, 1) == [("put", "x", 1)]


def test_who_may_not_watch_is_told_so(at: Place, root: Client) -> None:
    person = at.user("write")
    token = person.ask.authorization.removeprefix("Bearer ")
    with Client(url_of(at.node.address), token=token) as client, pytest.raises(ForbiddenError):
        next(client.watch())
    with Client(url_of(at.node.address)) as client, pytest.raises(UnauthorizedError):
        next(client.watch())
    person = at.user("read")
    token = person.ask.authorization.removeprefix("Bearer ")
    with Client(url_of(at.node.address), token=token) as client, closed(client.watch("w", since="snapshot")) as events:
        assert told(events, 1) == [("uptodate", "", None)]
        (stored,) = root.tokens(user_uuid=person.uuid)
        root.revoke_token(stored.token_id)
        with pytest.raises(UnauthorizedError):
            next(events)


async def test_a_watch_on_the_event_loop(aclient: AsyncClient, key: str) -> None:
    found = []
    async for event in aclient.watch(f"{key}/", since="snapshot"):
        found.append((event.kind, event.path))
        if event.kind == "uptodate":
            for number in range(3):
                await aclient.put(f"{key}/{number}", number)
        if len(found) == 4:
            break
    assert found == [("uptodate", ""), *(("put", f"{key}/{number}") for number in range(3))]


def test_a_watch_that_is_left_frees_its_place(make_node: Callable[..., RunningNode]) -> None:
    node = make_node()
    with Client(url_of(node.address)) as client:
        for _ in range(30):
            with closed(client.watch(since="snapshot")) as events:
                told(events, 1)
    raw = Raw(node.address)
    assert raw.get("/health").status == 200
    raw.close()
    watching = node._server._watching
    assert watching is not None
    while watching._watchers:
        raw.get("/health")
    raw.close()


def test_a_range_and_the_changes_since_are_the_state_of_one_moment(client: Client, key: str) -> None:
    for number in range(5):
        client.put(f"{key}/{number}", number)
    url, position = client.position(f"{key}/")
    state = {value.path: value.data for value in client.range(f"{key}/", page=2, at=url)}
    client.put(f"{key}/1", "changed")
    client.delete(f"{key}/2")
    client.put(f"{key}/9", "new")
    client.put("another", 1)
    for event in client.changes(f"{key}/", position, at=url):
        state.pop(event.path, None)
        if event.value is not None:
            state[event.path] = event.value.data
    assert state == {value.path: value.data for value in client.range(f"{key}/")}
    assert list(client.changes(f"{key}/", client.position()[1], at=url)) == []
    with pytest.raises(BadRequestError):
        list(client.changes("", "yesterday", at=url))
