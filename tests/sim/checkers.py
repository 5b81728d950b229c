"""What must hold of a whole cluster. Each raises Violation, or says what is not yet so."""

from functools import reduce
from itertools import permutations
from random import Random

from kvs.cluster.merkle import Sum, item_of, items, read_tree
from kvs.storage.codec import decode
from kvs.storage.current import index_rows, seq_of
from kvs.storage.keyspace import (
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
from tests.precedence import precedence
from tests.records import winner
from tests.sim.history import LOWEST, contents
from tests.sim.simcluster import SimCluster
from tests.sim.simnode import Process
from tests.sim.world import Violation


def differences(cluster: SimCluster) -> list[str]:
    """What is not as it must be once all faults are over: who knows whom, equal roots, equal contents."""
    processes = cluster.processes()
    wrong = [
        f"{process.host.name} knows {sorted(process.shell.addresses)} only"
        for process in processes
        if len(process.shell.addresses) != len(processes) - 1
    ]
    wrong += [
        f"{process.host.name} takes no writes"
        for process in processes
        if not process.writer.is_idle or process.shell.replica.mode != "settled"
    ]
    wrong += [f"{process.host.name} has something to push" for process in processes if process.shell.waiting()]
    if wrong:
        return wrong
    roots = {_root(process) for process in processes}
    if len(roots) > 1:
        return [f"{len(roots)} different roots: {_unequal(processes)}"]
    first = contents(processes[0].disk.store)
    for process in processes[1:]:
        if contents(process.disk.store) != first:
            return [f"equal roots, and different contents: {_unequal(processes)}"]
    return []


def _root(process: Process) -> bytes:
    assert process.node.tree is not None
    return process.node.tree.root.fingerprint


def _unequal(processes: list[Process]) -> str:
    """The first keys that differ, with what each host holds."""
    held = {process.host.name: contents(process.disk.store) for process in processes}
    keys = sorted({key for found in held.values() for key in found})
    unequal = [key for key in keys if len({found.get(key) for found in held.values()}) > 1]
    return f"{len(unequal)} keys, as " + "; ".join(
        f"{key!r}: " + ", ".join(f"{name} {_brief(found.get(key))}" for name, found in held.items())
        for key in unequal[:2]
    )


def _brief(record: Record | None) -> str:
    if record is None:
        return "nothing"
    kind = "tombstone" if record.deleted else f"value until {record.expires_at}" if record.expires_at else "value"
    return f"{record.timestamp}.{record.counter} of {record.origin} on {record.base} ({kind})"


def check_acknowledged(cluster: SimCluster) -> None:
    """What every host holds now is at least every acknowledged version, or was at some time and was over."""
    processes = cluster.processes()
    final = contents(processes[0].disk.store)
    for entry, records in cluster.history.acked.items():
        if not records:
            continue
        most = max(records, key=precedence)
        held = final.get(entry)
        ever = max(process.disk.witness.high.get(entry, LOWEST) for process in processes)
        if held is None and ever < precedence(most):
            raise Violation(f"{entry!r}: {most} was acknowledged, and no node has ever had it")
        if held is None and not cluster.history.may_be_gone(entry, most):
            raise Violation(f"{entry!r}: {most} was acknowledged, and nobody has deleted it")
        if held is not None and precedence(held) < precedence(most):
            raise Violation(f"{entry!r}: {most} was acknowledged, and {held} is what is left")


def check_merge_laws(cluster: SimCluster, chance: Random, keys: int = 20) -> None:
    """Merging the versions that there were gives the same in every order: the greatest."""
    many = [records for records in cluster.history.landed.values() if len(records) > 1]
    for records in chance.sample(many, min(keys, len(many))):
        some = chance.sample(list(records.values()), min(4, len(records)))
        for order in permutations(some, len(some)):
            if reduce(winner, order) != max(some, key=precedence):
                raise Violation(f"the order of arrival decides between {order}")


def check_rows(process: Process) -> None:
    """Every row on the disk is one that a current record accounts for, and none is missing; so with the tree."""
    store = process.disk.store
    records = {**_rows(store, DATA), **_rows(store, SYSTEM)}
    expected: dict[bytes, bytes] = {}
    revisions: set[bytes] = set()
    found_items: dict[bytes, bytes] = {}
    for entry, raw in records.items():
        stored = decode(entry, raw)
        expected.update((row, b"") for row in index_rows(entry, stored.record))
        seq = seq_of(store, entry, stored)
        expected[change_row(seq)] = entry
        if seq != stored.seq:
            expected[expiry_row(stored.record.expires_at, entry)] = encode_seq(seq)
        revisions |= {revision_row(entry, stored.generation - back) for back in range(1, stored.kept + 1)}
        found_items[entry] = item_of(entry, stored.record, value_digest(stored.record.data))
    found = {row: v for prefix in (TIMES, EXPIRIES, TOMBSTONES, CHANGES) for row, v in _rows(store, prefix).items()}
    if found != expected:
        raise Violation(f"{process.host.name}: index rows {sorted(found.items() ^ expected.items())[:4]}")
    if set(_rows(store, REVISIONS)) != revisions:
        raise Violation(f"{process.host.name}: revisions {sorted(set(_rows(store, REVISIONS)) ^ revisions)[:4]}")
    if dict(items(store, b"", b"")) != found_items:
        raise Violation(f"{process.host.name}: the items of the tree are not those of the records")
    total = sum(int.from_bytes(item, "big") for item in found_items.values()) % 2**256
    tree = process.node.tree
    assert tree is not None
    if not tree.root == read_tree(store).root == Sum(len(found_items), total):
        raise Violation(f"{process.host.name}: the runs of the tree are not the sums of its items")


def check_rows_somewhere(cluster: SimCluster, chance: Random) -> None:
    """At any moment, on a node whose memory and disk are to say the same."""
    idle = [process for process in cluster.processes() if process.writer.is_idle]
    if idle:
        check_rows(chance.choice(idle))


def _rows(store: MemoryStore, prefix: bytes) -> dict[bytes, bytes]:
    return dict(store.scan(prefix, after(prefix)))
