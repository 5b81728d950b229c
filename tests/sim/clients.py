"""Clients: they write, delete, write on conditions and read, on any node, and remember what they were told."""

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING

from kvs.cluster.events import ANY, Condition, Delete, Put, Transact, Transacted, Written
from kvs.errors import KvsError
from kvs.storage.compression import RAW
from kvs.storage.keyspace import data_key, system_key
from kvs.storage.record import JSON, derived_uuid, uuid_text
from tests.sim.history import History, Sent
from tests.sim.setup import Traffic
from tests.sim.simnode import Process
from tests.sim.writer import Outcomes

if TYPE_CHECKING:
    from tests.sim.simcluster import SimCluster

_UUID_VERSION = (0x4 << 76) | (0x2 << 62)
_UUID_RANDOM = ~((0xF << 76) | (0x3 << 62))
_PATHS = (b"a", b"a/b", b"k%d", b"dir/k%d", b"dir/%d/x", b"\xc3\xa9/%d", b"z" * 40 + b"%d")
_LONG_MS = 86_400_000
"""A time to live that no run lives to see."""


class Clients:
    """All of them as one stream of operations."""

    def __init__(self, cluster: "SimCluster", traffic: Traffic) -> None:
        self._cluster = cluster
        self._traffic = traffic
        self._chance: Random = cluster.world.chance("clients")
        self._history: History = cluster.history
        self._writes = 0
        self._is_on = False
        self.keys = [data_key(_path(number)) for number in range(traffic.keys)]
        self._systems = [system_key(b"doc/%d" % number) for number in range(4)]

    def go(self) -> None:
        self._is_on = True
        self._turn()

    def rest(self) -> None:
        self._is_on = False

    def _turn(self) -> None:
        if not self._is_on:
            return
        processes = self._cluster.processes()
        if processes:
            self._act(self._chance.choice(processes), processes)
        pause_ms = round(self._chance.expovariate(1 / self._traffic.pause_ms))
        self._cluster.world.after(pause_ms, self._turn)

    def _act(self, process: Process, processes: list[Process]) -> None:
        entry = self._chance.choice(self.keys)
        kind = self._chance.random()
        if kind < 0.2:
            self.read(process, entry)
        elif kind < 0.35:
            self.delete(process, entry)
        elif kind < 0.4:
            self._transact(process)
        elif kind < 0.5:
            self._conditional(process, entry)
        else:
            self.put(process, entry, ttl_ms=self._ttl_ms())
            if len(processes) > 1 and self._chance.random() < self._traffic.twins:
                other = self._chance.choice([other for other in processes if other is not process])
                self._chance.choice([self.put, self.delete])(other, entry)

    def _ttl_ms(self) -> int:
        kind = self._chance.random()
        if kind < 0.2:
            return self._chance.randint(1, self._traffic.ttl_max_ms)
        return _LONG_MS if kind < 0.25 else 0

    def _conditional(self, process: Process, entry: bytes) -> None:
        """On the version that is there, on an older one, or on none."""
        kind = self._chance.random()
        if kind < 0.3:
            self.put(process, entry, condition=Condition(none_match=ANY))
            return
        stored, is_live = process.read(entry)
        if kind < 0.5:
            known = list(self._history.landed.get(entry, ()))
            match = self._chance.choice(known) if known else None
        else:
            match = stored.uuid if stored is not None and is_live else None
        if match is not None:
            condition = Condition(match=frozenset((uuid_text(match),)))
            self._chance.choice([self.put, self.delete])(process, entry, condition=condition, match=match)

    # --- operations ---

    def read(self, process: Process, entry: bytes) -> None:
        def act() -> None:
            stored, is_live = process.read(entry)
            self._cluster.world.trace(process.host.name, "read", entry, stored is not None and is_live)
            process.disk.witness.read(entry, stored)

        process.loop.wrap(act)()

    def put(
        self,
        process: Process,
        entry: bytes,
        *,
        ttl_ms: int = 0,
        condition: Condition = Condition(),  # noqa: B008
        match: bytes = b"",
    ) -> None:
        uuid = self._uuid()
        self._writes += 1
        kind = JSON if self._writes % 3 else "text/plain"
        payload = b"%d" % self._writes if kind == JSON else b"w%d " % self._writes * self._chance.choice([1, 30])
        self._history.send(uuid, Sent(entry, payload, ttl_ms))
        put = Put(
            entry=entry,
            uuid=uuid,
            codec=RAW,
            payload=payload,
            content_type=kind,
            ttl_ms=ttl_ms,
            condition=condition,
        )
        self._submit(process, put, match)

    def delete(
        self,
        process: Process,
        entry: bytes,
        *,
        condition: Condition = Condition(),  # noqa: B008
        match: bytes = b"",
    ) -> None:
        uuid = self._uuid()
        self._history.send(uuid, Sent(entry, None, 0))
        self._submit(process, Delete(entry=entry, uuid=uuid, condition=condition), match)

    def _submit(self, process: Process, command: Put | Delete, match: bytes) -> None:
        def told(outcome: Outcomes | KvsError) -> None:
            result = outcome if isinstance(outcome, KvsError) else outcome[0]
            self._cluster.world.trace(process.host.name, type(command).__name__, command.entry, type(result).__name__)
            if isinstance(result, Written):
                process.disk.witness.acknowledged(command.entry, result.record, (match,) if match else ())

        process.write(command, told)

    def _transact(self, process: Process) -> None:
        """Two of KVS's own records in one step."""
        uuid = self._uuid()
        self._writes += 1
        values: dict[bytes, bytes | None] = {
            entry: None if self._chance.random() < 0.3 else b'{"n":%d}' % self._writes
            for entry in self._chance.sample(self._systems, 2)
        }
        for entry, value in values.items():
            self._history.send(derived_uuid(uuid, entry), Sent(entry, value, 0))

        def decide(*_: object) -> Mapping[bytes, bytes | None]:
            return values

        def told(outcome: Outcomes | KvsError) -> None:
            if not isinstance(outcome, KvsError) and isinstance(outcome[0], Transacted):
                for entry in values:
                    record = self._history.landed.get(entry, {}).get(derived_uuid(uuid, entry))
                    if record is not None:  # a delete of nothing writes nothing
                        process.disk.witness.acknowledged(entry, record, ())

        process.write(Transact(uuid=uuid, decide=decide), told)

    def _uuid(self) -> bytes:
        return (self._chance.getrandbits(128) & _UUID_RANDOM | _UUID_VERSION).to_bytes(16, "big")


def _path(number: int) -> bytes:
    """Keys of all shapes: nested, one the start of another, long, not ASCII."""
    shape = _PATHS[number % len(_PATHS)]
    return shape % number if b"%d" in shape else shape + b"x" * (number // len(_PATHS))
