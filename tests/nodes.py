"""A node on a memory store without a runner, and an oracle of what it should hold."""

from collections.abc import Sequence
from contextlib import suppress

from kvs.cluster.events import Command, Group, Outcome, Reply, Submission
from kvs.cluster.merkle import Sum, Tree, item_of, items, read_tree
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.trail import Trail
from kvs.errors import StoreFailed
from kvs.storage.audit import Entry, first_rows
from kvs.storage.audit import decode as decode_entry
from kvs.storage.codec import decode
from kvs.storage.current import history, index_rows, seq_of
from kvs.storage.keyspace import (
    AUDIT_ENTRIES,
    CHANGES,
    DATA,
    EXPIRIES,
    REVISIONS,
    SYSTEM,
    TIMES,
    TOMBSTONES,
    after,
    change_row,
    encode_seq,
    expiry_row,
    revision_row,
)
from kvs.storage.memory import MemoryStore
from kvs.storage.record import Record, value_digest
from kvs.storage.state import read_progress

LOG = "0f1e2d3c-4b5a-4978-a6b5-c4d3e2f10213"
"""The instance id of a LoneNode's data."""


class LoneNode:
    """Plans and commits like the runner, one group a call."""

    def __init__(
        self,
        *,
        versions_max: int = 3,
        tombstone_retention_ms: int = 1000,
        node_id: str = "node1",
        joined: int = 1,
        in_cluster: bool = False,
        actions: Sequence[str] | None = None,
    ) -> None:
        """`actions` are those of its audit log; None for a node that keeps none."""
        self.store = MemoryStore()
        if actions is not None:
            self.store.commit(dict(first_rows(LOG)))
        self.settings = NodeSettings(node_id, joined, versions_max, tombstone_retention_ms, 60_000)
        self._actions = actions
        self.node = Node(self.settings, read_progress(self.store), Tree({}) if in_cluster else None, self._trail())

    def _trail(self) -> Trail | None:
        return None if self._actions is None else Trail(LOG, self._actions, self.store)

    def restart(self, *, versions_max: int | None = None) -> None:
        if versions_max is not None:
            self.settings = self.settings._replace(versions_max=versions_max)
        self.store = self.store.crash()
        tree = None if self.node.tree is None else read_tree(self.store)
        self.node = Node(self.settings, read_progress(self.store), tree, self._trail())

    def do(self, now_ms: int, *commands: Command) -> list[Outcome]:
        """All commands in one group, each its own submission."""
        group = self.plan(now_ms, commands)
        self.store.commit(group.batch)
        replies = [effect for effect in self.node.committed(group) if isinstance(effect, Reply)]
        assert [reply.ticket for reply in replies] == list(range(len(commands)))
        return [outcome for reply in replies for outcome in reply.outcomes]

    @property
    def tree(self) -> Tree:
        assert self.node.tree is not None
        return self.node.tree

    def fail(self, now_ms: int, *commands: Command, landed: bool) -> None:
        """The same, but the commit fails; with `landed` it has reached the disk nevertheless. Then the node resumes."""
        group = self.plan(now_ms, commands)
        if landed:
            self.store.commit(group.batch)
        self.store.fail_writes("no space")
        with suppress(StoreFailed):
            self.store.commit(group.batch)
        self.store.fail_writes(None)
        self.store.reopen()
        tree = None if self.node.tree is None else read_tree(self.store)
        self.node.resume(read_progress(self.store), tree)
        if self.node.trail is not None:
            self.node.trail.resume(self.store)

    @property
    def log(self) -> list[Entry]:
        """The audit log."""
        return [decode_entry(raw) for raw in self.rows(AUDIT_ENTRIES).values()]

    def plan(self, now_ms: int, commands: Sequence[Command]) -> Group:
        submissions = [Submission(number, (command,), 0) for number, command in enumerate(commands)]
        return self.node.plan_group(submissions, self.store, now_ms)

    def live(self, entry: bytes, now_ms: int) -> Record | None:
        raw = self.store.get(entry)
        record = decode(entry, raw).record if raw is not None else None
        return record if record is not None and record.is_live(now_ms) else None

    def history(self, entry: bytes, now_ms: int) -> list[tuple[int, Record]]:
        return list(history(self.store, entry, now_ms, self.settings.versions_max))

    def rows(self, prefix: bytes) -> dict[bytes, bytes]:
        return dict(self.store.scan(prefix, after(prefix)))

    def check_rows(self) -> None:
        """Every row is one that a current record accounts for, and none is missing."""
        expected: dict[bytes, bytes] = {}
        revisions: set[bytes] = set()
        for entry, raw in {**self.rows(DATA), **self.rows(SYSTEM)}.items():
            stored = decode(entry, raw)
            expected.update((row, b"") for row in index_rows(entry, stored.record))
            seq = seq_of(self.store, entry, stored)
            expected[change_row(seq)] = entry
            if seq != stored.seq:
                expected[expiry_row(stored.record.expires_at, entry)] = encode_seq(seq)
            revisions |= {revision_row(entry, stored.generation - back) for back in range(1, stored.kept + 1)}
        found = {
            row: value for prefix in (TIMES, EXPIRIES, TOMBSTONES, CHANGES) for row, value in self.rows(prefix).items()
        }
        assert found == expected
        assert set(self.rows(REVISIONS)) == revisions
        self.check_counts()
        if self.node.tree is not None:
            self._check_tree(self.node.tree)

    def check_counts(self) -> None:
        """The numbers that are kept up are those that counting finds."""
        raws = {**self.rows(DATA), **self.rows(SYSTEM)}
        tombstones = sum(decode(entry, raw).record.deleted for entry, raw in raws.items())
        assert (self.node.tally.records, self.node.tally.tombstones) == (len(raws), tombstones)
        progress = read_progress(self.store)
        assert (progress.records, progress.tombstones) == (len(raws), tombstones)

    def _check_tree(self, tree: Tree) -> None:
        expected = {}
        for entry, raw in {**self.rows(DATA), **self.rows(SYSTEM)}.items():
            record = decode(entry, raw).record
            expected[entry] = item_of(entry, record, value_digest(record.data))
        assert dict(items(self.store, b"", b"")) == expected
        total = sum(int.from_bytes(item, "big") for item in expected.values()) % 2**256
        assert tree.root == read_tree(self.store).root == Sum(len(expected), total)
