"""The numbers of a key's versions come to an end; its writes do not."""

import msgspec
import pytest

from kvs.cluster.events import Command, Delete, Merge, Put, Restore, Sweep, Trim, Written
from kvs.cluster.ingest import merge_of
from kvs.storage.codec import GENERATION_MAX, decode, encode, encode_record
from kvs.storage.compression import RAW
from kvs.storage.keyspace import REVISIONS, TOMBSTONES, data_key, revision_row
from kvs.storage.record import new_uuid
from tests.nodes import LoneNode
from tests.records import record

NOW = 1_700_000_000_000
KEY = data_key(b"k")


def put(data: bytes) -> Put:
    return Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=data)


def merge(after_ms: int) -> Merge:
    return merge_of(KEY, encode_record(record(timestamp=NOW + after_ms, payload=b"%d" % after_ms)), "far")


def wear_out(node: LoneNode) -> None:
    """Number the versions as if the key had been written so often that the current one has the last number."""
    raw = node.store.get(KEY)
    assert raw is not None
    stored = decode(KEY, raw)
    moved = {KEY: encode(KEY, msgspec.structs.replace(stored, generation=GENERATION_MAX))}
    gone: dict[bytes, bytes | None] = {}
    for back in range(1, stored.kept + 1):
        row = revision_row(KEY, stored.generation - back)
        revision = node.store.get(row)
        assert revision is not None
        moved[revision_row(KEY, GENERATION_MAX - back)] = revision
        gone[row] = None
    node.store.commit(gone | moved)
    node.check_rows()


def worn(*, in_cluster: bool = True, writes: int = 3) -> LoneNode:
    node = LoneNode(in_cluster=in_cluster)
    node.do(NOW, *(put(b"%d" % number) for number in range(writes)))
    wear_out(node)
    return node


def values(node: LoneNode) -> list[bytes]:
    return [revision.data for _, revision in node.history(KEY, NOW)]


@pytest.mark.parametrize("writes", [1, 2, 3])
@pytest.mark.parametrize("in_cluster", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_writes_go_on_with_the_history_that_there_is(count: int, in_cluster: bool, writes: int) -> None:
    node, fresh = worn(in_cluster=in_cluster, writes=writes), LoneNode(in_cluster=in_cluster)
    fresh.do(NOW, *(put(b"%d" % number) for number in range(writes)))
    more = [put(b"more %d" % number) for number in range(count)]
    for each in (node, fresh):
        each.do(NOW, *more)
        each.check_rows()
    assert values(node) == values(fresh)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (Delete(entry=KEY, uuid=new_uuid()), [b"", b"2", b"1"]),
        (Restore(entry=KEY, uuid=new_uuid(), revision=3), [b"0", b"2", b"1"]),
        (merge(10), [b"10", b"2", b"1"]),
        (merge(-10), [b"2", b"1", b"0"]),
    ],
    ids=["delete", "restore", "merge of a winner", "merge of one without a place"],
)
def test_whatever_writes(command: Command, expected: list[bytes]) -> None:
    node = worn()
    node.do(NOW, command)
    assert values(node) == expected
    node.check_rows()


@pytest.mark.parametrize(("after_ms", "expected"), [(5, [b"9", b"5", b"1"]), (0, [b"9", b"1", b"0"])])
def test_a_loser_too(after_ms: int, expected: list[bytes]) -> None:
    node = LoneNode(in_cluster=True)
    node.do(NOW, merge(1), merge(9))
    wear_out(node)
    node.do(NOW, merge(after_ms))
    assert values(node) == expected
    node.check_rows()


def test_a_lower_limit_and_a_sweep_leave_nothing_behind() -> None:
    node = worn()
    node.restart(versions_max=2)
    node.do(NOW, put(b"3"))
    assert values(node) == [b"3", b"2"]
    node.check_rows()
    node.do(NOW, Trim(entry=KEY))
    assert values(node) == [b"3", b"2"]
    node.do(NOW, Delete(entry=KEY, uuid=new_uuid()))
    node.do(NOW + 100_000, Sweep(rows=tuple(node.rows(TOMBSTONES))))
    assert node.rows(REVISIONS) == {}
    node.check_rows()


def test_the_numbers_begin_anew() -> None:
    node = worn()
    (written,) = node.do(NOW, put(b"3"))
    assert isinstance(written, Written)
    raw = node.store.get(KEY)
    assert raw is not None
    assert decode(KEY, raw).generation == 4
