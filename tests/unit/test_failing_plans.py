"""A plan that fails halfway, as a row cannot be read or because of a bug, leaves nothing behind, and fails alone."""

from collections.abc import Callable, Mapping

import pytest

from kvs.cluster.events import (
    Command,
    Delete,
    Discard,
    Lapse,
    Look,
    Merge,
    Outcome,
    Put,
    Reply,
    Report,
    Scrub,
    Scrubbed,
    Sweep,
    Swept,
    Transact,
    Written,
)
from kvs.cluster.ingest import merge_of
from kvs.cluster.merkle import read_tree
from kvs.cluster.rows import Rows
from kvs.errors import CorruptRecord, KvsError, StoreClosed, StoreCorrupt
from kvs.storage.codec import encode_record
from kvs.storage.compression import RAW
from kvs.storage.keyspace import EXPIRIES, ITEMS, TOMBSTONES, data_key, system_key
from kvs.storage.record import new_uuid
from tests.nodes import LoneNode
from tests.records import record

NOW = 1_700_000_000_000
LATER = NOW + 1_000_000
A, B, C = (data_key(name) for name in (b"a", b"b", b"c"))


class Damaged:
    """A node that cannot read one row, or finds a bug where one is written."""

    def __init__(self, node: LoneNode, row: bytes, error: Exception) -> None:
        self._node, self._row, self._error = node, row, error
        self._get = node.store.get

    def __enter__(self) -> None:
        self._node.store.get = self.get  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        self._node.store.get = self._get  # type: ignore[method-assign]

    def get(self, key: bytes) -> bytes | None:
        if key == self._row:
            raise self._error
        return self._get(key)


CORRUPT = StoreCorrupt("block checksum mismatch")
BUG = ZeroDivisionError("a bug")


@pytest.fixture
def node() -> LoneNode:
    made = LoneNode(in_cluster=True, actions=["data_write", "data_delete"])
    made.do(NOW, put(A), put(B), put(C))
    return made


def put(entry: bytes, ttl_ms: int = 0) -> Put:
    return Put(entry=entry, uuid=new_uuid(), codec=RAW, payload=b"1", ttl_ms=ttl_ms)


def transact(*names: bytes) -> Transact:
    values = {system_key(name): b"{}" for name in names}

    def decide(look: Look, now_ms: int) -> Mapping[bytes, bytes | None]:
        return values

    return Transact(uuid=new_uuid(), decide=decide)


def merge(entry: bytes) -> Merge:
    return merge_of(entry, encode_record(record(timestamp=NOW + 5)), "far")


def reports(node: LoneNode, *commands: Command) -> tuple[list[Outcome], list[Report]]:
    group = node.plan(LATER, commands)
    node.store.commit(group.batch)
    effects = node.node.committed(group)
    outcomes = [outcome for effect in effects if isinstance(effect, Reply) for outcome in effect.outcomes]
    return outcomes, [effect for effect in effects if isinstance(effect, Report)]


@pytest.mark.parametrize("error", [CORRUPT, BUG], ids=["corrupt", "bug"])
@pytest.mark.parametrize(
    "command",
    [put(B), put(B, 5), Delete(entry=B, uuid=new_uuid()), merge(B), transact(b"user/1", b"user/2")],
    ids=["put", "put with an end", "delete", "merge", "transact"],
)
def test_only_what_fails_fails(node: LoneNode, command: Command, error: Exception) -> None:
    node.do(NOW, transact(b"user/1", b"user/2"))
    counted = node.node.tally.client_writes
    row = ITEMS + (system_key(b"user/2") if isinstance(command, Transact) else B)
    lines = len(node.log)
    with Damaged(node, row, error):
        outcomes, told = reports(node, put(A), command, put(data_key(b"new")), command, put(C))
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, Written)] == [Written] * 3
    for failed in (outcomes[1], outcomes[3]):
        assert isinstance(failed, KvsError)
        assert (failed.code, "bug" in failed.detail) == ("corrupt_record" if error is CORRUPT else "internal", False)
    assert [report.event for report in told] == (
        ["Corrupt record found"] * 2 if error is CORRUPT else ["A write could not be planned"] * 2
    )
    assert error is CORRUPT or all("ZeroDivisionError: a bug" in report.fields["exception"] for report in told)
    assert node.node.tally.client_writes == counted + 3
    assert len(node.log) == lines + 3
    node.check_rows()
    node.restart()
    node.check_rows()


