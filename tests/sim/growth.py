"""How traffic grows with the number of nodes: `python -m tests.sim.growth 10 30 100`.

Clusters with the product's own settings and limits, in a network that takes 1 to 4 ms and loses nothing. What goes over
the wire is counted as the product encodes it, without HTTP's headers and before packing.

    idle       nothing happens: pings, rumours and member lists
    spread     WRITES writes at random nodes, far apart: pushes, then the comparisons that fetch what pushes left out
    return     a node comes back that missed MISSED of KEYS writes: one comparison, whatever the number of nodes
"""

import argparse
import gc
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from kvs.cluster.events import Change
from kvs.settings import Settings
from tests.sim.clients import Clients
from tests.sim.network import Link
from tests.sim.peers import DATA_QUESTIONS
from tests.sim.setup import DiskPace, Setup, Traffic
from tests.sim.simcluster import SimCluster
from tests.sim.simnode import Process
from tests.sim.world import Violation

KEYS = 1_000
MISSED = 100
WRITES = 50
_WRITE_PAUSE_MS = 250
_IDLE_MS = 20_000
_START_PAUSE_MS = 50
_WITHIN_MS = 7_200_000
_NEVER_MS = 1 << 40
_GC_YOUNG_MAX = 500_000
"""Simulated nodes are many objects that stay, which a third of the time went into looking through."""

Committed = Callable[[Sequence[Change]], None]


class Row(NamedTuple):
    """One size of cluster. `idle_*` are of one node and second. `hops`: of the node that a push reaches last; `pushed`:
    the part of the nodes that pushes reach, `pushed_ms`: until the last of these has it. `copies`: how often a node is
    sent a write, `write_bytes`: what goes over the wire for each node and write, comparisons and all. `equal_s`: until
    all nodes have all writes. `took_s` is processor time."""

    nodes: int
    idle_messages: float
    idle_bytes: float
    hops: int
    pushed: float
    pushed_ms: int
    copies: float
    write_bytes: float
    equal_s: float
    took_s: float


def lean(nodes: int) -> Setup:
    """The product's defaults; no faults, no background work, three seeds."""
    settings = Settings()
    return Setup(
        nodes=nodes,
        seeds=3,
        disk=DiskPace(group_max=100, write_max_ms=1, notice_max_ms=0, retry_ms=500),
        traffic=Traffic(KEYS, pause_ms=1, twins=0.0, ttl_max_ms=1),
        link=Link(),
        limits={},
        faults=(),
        fault_pause_ms=1,
        chaos_ms=0,
        fsync=True,
        versions_max=1,
        skew_ms=20,
        retention_ms=settings.tombstone_retention,
        member_timeout_ms=round(1000 * settings.member_timeout),
        fill_age_ms=settings.bootstrap_max_age_hours * 3_600_000,
        fill_patience_ms=round(1000 * settings.bootstrap_patience),
        probe_interval_ms=settings.probe_interval_ms,
        suspicion_ms=round(1000 * settings.suspicion_timeout),
        gossip_ms=round(1000 * settings.gossip_interval_min),
        sync_interval_ms=round(1000 * settings.sync_interval),
        catchup_interval_ms=round(1000 * settings.catchup_interval),
        throttle_ms=settings.throttle_delay_ms,
        push_enabled=settings.push_enabled,
        push_fanout=settings.push_fanout,
        sweep_ms=_NEVER_MS,
    )


class _Arrivals:
    """When, and over how many hops, the write of one key came to each node."""

    def __init__(self, cluster: SimCluster) -> None:
        self._world = cluster.world
        self._entry = b""
        self.hops: dict[str, int] = {}
        self.last_ms = 0
        for process in cluster.processes():
            process.writer.on_committed = self._noting(process, process.writer.on_committed)

    def watch(self, entry: bytes) -> None:
        self._entry = entry
        self.hops.clear()

    def _noting(self, process: Process, committed: Committed) -> Committed:
        here = process.host.node_id

        def note(changes: Sequence[Change]) -> None:
            for change in changes:
                if change.entry == self._entry:
                    self.hops[here] = self.hops[change.source] + 1 if change.source else 0
                    self.last_ms = self._world.now_ms
            committed(changes)

        return note


