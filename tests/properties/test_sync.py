"""After one comparison both nodes hold the same, whatever each of them held before."""

from contextlib import ExitStack
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.cluster import ingest, merkle, sync
from kvs.cluster.events import Merge, Put, Sweep, Transact
from kvs.cluster.exchange import DiffRequest
from kvs.storage.codec import decode, encode_record
from kvs.storage.keyspace import DATA, EXPIRIES, SYSTEM, after, data_key, moment_range, system_key
from kvs.storage.record import Record, value_digest
from kvs.storage.retention import expiry_limit
from tests.comparing import compare
from tests.nodes import LoneNode
from tests.records import winner

NOW_MS = 1_700_000_000_000

keys = st.text("ab/é", min_size=1, max_size=5).map(lambda text: data_key(b"k" + text.replace("/", "-").encode()))
entries = keys | st.sampled_from([system_key(b"user/1"), system_key(b"metadata/k")])
versions = st.builds(
    Record,
    uuid=st.sampled_from([b"\x01" * 16, b"\x02" * 16]),
    timestamp=st.integers(1, 3),
    counter=st.integers(0, 1),
    origin=st.sampled_from(["a", "b"]),
    origin_joined=st.integers(1, 2),
    deleted=st.booleans(),
    payload=st.just(b""),
)
contents = st.lists(st.tuples(entries, versions, st.sampled_from([b"1", b'{"a":2}'])), max_size=40)


def merges(found: list[tuple[bytes, Record, bytes]]) -> list[Merge]:
    return [
        Merge(entry=entry, record=record, raw=encode_record(record), digest=value_digest(record.data), source="x")
        for entry, version, value in found
        for record in [version if version.deleted else _with(version, value)]
    ]


def _with(version: Record, value: bytes) -> Record:
    fields = {name: getattr(version, name) for name in version.__struct_fields__}
    return Record(**{**fields, "payload": value})


def written_at(timestamp: int) -> Record:
    return Record(uuid=b"\x01" * 16, timestamp=timestamp, counter=0, origin="b", origin_joined=1)


def node(name: str) -> LoneNode:
    return LoneNode(node_id=name, in_cluster=True, tombstone_retention_ms=2 * NOW_MS)


def held(at: LoneNode) -> dict[bytes, Record]:
    rows = {**dict(at.store.scan(DATA, after(DATA))), **dict(at.store.scan(SYSTEM, after(SYSTEM)))}
    return {entry: decode(entry, raw).record for entry, raw in rows.items()}


@settings(deadline=None)
@given(contents, contents, contents, st.integers(1, 8), st.integers(2, 10), st.sampled_from([4, 1000]))
def test_both_hold_the_same_afterwards(
    both: list[tuple[bytes, Record, bytes]],
    first: list[tuple[bytes, Record, bytes]],
    second: list[tuple[bytes, Record, bytes]],
    mean: int,
    list_below: int,
    ranges_max: int,
) -> None:
    with ExitStack() as patches:
        for module, name, value in (
            (merkle, "RUN_ITEMS_MEAN", mean),
            (merkle, "RUNS_FOR_A_COARSE_SPLIT", 2),
            (sync, "DIFF_LIST_BELOW", list_below),
            (sync, "DIFF_LIST_BELOW_LATE", list_below),
            (sync, "DIFF_RANGES_MAX", ranges_max),
            (sync, "FETCH_KEYS_MAX", 3),
        ):
            patches.enter_context(patch.object(module, name, value))
        a, b = (node(name) for name in "ab")
        a.do(NOW_MS, *merges(both + first))
        b.do(NOW_MS, *merges(both + second))
        expected = dict(held(a))
        for entry, record in held(b).items():
            expected[entry] = winner(expected[entry], record) if entry in expected else record
        compare(a, b, NOW_MS)
        assert held(a) == held(b) == expected
        assert a.tree.root == b.tree.root
        a.check_rows()
        b.check_rows()
        for asker, asked in ((a, b), (b, a)):
            again = compare(asker, asked, NOW_MS)
            assert len(again.questions) == 1
            assert again.record_bytes == 0


def test_an_empty_node_is_filled_and_deletes_nothing() -> None:
    a, b = (node(name) for name in "ab")
    uuid = b"\x07" * 16
    b.do(NOW_MS, *[Transact(uuid=uuid, decide=lambda *_, n=n: {data_key(b"k%d" % n): b"1"}) for n in range(3000)])
    for asker, asked in ((a, b), (node("c"), b)):
        compare(asker, asked, NOW_MS + 5000)
        assert held(asker) == held(b)
    d = node("d")
    compare(b, d, NOW_MS + 5000)
    assert held(d) == held(b)
    assert len(held(b)) == 3000


