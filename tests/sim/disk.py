"""A disk: a store that outlives processes, and what was promised of it."""

import json

from kvs.storage.codec import FORMAT
from kvs.storage.keyspace import ITEMS, RUNS, after
from kvs.storage.memory import MemoryStore
from kvs.storage.state import FORMAT_ROW, IDENTITY_ROW, TREE_ROW, Identity
from kvs.storage.store import Batch
from tests.sim.history import History, Witness


class Disk:
    """`fsync`: whatever was committed survives a power cut. The store keeps the difference only until a crash: a commit
    that is synced at once and one that is synced just before the crash are the same to whoever comes after."""

    def __init__(self, history: History, host: str, identity: Identity, *, fsync: bool) -> None:
        self.fsync = fsync
        self.store = MemoryStore(sync=False)
        self.store.commit({FORMAT_ROW: b"%d" % FORMAT, IDENTITY_ROW: json.dumps(identity._asdict()).encode()})
        self.store.sync()
        self.witness = Witness(history, host)

    def copy(self) -> "Disk":
        """An image of it, as of a virtual machine."""
        twin = Disk.__new__(Disk)
        twin.fsync, twin.witness = self.fsync, self.witness.copy()
        twin.store = MemoryStore(sync=False)
        twin.store.commit(dict(self.store.scan(b"", b"\xff")))
        twin.store.sync()
        return twin

    def commit(self, batch: Batch, planned_ms: int) -> None:
        self.store.commit(batch)
        self.witness.committed(batch, planned_ms)

    def fail(self, *, reached: bool, batch: Batch, planned_ms: int) -> None:
        """A commit fails; whether it reached the disk nobody is told."""
        if reached:
            self.commit(batch, planned_ms)

    def settle(self) -> None:
        """The operating system wrote out what it had."""
        self.store.sync()

    def crash(self, *, power: bool) -> bool:
        """The process is gone, or the power is. Whether something was lost that had been acknowledged."""
        is_loss = power and not self.fsync
        if not is_loss:
            self.settle()
        self.store = self.store.crash()
        if is_loss:
            self.witness.reset(self.store)
        return is_loss

    def wipe_tree(self) -> None:
        """Everything of the Merkle tree is gone, as after a version that did not know it."""
        rows = [row for prefix in (ITEMS, RUNS) for row, _ in self.store.scan(prefix, after(prefix))]
        self.store.commit(dict.fromkeys([*rows, TREE_ROW]))
        self.store.sync()