def test_what_the_others_made_of_the_tree_stays(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the root is to be summed up anew too, which a step of the scrubber found before."""
    right = node.tree.root
    node.tree.root = right.plus(right)
    with Damaged(node, ITEMS + B, BUG):
        outcomes, _ = reports(node, Scrub(start=b""), put(A), put(B))
    assert isinstance(outcomes[0], Scrubbed)
    assert isinstance(outcomes[1], Written)
    assert node.tree.root == read_tree(node.store).root
    node.check_rows()


def test_a_bug_halfway_leaves_nothing_of_its_plan(node: LoneNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever had been done until then."""
    add = Rows.add

    def fail_behind(self: Rows, batch: dict[bytes, bytes | None], entry: bytes, *args: object, **more: object) -> None:
        add(self, batch, entry, *args, **more)  # type: ignore[arg-type]
        if entry == B:
            raise BUG

    monkeypatch.setattr(Rows, "add", fail_behind)
    outcomes, _ = reports(node, put(A), put(B), put(data_key(b"new")))
    assert [isinstance(outcome, Written) for outcome in outcomes] == [True, False, True]
    node.check_rows()


def test_a_store_that_is_closed_fails_all(node: LoneNode) -> None:
    with Damaged(node, ITEMS + B, StoreClosed("reopening")), pytest.raises(StoreClosed):
        node.plan(LATER, [put(A), put(B)])
    node.check_rows()


def over(node: LoneNode) -> tuple[bytes, ...]:
    """The rows of records whose time is over: values and tombstones."""
    return (*node.rows(EXPIRIES), *node.rows(TOMBSTONES))


def sweep(node: LoneNode) -> Command:
    return Sweep(rows=over(node))


def lapse(node: LoneNode) -> Command:
    return Lapse(rows=tuple(node.rows(EXPIRIES)))


def discard(node: LoneNode) -> Command:
    return Discard(entries=(A, B, C), before_ms=LATER)


@pytest.mark.parametrize(("make", "done"), [(sweep, 4), (discard, 2)])
def test_one_row_that_cannot_be_read_does_not_keep_the_others(
    node: LoneNode, make: Callable[[LoneNode], Command], done: int
) -> None:
    node.do(NOW, *(Delete(entry=entry, uuid=new_uuid()) for entry in (A, B, C)))
    node.do(NOW, put(data_key(b"x"), 5), put(data_key(b"y"), 5))
    with Damaged(node, ITEMS + B, CORRUPT):
        for _ in range(3):
            outcomes, told = reports(node, make(node))
            (outcome,) = outcomes
            assert isinstance(outcome, Swept)
            assert [report.event for report in told] == ["Corrupt record found"]
    assert [entry in node.rows(b"d") for entry in (A, B, C)] == [False, True, False]
    assert len(node.rows(b"d")) == 5 - done
    node.check_rows()


def test_nor_the_ends_of_others(node: LoneNode) -> None:
    node.do(NOW, put(A, 5), put(B, 5), put(C, 5))
    damaged = next(row for row in node.rows(EXPIRIES) if row.endswith(B))
    with Damaged(node, damaged, CORRUPT):
        outcomes, _ = reports(node, lapse(node))
    assert outcomes == [Swept(2)]
    node.check_rows()


def test_a_record_that_cannot_be_read_is_refused_and_counts_stay(node: LoneNode) -> None:
    with Damaged(node, ITEMS + B, CORRUPT):
        for _ in range(3):
            (refused,) = node.do(NOW, put(B))
            assert isinstance(refused, CorruptRecord)
    node.check_rows()
