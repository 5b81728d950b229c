"""What it costs to find and mend differences: bytes on the wire and questions, between two copies of the same records.

The comparison is the real one, its messages are encoded, packed and decoded; only the network is left out.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from random import Random

from benchmarks import million, processes
from benchmarks.load import DOCUMENT
from benchmarks.report import Findings, Row, say
from benchmarks.spread import Spread
from kvs.cluster.events import Put
from kvs.cluster.merkle import read_tree
from kvs.cluster.node import Node
from kvs.storage.compression import RAW
from kvs.storage.keyspace import data_key
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.record import new_uuid, value_digest
from kvs.storage.state import read_progress
from tests.comparing import Traffic, compare
from tests.nodes import LoneNode

OVERHEAD_AIM_BYTES = 600.0
QUESTIONS_AIM = 6.0
ROOT_AIM_MS = 5.0
DIFFERENCES = (1, 10, 1_000, 10_000)
AIMED_AT = 1_000
"""For so many differences the aims are meant."""
_ROOTS = 1_000
_GROUP = 1_000
_STEP_MS = 60_000


def measure(keys: int, findings: Findings) -> None:
    """With a tenth of the keys, and with all. Half of the differences are newer on one side, half on the other; one
    comparison makes both equal."""
    for count in (max(keys // 10, 1), keys):
        wanted = [differences for differences in DIFFERENCES if differences <= count // 2]
        findings.rows += _of(count, wanted, findings)


def _of(keys: int, wanted: Sequence[int], findings: Findings) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="kvs-bench-") as name:
        filled = Path(name) / "filled"
        million.fill(filled, keys, processes.member)
        with (
            _opened(filled / "data", Path(name) / "one") as one,
            _opened(filled / "data", Path(name) / "other") as other,
        ):
            rows, now_ms = [], time.time_ns() // 1_000_000
            for differences in wanted:
                now_ms += _STEP_MS
                rows += _compared(one, other, keys, differences, now_ms, findings)
            return [*rows, _root_row(one, keys, now_ms)]


@contextmanager
def _opened(filled: Path, folder: Path) -> Iterator[LoneNode]:
    """A node on a copy of a database."""
    shutil.copytree(filled, folder)
    store = LevelDBStore(folder, sync=False)
    node = LoneNode(in_cluster=True, tombstone_retention_ms=10**9)
    node.store = store  # type: ignore[assignment]  # its own is in memory, which a million keys are too many for
    node.node = Node(node.settings, read_progress(store), read_tree(store))
    yield node
    store.close()


def _compared(
    one: LoneNode, other: LoneNode, keys: int, differences: int, now_ms: int, findings: Findings
) -> list[Row]:
    changed = Random(differences).sample(range(keys), differences)
    _write(one, changed[::2], now_ms)
    _write(other, changed[1::2], now_ms)
    traffic = compare(one, other, now_ms + _STEP_MS // 2)
    if one.tree.root != other.tree.root:
        raise RuntimeError("the two sides are not equal after a comparison")
    say(f"{differences:,} differences among {keys:,} keys: {traffic.packed_bytes:,} bytes on the wire")
    findings.add_point(
        "sync",
        keys=keys,
        differences=differences,
        wire_bytes=traffic.packed_bytes,
        record_bytes=traffic.packed_record_bytes,
        questions=len(traffic.questions),
    )
    return _rows(keys, differences, traffic)


def _rows(keys: int, differences: int, traffic: Traffic) -> list[Row]:
    overhead = (traffic.packed_bytes - traffic.packed_record_bytes) / differences
    what = f"{differences:,} differences among {keys:,} keys"
    is_aimed_at = differences == AIMED_AT
    return [
        Row(
            f"{what}: bytes on the wire for each, beyond the record",
            kvs=f"{traffic.packed_bytes:,} bytes",
            other=f"{traffic.packed_record_bytes:,} bytes of records",
            figure=Spread.of([overhead]),
            aim=OVERHEAD_AIM_BYTES if is_aimed_at else None,
            at_least=False,
            notes=f"unpacked {traffic.wire_bytes:,} bytes, {traffic.record_bytes:,} of them records",
        ),
        Row(
            f"{what}: questions",
            kvs=str(len(traffic.questions)),
            other="",
            figure=Spread.of([len(traffic.questions)]),
            aim=QUESTIONS_AIM if is_aimed_at else None,
            at_least=False,
        ),
    ]


def _root_row(node: LoneNode, keys: int, now_ms: int) -> Row:
    """Each write alone, and the root behind it."""
    writes, roots = [], []
    for number in range(_ROOTS):
        before = time.perf_counter()
        node.do(now_ms + _STEP_MS + number, _put(number * keys // _ROOTS))
        between = time.perf_counter()
        _ = node.tree.root
        roots.append((time.perf_counter() - between) * 1000)
        writes.append((between - before) * 1000)
    return Row(
        f"a write and the Merkle root behind it, with {keys:,} keys, ms",
        kvs=f"{Spread.of(writes).median:.3f} ms",
        other=f"{Spread.of(roots).median:.4f} ms of them for the root",
        figure=Spread.of([write + root for write, root in zip(writes, roots, strict=True)]),
        aim=ROOT_AIM_MS,
        at_least=False,
        notes="planned and committed in one process, without fsync",
    )


def _write(node: LoneNode, numbers: list[int], now_ms: int) -> None:
    left = iter(numbers)
    while group := list(islice(left, _GROUP)):
        node.do(now_ms, *[_put(number) for number in group])


def _put(number: int) -> Put:
    entry = data_key(b"site/%d/device/%07d" % (number % 100, number))
    return Put(entry=entry, uuid=new_uuid(), codec=RAW, payload=DOCUMENT, digest=value_digest(DOCUMENT))
