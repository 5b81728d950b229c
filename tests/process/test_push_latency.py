"""How long after its acknowledgement a write on one node is read on another: three real nodes without proxies."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.cluster import SECRET, allowed, seconds_until
from tests.process.daemon import Client, Daemon
from tests.process.eventually import at_once
from tests.process.stream import Stream

pytestmark = pytest.mark.slow

PROBES = 500
WRITES_PER_S = 1_000
LONG_S = 60.0
P50_S, P99_S = 0.005, 0.050
"""What docs and specification promise of a machine of one's own."""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Daemon]]:
    """They know each other."""
    with ExitStack() as ends:
        daemons: list[Daemon] = []
        for number in range(1, 4):
            settings = {
                "clustering_enabled": True,
                "cluster_secret": SECRET,
                "seed_nodes": [daemon.url.removeprefix("http://") for daemon in daemons[:1]],
            }
            daemons.append(Daemon(tmp_path / f"n{number}", name=f"n{number}", settings=settings))
            ends.callback(daemons[-1].kill)
            daemons[-1].start()

        def know_each_other() -> bool:
            lists = [daemon.client.request("GET", "/members/").json() for daemon in daemons]
            return all([member["status"] for member in members] == ["alive"] * 3 for members in lists)

        seconds_until(know_each_other, LONG_S)
        seconds_until(lambda: all(daemon.client.request("GET", "/ready").status == 200 for daemon in daemons), LONG_S)
        yield daemons
        for daemon in daemons:
            daemon.assert_no_traceback()


def delays_s(source: Client, target: Client, name: str) -> list[float]:
    """From the acknowledgement of a write on the one until it is read on the other, the shortest first."""
    found = []
    for number in range(PROBES):
        key = f"probe/{name}/{number}"
        made = source.put(key, b'{"number":%d}' % number)
        start = time.perf_counter()
        assert made.status == 201
        assert at_once(lambda: target.get(key).status == 200, LONG_S)  # noqa: B023 - looked at before the next key
        found.append(time.perf_counter() - start)
        assert json.loads(target.get(key).body)["uuid"] == made.json()["uuid"]
    return sorted(found)


def shown(name: str, found: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile, which are printed."""
    p50, p99 = found[len(found) // 2], found[len(found) * 99 // 100]
    print(f"\npush {name}: p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms, most {found[-1] * 1000:.2f} ms")
    return p50, p99


def test_push_on_an_idle_cluster(nodes: list[Daemon]) -> None:
    p50, p99 = shown("idle", delays_s(nodes[0].client, nodes[1].client, "idle"))
    assert p50 < allowed(P50_S)
    assert p99 < allowed(P99_S)


@pytest.mark.parametrize("on", ["the same node", "another node"])
def test_push_while_a_thousand_writes_a_second_go_on(nodes: list[Daemon], on: str) -> None:
    busy = nodes[0] if on == "the same node" else nodes[2]
    stream = Stream(busy.url, WRITES_PER_S)
    try:
        found = delays_s(nodes[0].client, nodes[1].client, "busy")
    finally:
        sent = stream.end()
    p50, p99 = shown(f"at {sent.per_s:.0f} writes/s on {on}", found)
    check_nothing_was_lost(nodes)
    if sent.per_s < 0.9 * WRITES_PER_S:
        pytest.skip(f"this machine has no room for {WRITES_PER_S} writes/s now: {sent.per_s:.0f} were reached")
    assert p50 < allowed(P50_S)
    assert p99 < allowed(P99_S)


def check_nothing_was_lost(nodes: list[Daemon]) -> None:
    headers = {"X-Cluster-Secret": SECRET, "X-Node-ID": "test"}

    def roots() -> set[bytes]:
        return {daemon.client.request("GET", "/merkle_tree/root", headers=headers).body for daemon in nodes}

    seconds_until(lambda: len(roots()) == 1, LONG_S)