class _Measuring:
    def __init__(self, nodes: int) -> None:
        self._cluster = SimCluster(nodes, lean(nodes))
        self._world = self._cluster.world
        self._clients = Clients(self._cluster, self._cluster.setup.traffic)
        self._chance = self._world.chance("growth")

    def row(self) -> Row:
        began_s = time.process_time()
        self._start()
        idle_messages, idle_bytes = self._idle()
        spread = self._spread()
        nodes = len(self._cluster.hosts)
        return Row(nodes, idle_messages, idle_bytes, *spread, time.process_time() - began_s)

    def _start(self) -> None:
        for number, host in enumerate(self._cluster.hosts):
            self._world.after(number * _START_PAUSE_MS, host.start)
        self._world.run(len(self._cluster.hosts) * _START_PAUSE_MS)
        others = len(self._cluster.hosts) - 1
        self._wait(lambda: all(len(one.shell.addresses) == others for one in self._cluster.processes()))
        # Nodes that start together, and have nothing, ask each other first.
        self._wait(lambda: all(one.shell.replica.mode == "settled" for one in self._cluster.processes()))

    def _idle(self) -> tuple[float, float]:
        self._world.run(_IDLE_MS)
        messages, sent = self._cluster.network.messages, self._cluster.network.bytes.total()
        self._world.run(_IDLE_MS)
        share = len(self._cluster.hosts) * _IDLE_MS / 1000
        return (
            (self._cluster.network.messages - messages) / share,
            (self._cluster.network.bytes.total() - sent) / share,
        )

    def _spread(self) -> tuple[int, float, int, float, float, float]:
        cluster = self._cluster
        nodes = len(cluster.hosts)
        arrivals = _Arrivals(cluster)
        sent, copies = Counter(cluster.network.bytes), cluster.counts.total()
        reached = hops = last_ms = 0
        began_ms = self._world.now_ms
        for entry in self._clients.keys[:WRITES]:
            arrivals.watch(entry)
            written_ms = self._world.now_ms
            self._clients.put(self._chance.choice(cluster.processes()), entry)
            self._world.run(_WRITE_PAUSE_MS)
            reached += len(arrivals.hops) - 1
            hops = max(hops, *arrivals.hops.values())
            last_ms = max(last_ms, arrivals.last_ms - written_ms)
        arrivals.watch(b"")
        self._wait(self._is_equal)
        sent = cluster.network.bytes - sent
        share = WRITES * (nodes - 1)
        return (
            hops,
            reached / share,
            last_ms,
            (cluster.counts.total() - copies) / share,
            sum(sent[kind] for kind in DATA_QUESTIONS) / share,
            (self._world.now_ms - began_ms) / 1000,
        )

    def _is_equal(self) -> bool:
        trees = [process.node.tree for process in self._cluster.processes()]
        return len({tree.root for tree in trees if tree is not None}) == 1

    def _wait(self, condition: Callable[[], bool]) -> None:
        if self._world.run_until(condition, _WITHIN_MS, step_ms=1_000) is None:
            raise Violation("this takes too long")


def measure(nodes: int) -> Row:
    """A cluster of so many nodes, from its start to its last write. Raises Violation when it takes too long."""
    return _Measuring(nodes).row()


def comparison() -> tuple[int, int]:
    """The questions and the bytes after one of two nodes was off for MISSED of KEYS writes."""
    cluster = SimCluster(0, lean(2))
    clients = Clients(cluster, cluster.setup.traffic)
    for host in cluster.hosts:
        host.start()
    cluster.world.run(_IDLE_MS)
    for entry in clients.keys:
        clients.put(cluster.processes()[0], entry)
    cluster.world.run(_IDLE_MS)
    late = cluster.hosts[1]
    late.kill()
    for entry in cluster.world.chance("growth").sample(clients.keys, MISSED):
        clients.put(cluster.processes()[0], entry)
    cluster.world.run(_IDLE_MS)
    before = Counter(cluster.network.bytes)
    late.start()
    cluster.world.run(_IDLE_MS)
    sent = cluster.network.bytes - before
    first, second = (process.shell.replica for process in cluster.processes())
    asked = (first.last_comparison("n1"), second.last_comparison("n0"))
    questions = max(compared.questions for compared in asked if compared is not None)
    return questions, sum(sent[kind] for kind in DATA_QUESTIONS)


HEADS = (
    "nodes",
    "idle, messages",
    "idle, bytes",
    "hops",
    "pushes reach",
    "within",
    "copies",
    "bytes for a write",
    "all equal after",
    "processor time",
)


def line(row: Row) -> str:
    cells = (
        f"{row.nodes:,}",
        f"{row.idle_messages:.1f}/s",
        f"{row.idle_bytes:,.0f}/s",
        f"{row.hops}",
        f"{row.pushed:.2%}",
        f"{row.pushed_ms} ms",
        f"{row.copies:.2f}",
        f"{row.write_bytes:,.0f}",
        f"{row.equal_s:,.0f} s",
        f"{row.took_s:,.0f} s",
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.growth", description="How traffic grows with nodes.")
    parser.add_argument("nodes", type=int, nargs="*", default=[10, 30, 100], help="sizes of clusters (10 30 100)")
    options = parser.parse_args(arguments)
    gc.set_threshold(_GC_YOUNG_MAX)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS), sep="\n", flush=True)
    for nodes in options.nodes:
        print(line(measure(nodes)), flush=True)
    questions, sent = comparison()
    print(f"\nA node comes back that missed {MISSED} of {KEYS:,} records: {questions} questions, {sent:,} bytes.")


if __name__ == "__main__":
    main(sys.argv[1:])
