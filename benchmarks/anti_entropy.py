"""What it costs to find and mend differences: bytes on the wire and questions, between two copies of the same records.

The comparison is the real one, its messages are encoded, packed and decoded; only the network is left out.
"""

from copy import deepcopy
from itertools import islice
from random import Random

from benchmarks.load import DOCUMENT
from benchmarks.report import Row, say
from benchmarks.spread import Spread
from kvs.cluster.events import Put
from kvs.storage.compression import RAW
from kvs.storage.keyspace import data_key
from kvs.storage.record import new_uuid, value_digest
from tests.comparing import Traffic, compare
from tests.nodes import LoneNode

OVERHEAD_AIM_BYTES = 600.0
QUESTIONS_AIM = 6.0
AIMED_AT = 1_000
"""For so many differences the aims are meant."""
_GROUP = 1_000
_WRITTEN_MS = 1_700_000_000_000
_CHANGED_MS = _WRITTEN_MS + 60_000
_NOW_MS = _CHANGED_MS + 60_000


def measure(keys: int, differences: int = AIMED_AT) -> list[Row]:
    """Half of the differences are newer on one side, half on the other; one comparison makes both equal."""
    one = LoneNode(in_cluster=True, tombstone_retention_ms=10**9)
    _write(one, list(range(keys)), _WRITTEN_MS)
    other = deepcopy(one)
    changed = Random(1).sample(range(keys), differences)
    _write(one, changed[::2], _CHANGED_MS)
    _write(other, changed[1::2], _CHANGED_MS)
    traffic = compare(one, other, _NOW_MS)
    if one.tree.root != other.tree.root:
        raise RuntimeError("the two sides are not equal after a comparison")
    say(f"{differences:,} differences among {keys:,} keys: {traffic.packed_bytes:,} bytes on the wire")
    return _rows(keys, differences, traffic)


def _rows(keys: int, differences: int, traffic: Traffic) -> list[Row]:
    overhead = (traffic.packed_bytes - traffic.packed_record_bytes) / differences
    what = f"{differences:,} differences among {keys:,} keys"
    return [
        Row(
            f"{what}: bytes on the wire for each, beyond the record",
            kvs=f"{traffic.packed_bytes:,} bytes",
            other=f"{traffic.packed_record_bytes:,} bytes of records",
            figure=Spread.of([overhead]),
            aim=OVERHEAD_AIM_BYTES,
            at_least=False,
            notes=f"unpacked {traffic.wire_bytes:,} bytes, {traffic.record_bytes:,} of them records",
        ),
        Row(
            f"{what}: questions",
            kvs=str(len(traffic.questions)),
            other="-",
            figure=Spread.of([len(traffic.questions)]),
            aim=QUESTIONS_AIM,
            at_least=False,
        ),
    ]


def _write(node: LoneNode, numbers: list[int], now_ms: int) -> None:
    left = iter(numbers)
    while group := list(islice(left, _GROUP)):
        node.do(now_ms, *[_put(number) for number in group])


def _put(number: int) -> Put:
    entry = data_key(b"site/%d/device/%07d" % (number % 100, number))
    return Put(entry=entry, uuid=new_uuid(), codec=RAW, payload=DOCUMENT, digest=value_digest(DOCUMENT))
