"""A simulated host and the process on it: a node with its writer, its cores, its background work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvs.cluster import membership_events
from kvs.cluster.events import Command, Sweep
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.sync import Here
from kvs.cluster.tree_building import open_tree
from kvs.errors import KvsError
from kvs.limits import SWEEP_MAX_KEYS
from kvs.storage.current import read_current
from kvs.storage.keyspace import EXPIRIES, SUPERSEDED, TOMBSTONES, after, moment_range
from kvs.storage.record import Record
from kvs.storage.retention import expiry_limit, tombstone_limit
from kvs.storage.state import Identity, open_state, read_progress
from tests.sim.clocks import HostClock
from tests.sim.disk import Disk
from tests.sim.network import Back, Lost, Port, Question, Result
from tests.sim.parts import Parts, clock_drift_max_ms
from tests.sim.peers import DATA_QUESTIONS, Peers
from tests.sim.shell import Shell
from tests.sim.world import EventLoop
from tests.sim.writer import Outcomes, Writer

if TYPE_CHECKING:
    from tests.sim.simcluster import SimCluster


SETTLE_INTERVAL_MS = 1_000
"""How often the operating system writes out what it has."""


class SimNode:
    """A host: its disk, its clocks, its place in the network, and at most one process."""

    def __init__(self, cluster: SimCluster, number: int, node_id: str = "", disk: Disk | None = None) -> None:
        self.cluster = cluster
        self.name = f"h{number}"
        self.node_id = node_id or f"n{number}"
        self.port = Port(self.name, f"10.0.{number // 250}.{number % 250 + 1}:8080")
        skew_ms = cluster.setup.skew_ms
        self.chance = cluster.world.chance(f"host {number}")
        self.clock = HostClock(cluster.world, self.chance.randint(-skew_ms, skew_ms), 7_919 * number + 1)
        self.disk = disk or self.new_disk()
        self.process: Process | None = None
        self.lives = 0
        cluster.network.add(self.port)

    def new_disk(self) -> Disk:
        instance = f"i{self.chance.getrandbits(64):016x}"
        return Disk(
            self.cluster.history, self.name, Identity(instance, self.clock.wall_ms()), fsync=self.cluster.setup.fsync
        )

    # --- life ---

    def start(self) -> None:
        if self.process is None:
            self.lives += 1
            self.cluster.lives += 1
            self.process = Process(self)
            self.port.door = self._door
            self.process.shell.start()

    def kill(self, *, power: bool = False, host_too: bool = False) -> None:
        """kill -9, or a power cut. With `host_too` nobody even refuses connections."""
        if self.process is not None:
            process, self.process = self.process, None
            process.end()
            self.cluster.lost(self.disk.crash(power=power))
        if host_too:
            self.port.door = None

    def stop(self) -> None:
        """Take leave, and go a little later."""
        process = self.process
        if process is None or process.is_leaving:
            return
        process.is_leaving = True
        process.shell.tell_members(membership_events.Leaving())
        process.loop.after(400, lambda: self._gone(process))

    def _gone(self, process: Process) -> None:
        """What waits is committed first."""
        process.writer.is_stopping = True
        if process.writer.is_idle:
            self.kill()
        else:
            process.loop.after(50, lambda: self._gone(process))

    def _door(self, question: Question, back: Back) -> bool:
        if self.process is None:
            return False
        self.process.answer(question, back)
        return True


class Process:
    """One life of a node."""

    def __init__(self, host: SimNode) -> None:
        cluster, setup = host.cluster, host.cluster.setup
        self.host = host
        self.is_leaving = False
        self.loop = EventLoop(cluster.world)
        self.disk = host.disk
        self.clock = host.clock
        identity = open_state(self.disk.store, self.clock.wall_ms())
        self._settings = NodeSettings(
            host.node_id,
            identity.joined_timestamp,
            setup.versions_max,
            setup.retention_ms,
            clock_drift_max_ms(setup),
        )
        self.node = Node(self._settings, read_progress(self.disk.store), open_tree(self.disk.store))
        chance = cluster.world.chance(f"process {host.name} {host.lives}")
        self.writer = Writer(self.loop, self.disk, self.node, self.clock, setup.disk, chance)
        self.counts: Counter[str] = cluster.counts
        parts = Parts(
            node_id=host.node_id,
            setup=setup,
            loop=self.loop,
            clock=self.clock,
            disk=self.disk,
            node=self.node,
            writer=self.writer,
            network=cluster.network,
            port=host.port,
            counts=self.counts,
            chance=chance,
            on_loss=lambda: cluster.lost(True),
        )
        self.shell = Shell(parts, identity, cluster.membership_settings(host.port.address))
        self._peers = Peers(self.loop, self.writer, self._shareable, self.shell.replica)
        self._asked: dict[int, Back] = {}
        self._questions = 0
        self.loop.after(chance.randint(0, setup.sweep_ms), self._sweep)
        self.loop.after(chance.randint(0, SETTLE_INTERVAL_MS), self._settle)

    def end(self) -> None:
        """Connections break with the process."""
        self.writer.end()
        self.loop.is_alive = False
        for back in self._asked.values():
            back(Lost(False))

    # --- peers ---

    def answer(self, question: Question, back: Back) -> None:
        """As the event loop comes to it."""
        self._questions += 1
        number = self._questions
        self._asked[number] = back

        def once(result: Result) -> None:
            if self._asked.pop(number, None) is not None:
                back(result)

        handle = self._peers.answer if question.kind in DATA_QUESTIONS else self.shell.answer_members
        self.loop.wrap(lambda: handle(question, once))()

    def _shareable(self) -> Here:
        self.shell.check_shareable()
        return self.shell.here()

    # --- clients ---

    def write(self, command: Command, then: Callable[[Outcomes | KvsError], None]) -> None:
        """As a handler does."""

        def act() -> None:
            try:
                self.shell.check_writable()
            except KvsError as error:
                then(error)
            else:
                self.writer.submit([command], then)

        self.loop.wrap(act)()

    def read(self, entry: bytes) -> tuple[Record | None, bool]:
        """What is stored, and whether a reader sees a value."""
        stored = read_current(self.disk.store, entry).stored
        if stored is None:
            return None, False
        return stored.record, stored.record.is_live(self.clock.wall_ms())

    # --- background work: what kvs/server/scheduler.py does ---

    def _sweep(self) -> None:
        now_ms = self.clock.wall_ms()
        if self.shell.is_clock_right:
            self._sweep_rows(*moment_range(EXPIRIES, expiry_limit(now_ms)))
            limit = tombstone_limit(now_ms, self._settings.tombstone_retention_ms, floor_ms=now_ms)
            if limit:
                self._sweep_rows(*moment_range(TOMBSTONES, limit - 1))
            self._sweep_rows(SUPERSEDED, after(SUPERSEDED))
        self.loop.after(self.host.cluster.setup.sweep_ms, self._sweep)

    def _settle(self) -> None:
        self.disk.settle()
        self.loop.after(SETTLE_INTERVAL_MS, self._settle)

    def _sweep_rows(self, start: bytes, stop: bytes) -> None:
        rows = [row for row, _ in self.disk.store.scan(start, stop)]
        for at in range(0, len(rows), SWEEP_MAX_KEYS):
            self.writer.submit([Sweep(rows=tuple(rows[at : at + SWEEP_MAX_KEYS]))], lambda _: None)