@settings(deadline=None)
@given(
    st.lists(st.tuples(keys, st.sampled_from([0, 1, 9_999, 10_000, 30_000]), st.booleans()), max_size=12),
    st.sampled_from([0, 1, 10_000, 60_000, 119_999, 120_000, 130_000, 139_999, 140_000, 10**6]),
)
def test_a_node_that_is_filled_while_values_end_is_equal_at_once(
    written: list[tuple[bytes, int, bool]], later_ms: int
) -> None:
    """Before they end, after, and when they have left the disks; whether they had replaced something or not. No
    comparison finds anything to do, neither then nor when they leave."""
    full, fresh = (node(name) for name in "ab")
    for number, (entry, ttl_ms, is_twice) in enumerate(written):
        for value in (b"1", b"2")[not is_twice :]:
            uuid = number.to_bytes(16, "big")
            put = Put(entry=entry, uuid=uuid, codec=0, payload=value, ttl_ms=ttl_ms)
            full.do(NOW_MS, put)
    now_ms = NOW_MS + 5_000 + later_ms
    sweep(full, now_ms)
    compare(fresh, full, now_ms)
    for at_ms in (now_ms, *range(now_ms // 10_000 * 10_000, now_ms + 200_000, 10_000)):
        for each in (full, fresh):
            sweep(each, max(at_ms, now_ms))
        assert full.tree.root == fresh.tree.root
        assert held(full) == held(fresh)
    for asker, asked in ((full, fresh), (fresh, full)):
        assert compare(asker, asked, now_ms + 200_000).record_bytes == 0


def sweep(at: LoneNode, now_ms: int) -> None:
    rows = tuple(row for row, _ in at.store.scan(*moment_range(EXPIRIES, expiry_limit(now_ms))))
    at.do(now_ms, Sweep(rows=rows))


def test_ranges_of_which_nothing_may_be_sent_do_not_end_a_comparison() -> None:
    """The peer holds there only tombstones that all have seen, and that have not left its disk yet; all else is
    exchanged nevertheless."""
    a, b = (LoneNode(node_id=name, in_cluster=True, tombstone_retention_ms=1) for name in "ab")
    uuid = b"\x07" * 16
    b.do(NOW_MS, Transact(uuid=uuid, decide=lambda *_: {data_key(b"lasts"): b"1"}))
    over = Record(uuid=uuid, timestamp=NOW_MS, counter=9, origin="b", origin_joined=1, deleted=True)
    b.do(NOW_MS, *merges([(data_key(b"over%d" % n), over, b"") for n in range(200)]))
    a.do(NOW_MS, *merges([(data_key(b"mine%d" % n), over, b"") for n in range(2)]))
    a.do(NOW_MS, Transact(uuid=uuid, decide=lambda *_: {data_key(b"other"): b"1"}))
    for asker, asked in ((a, b), (b, a), (node("c"), b)):
        compare(asker, asked, NOW_MS + 5000)
        assert data_key(b"lasts") in held(asker)
    assert data_key(b"other") in held(b)
    assert not any(entry.startswith(data_key(b"over")) for entry in held(a))


def test_what_cannot_be_taken_keeps_nothing_else_out() -> None:
    """A key that no client could have written, whether it is asked for by its name or comes with a whole range."""
    a, b = (node(name) for name in "ab")
    version = Record(uuid=b"\x01" * 16, timestamp=1, counter=0, origin="b", origin_joined=1)
    bad = [(data_key(b"_%d" % n), version, b"1") for n in range(3)]
    good = [(data_key(b"k%d" % n), version, b"1") for n in range(500)]
    b.do(NOW_MS, *merges(bad + good))
    a.do(NOW_MS, *merges([*good[:250], (data_key(b"mine"), version, b"2")]))
    for asker in (a, node("c")):
        found = compare(asker, b, NOW_MS)
        assert (found.refused, found.behind) == (3, False)
        assert set(held(asker)) == set(held(b)) - {entry for entry, _, _ in bad}
    assert data_key(b"mine") in held(b)


def test_what_is_not_taken_keeps_nobody_from_what_is_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer sends tombstones of which this node needs none, more than one comparison moves: the next one begins
    behind them."""
    monkeypatch.setattr(sync, "SESSION_KEYS_MAX", 50)
    monkeypatch.setattr(sync, "DIFF_EARLY_ROUNDS", 0)
    a = LoneNode(node_id="a", in_cluster=True, tombstone_retention_ms=1)
    b = LoneNode(node_id="b", in_cluster=True, tombstone_retention_ms=10**9)
    uuid = b"\x07" * 16
    for at in (a, b):
        at.do(NOW_MS, *merges([(data_key(b"k%05d" % n), written_at(1), b"1") for n in range(0, 2_000, 2)]))
    over = Record(uuid=uuid, timestamp=NOW_MS - 5000, counter=9, origin="b", origin_joined=1, deleted=True)
    b.do(NOW_MS, *merges([(data_key(b"k%05d" % n), over, b"") for n in range(1, 1_000, 2)]))
    b.do(NOW_MS, *merges([(data_key(b"k%05d" % n), written_at(1), b"1") for n in range(1_001, 2_000, 2)]))
    found = compare(a, b, NOW_MS)
    count = 1
    while found.behind:
        found = compare(a, b, NOW_MS + count, found.session)
        count += 1
        assert count < 1_000, "it begins anew each time"
    assert found.session is not None
    assert found.session.began_ms == NOW_MS, "it proves nothing of what was written after the first one had begun"
    assert set(held(a)) == {entry for entry, record in held(b).items() if not record.deleted}


own_keys = st.sampled_from([system_key(b"metadata/%02d" % n) for n in range(60)])
user_keys = st.sampled_from([data_key(b"%02d" % n) for n in range(60)])


@settings(deadline=None)
@given(*[st.sets(own_keys | user_keys, max_size=80) for _ in range(3)], st.sampled_from([3, 40, 100_000]))
def test_documents_of_kvs_are_moved_before_records_of_users(
    both: set[bytes], mine: set[bytes], theirs: set[bytes], most: int
) -> None:
    """On either side: a value must not be there before the permissions that keep it from others."""
    a, b = (node(name) for name in "ab")
    for at, entries in ((a, both | mine), (b, both | theirs)):
        at.do(NOW_MS - 9000, *merges([(entry, written_at(1), b"{}") for entry in sorted(entries)]))
    with patch.object(sync, "SESSION_KEYS_MAX", most):
        found = compare(a, b, NOW_MS)
        moved = [*found.moved]
        while found.behind:
            found = compare(a, b, NOW_MS, found.session)
            moved += found.moved
    assert sorted(moved, key=lambda entry: not entry.startswith(SYSTEM)) == moved
    assert held(a).keys() == held(b).keys() == both | mine | theirs


@pytest.mark.parametrize("most", [100, 1_000])
def test_whole_ranges_count_for_what_one_comparison_moves(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Of which only one side holds anything, and however many there are side by side."""
    monkeypatch.setattr(sync, "SESSION_KEYS_MAX", most)
    monkeypatch.setattr(sync, "FETCH_KEYS_MAX", 50)
    monkeypatch.setattr(ingest, "FETCH_KEYS_MAX", 50)
    a, b = (node(name) for name in "ab")
    for at in (a, b):
        at.do(NOW_MS, *merges([(data_key(b"k%05d" % n), written_at(1), b"1") for n in (0, 9_000)]))
    a.do(NOW_MS, *merges([(data_key(b"a%05d" % n), written_at(1), b"1") for n in range(2_000)]))
    b.do(NOW_MS, *merges([(data_key(b"z%05d" % n), written_at(1), b"1") for n in range(2_000)]))
    found = compare(a, b, NOW_MS)
    sessions = [found]
    while found.behind:
        assert len(found.moved) <= most + 100
        found = compare(a, b, NOW_MS, found.session)
        sessions.append(found)
    assert held(a) == held(b)
    assert len(held(a)) == 4_002
    assert len(sessions) <= 2 * 4_000 // most + 2
    assert sum(len(each.questions) for each in sessions) <= 4_000 // 50 + 8 * len(sessions)


def test_a_difference_among_values_costs_no_question_about_documents_of_kvs() -> None:
    a, b = (node(name) for name in "ab")
    for at in (a, b):
        at.do(NOW_MS - 9000, *merges([(data_key(b"k%05d" % n), written_at(1), b"1") for n in range(3_000)]))
        at.do(NOW_MS - 9000, *merges([(system_key(b"metadata/%d" % n), written_at(1), b"{}") for n in range(50)]))
    a.do(NOW_MS - 9000, *merges([(data_key(b"k02999"), written_at(2), b"2")]))
    found = compare(a, b, NOW_MS)
    assert held(a) == held(b)
    first, *others = [question for question in found.questions if isinstance(question, DiffRequest)]
    assert [(span.start, span.stop) for span in first.spans()] == [(b"", SYSTEM), (SYSTEM, b"")]
    assert others
    assert all(span.start < SYSTEM for question in others for span in question.spans())
