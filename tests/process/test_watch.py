"""Watching a real cluster: what one node is told, while it dies and comes back, of what is written at another."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.process.cluster import Cluster, Node, seconds_until, three

WRITES = 10_000
PER_REQUEST = 50
KILLS_AT = (2_000, 4_500, 7_000)
LONG_S = 60.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with contextmanager(three)(tmp_path) as made:
        seconds_until(made.is_whole, LONG_S)
        yield made


class Watcher:
    """Watches one node in a thread of its own, as an SSE client does: when the stream breaks it comes back with the
    last id. Notes the events of each key, in order."""

    def __init__(self, node: Node, prefix: str) -> None:
        self._node = node
        self._prefix = prefix
        self._is_ended = False
        self.last_id = ""
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.streams = 0
        self.answers: list[int] = []
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._is_ended = True
        self._thread.join(LONG_S)
        assert not self._thread.is_alive()

    def has_begun(self) -> bool:
        return bool(self.last_id)

    def has_more_than(self, events: int) -> bool:
        return self.count() > events

    def count(self) -> int:
        return sum(map(len, self.events.values()))

    def _run(self) -> None:
        while not self._is_ended:
            try:
                self._follow()
            except (OSError, http.client.HTTPException):
                continue  # it is not there now

    def _follow(self) -> None:
        address = urlsplit(self._node.daemon.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=1)
        since = {"Last-Event-ID": self.last_id} if self.last_id else {}
        connection.request("GET", f"/watch?prefix={self._prefix}&since=snapshot", headers=since)
        response = connection.getresponse()
        self.answers.append(response.status)
        assert response.status == 200, response.read()
        self.streams += 1
        event: dict[str, str] = {}
        for raw in response:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name:
                event[name] = value
                continue
            self.last_id = event.get("id", self.last_id)
            if event.get("event") in ("put", "delete"):
                data = json.loads(event["data"])
                self.events.setdefault(data["path"], []).append(data)
            event = {}
            if self._is_ended:
                break
        connection.close()


def test_a_watcher_sees_all_writes_made_at_another_node_through_the_death_of_its_own(cluster: Cluster) -> None:
    a, b, _ = cluster.nodes
    watcher = Watcher(b, "w/")
    seconds_until(watcher.has_begun, LONG_S)
    for first in range(0, WRITES, PER_REQUEST):
        lines: list[dict[str, object]] = []
        for number in range(first, first + PER_REQUEST):
            lines += [
                {"op": "put", "path": f"w/{number}", "data": number},
                {"op": "put", "path": f"w/counter/{number % 5}", "data": number},
            ]
        a.bulk(lines)
        if first in KILLS_AT:
            seconds_until(partial(watcher.has_more_than, watcher.count()), LONG_S)  # it dies while it tells
            b.kill()
            a.bulk([{"op": "delete", "path": f"w/{first}"}, {"op": "put", "path": f"w/{first}", "data": -first}])
            b.start()
    paths = {f"w/{number}" for number in range(WRITES)} | {f"w/counter/{number}" for number in range(5)}
    ends = {f"w/counter/{number % 5}": number for number in range(WRITES - 5, WRITES)}
    ends |= {f"w/{first}": -first for first in KILLS_AT}

    def is_complete() -> bool:
        return paths <= watcher.events.keys() and all(watcher.events[p][-1].get("data") == v for p, v in ends.items())

    seconds_until(is_complete, LONG_S)
    watcher.end()
    assert watcher.streams > len(KILLS_AT)
    assert set(watcher.answers) == {200}
    for path in paths:
        told = watcher.events[path]
        stamps = [event["timestamp"] for event in told]
        assert stamps == sorted(stamps), path
        if path.startswith("w/counter/"):
            values = [event["data"] for event in told]
            assert values == sorted(values), path
        else:
            assert told[-1]["data"] == ends.get(path, int(path[2:]))


def test_positions_of_another_node_are_refused(cluster: Cluster) -> None:
    a, b, _ = cluster.nodes
    a.put("x", 1, "?w=3")
    watcher = Watcher(a, "")
    seconds_until(watcher.has_begun, LONG_S)
    watcher.end()
    answer = b.ask("GET", f"/watch?since={watcher.last_id}")
    assert (answer.status, answer.json()["code"]) == (410, "resync_required")


def test_deletes_expiries_and_the_word_of_other_nodes_reach_all_streams(cluster: Cluster) -> None:
    watchers = [Watcher(node, "") for node in cluster.nodes]
    for watcher in watchers:
        seconds_until(watcher.has_begun, LONG_S)
    for number, node in enumerate(cluster.nodes):
        node.put(f"of/{number}", number)
        node.put("all", number)
        node.ask("DELETE", f"/kv/of/{number}")

    def are_told() -> bool:
        return (
            all(
                [("data" in event) for event in watcher.events.get(f"of/{number}", [])][-1:] == [False]
                for watcher in watchers
                for number in range(3)
            )
            and len({watcher.events["all"][-1]["uuid"] for watcher in watchers}) == 1
        )

    seconds_until(are_told, LONG_S)
    for watcher in watchers:
        watcher.end()
