"""More nodes than a write goes to directly."""

from pathlib import Path

import pytest

from tests.process.cluster import Cluster, allowed, seconds_until

NODES = 12
HELD = 3
LONG_S = 90.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_write_waits_for_copies_on_nodes_that_it_reaches_over_others(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    for _ in range(NODES):
        cluster.add()
    try:
        for node in cluster.nodes:
            cluster.start(node)
        seconds_until(cluster.all_see, LONG_S)
        seconds_until(lambda: all(node.mode() == "normal" for node in cluster.nodes), LONG_S)
        for number, node in enumerate(cluster.nodes):
            assert node.put(f"all/{number}", number, f"?w={NODES}").status == 201
            assert [other.value(f"all/{number}") for other in cluster.nodes] == [number] * NODES
        assert cluster.nodes[0].put("more", 1, f"?w={NODES + 1}").status == 400
        for node in cluster.nodes[-HELD:]:
            node.hold()
        short = cluster.nodes[0].put("short", 1, f"?w={NODES}&timeout=2s")
        assert (short.status, short.json()["replicated"]) == (202, NODES - HELD)
        assert cluster.nodes[1].put("enough", 1, f"?w={NODES - HELD}").status == 201
        for node in cluster.nodes[-HELD:]:
            node.let_go_on()
        took_s = seconds_until(cluster.is_whole, LONG_S)
        print(f"\n{NODES} nodes whole {took_s:.1f} s after {HELD} of them were held")
        assert took_s < allowed(30)
        cluster.check_logs()
    finally:
        cluster.close()
