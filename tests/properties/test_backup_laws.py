"""Whatever a node holds: a backup of it, restored, is the same; and a damaged one is found out, wherever the damage
is."""

from collections.abc import Sequence
from io import BytesIO
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.cluster.events import Command, Delete, Look, Merge, Put, Transact
from kvs.cluster.tree_building import open_tree
from kvs.errors import BackupDamaged
from kvs.storage.backup import verify
from kvs.storage.codec import encode_record
from kvs.storage.compression import Compressor
from kvs.storage.keyspace import data_key, system_key
from kvs.storage.record import new_uuid, value_digest
from tests.backups import NOW_MS, backup_of, exported, restored
from tests.nodes import LoneNode
from tests.records import record

_packer = Compressor(enabled=True, level=3)

keys = st.text("ab/é", min_size=1, max_size=5).map(lambda text: data_key(text.encode()))
asked = st.one_of(
    st.tuples(st.just("put"), keys, st.binary(max_size=300), st.sampled_from([0, 0, 5, 10**9])),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("merge"), keys, st.integers(1, 2), st.booleans()),
    st.tuples(st.just("document"), st.sampled_from(["user/1", "token/2", "metadata/a"]), st.booleans()),
)
histories = st.lists(asked, max_size=30)


def command(kind: str, subject: object, *rest: object) -> Command:
    entry = subject if isinstance(subject, bytes) else system_key(str(subject).encode())
    match kind, *rest:
        case "put", bytes(value), int(ttl_ms):
            codec, payload = _packer.pack(value)
            return Put(
                entry=entry, uuid=new_uuid(), codec=codec, payload=payload, content_type="text/plain", ttl_ms=ttl_ms
            )
        case "merge", int(ahead), bool(deleted):
            incoming = record(uuid=new_uuid(), timestamp=NOW_MS + ahead, origin="other", deleted=deleted)
            return Merge(
                entry=entry,
                record=incoming,
                raw=encode_record(incoming),
                digest=value_digest(incoming.data),
                source="other",
            )
        case "document", bool(stays):

            def decide(_: Look, now_ms: int) -> dict[bytes, bytes | None]:
                return {entry: b"%d" % now_ms if stays else None}

            return Transact(uuid=new_uuid(), decide=decide)
    return Delete(entry=entry, uuid=new_uuid())


def node_with(history: Sequence[tuple[object, ...]], *, in_cluster: bool = False) -> LoneNode:
    node = LoneNode(tombstone_retention_ms=10**9, in_cluster=in_cluster)
    for moment, (kind, *rest) in zip(count(NOW_MS), history, strict=False):
        node.do(moment, command(str(kind), *rest))
    return node


@settings(deadline=None, max_examples=40)
@given(histories, st.booleans())
def test_what_was_backed_up_is_what_is_restored(history: Sequence[tuple[object, ...]], in_cluster: bool) -> None:
    node = node_with(history, in_cluster=in_cluster)
    backup = backup_of(node.store)
    counts = verify(BytesIO(backup)).counts
    assert counts.rows == sum(1 for key in exported(node.store) if key[:1] in b"sdh")
    assert counts.tombstones == len(node.rows(b"x"))
    with TemporaryDirectory() as folder:
        store = restored(backup, Path(folder) / "data")
        try:
            assert exported(store) == exported(node.store)
            if in_cluster:
                assert open_tree(store).root == node.tree.root
            assert backup_of(store, verify(BytesIO(backup)).header) == backup
        finally:
            store.close()


def _example() -> bytes:
    node = node_with([("put", data_key(b"k%d" % number), b"value %d " % number * 9, 0) for number in range(40)])
    node.do(NOW_MS + 100, command("delete", data_key(b"k1")), command("document", "user/1", True))
    return backup_of(node.store)


EXAMPLE = _example()


def is_refused(backup: bytes) -> bool:
    try:
        verify(BytesIO(backup))
    except BackupDamaged:
        return True
    return False


def test_the_example_is_whole() -> None:
    assert not is_refused(EXAMPLE)


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_found(bit: int) -> None:
    for at in range(bit, len(EXAMPLE), 8):
        flipped = bytearray(EXAMPLE)
        flipped[at] ^= 1 << bit
        assert is_refused(bytes(flipped)), at


def test_every_cut_is_found() -> None:
    for length in range(0, len(EXAMPLE), 3):
        assert is_refused(EXAMPLE[:length]), length
    assert is_refused(EXAMPLE[:-1])


@given(st.integers(0, len(EXAMPLE)), st.binary(min_size=1, max_size=20))
def test_what_is_put_in_or_appended_is_found(at: int, more: bytes) -> None:
    assert is_refused(EXAMPLE[:at] + more + EXAMPLE[at:])


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(1, 200))
def test_what_is_missing_in_the_middle_is_found(at: int, length: int) -> None:
    assert is_refused(EXAMPLE[:at] + EXAMPLE[at + length :])


@given(st.binary(max_size=400))
def test_garbage_is_refused(data: bytes) -> None:
    assert is_refused(data)
    assert is_refused(data + EXAMPLE[-88:])
