import pytest

from kvs.cluster.events import ANY, Condition, Delete, Outcome, Put, Restore, Sweep, Swept, Trim, Update, Written
from kvs.errors import CorruptRecord, KvsError, NotFound, PreconditionFailed
from kvs.limits import EXPIRY_GRACE_MS
from kvs.storage.compression import RAW
from kvs.storage.keyspace import EXPIRIES, REVISIONS, TOMBSTONES, expiry_row
from kvs.storage.record import new_uuid, uuid_text
from tests.nodes import LoneNode

KEY = b"dsite/a"
NOW = 1_700_000_000_000


def put(data: bytes, *, key: bytes = KEY, ttl_ms: int = 0, condition: Condition | None = None) -> Put:
    return Put(entry=key, uuid=new_uuid(), codec=RAW, payload=data, ttl_ms=ttl_ms, condition=condition or Condition())


def delete(*, key: bytes = KEY) -> Delete:
    return Delete(entry=key, uuid=new_uuid())


def restore(revision: int) -> Restore:
    return Restore(entry=KEY, uuid=new_uuid(), revision=revision)


def written(outcome: Outcome) -> Written:
    assert isinstance(outcome, Written)
    return outcome


@pytest.fixture
def node() -> LoneNode:
    return LoneNode()


def test_a_put_creates_then_replaces(node: LoneNode) -> None:
    first, second = node.do(NOW, put(b"1"), put(b"2"))
    assert written(first).created
    assert not written(second).created
    assert (written(second).record.timestamp, written(second).record.counter) == (NOW, 1)
    live = node.live(KEY, NOW)
    assert live is not None
    assert live.data == b"2"
    node.check_rows()


def test_a_delete_leaves_a_tombstone_and_answers_once(node: LoneNode) -> None:
    node.do(NOW, put(b"1"))
    done, again = node.do(NOW, delete(), delete())
    assert written(done).record.deleted
    assert isinstance(again, NotFound)
    assert node.live(KEY, NOW) is None
    assert len(node.rows(TOMBSTONES)) == 1
    assert [(number, record.deleted) for number, record in node.history(KEY, NOW)] == [(1, True), (2, False)]
    node.check_rows()


def test_a_write_after_a_delete_creates(node: LoneNode) -> None:
    node.do(NOW, put(b"1"), delete())
    assert written(node.do(NOW, put(b"2"))[0]).created
    assert node.rows(TOMBSTONES) == {}
    node.check_rows()


def test_of_two_writes_on_one_version_only_the_first_wins(node: LoneNode) -> None:
    (first,) = node.do(NOW, put(b"1"))
    tag = frozenset((uuid_text(written(first).record.uuid),))
    winner, loser = node.do(NOW, put(b"2", condition=Condition(match=tag)), put(b"3", condition=Condition(match=tag)))
    assert isinstance(winner, Written)
    assert isinstance(loser, PreconditionFailed)


@pytest.mark.parametrize(
    ("condition", "absent_ok", "present_ok"),
    [
        (Condition(match=ANY), False, True),
        (Condition(none_match=ANY), True, False),
        (Condition(match=frozenset(("other",))), False, False),
        (Condition(none_match=frozenset(("other",))), True, True),
        (Condition(match=frozenset()), False, False),
    ],
)
def test_preconditions(node: LoneNode, condition: Condition, absent_ok: bool, present_ok: bool) -> None:
    (absent,) = node.do(NOW, put(b"1", key=b"dabsent", condition=condition))
    assert isinstance(absent, Written) == absent_ok
    node.do(NOW, put(b"1"))
    (present,) = node.do(NOW, put(b"2", condition=condition))
    assert isinstance(present, Written) == present_ok
    assert isinstance(present, Written | PreconditionFailed)


def test_an_expired_record_counts_as_absent(node: LoneNode) -> None:
    node.do(NOW, put(b"1", ttl_ms=10))
    assert node.live(KEY, NOW + 9) is not None
    assert node.live(KEY, NOW + 10) is None
    (done,) = node.do(NOW + 10, delete())
    assert isinstance(done, NotFound)
    assert written(node.do(NOW + 10, put(b"2", condition=Condition(none_match=ANY)))[0]).created
    node.check_rows()


def test_history_keeps_as_many_versions_as_it_may(node: LoneNode) -> None:
    for number in range(5):
        node.do(NOW + number, put(b"%d" % number))
    assert [(number, record.data) for number, record in node.history(KEY, NOW)] == [(1, b"4"), (2, b"3"), (3, b"2")]
    node.check_rows()


def test_history_does_not_reveal_what_has_expired(node: LoneNode) -> None:
    node.do(NOW, put(b"secret", ttl_ms=10), put(b"2"))
    assert [number for number, _ in node.history(KEY, NOW)] == [1, 2]
    assert [number for number, _ in node.history(KEY, NOW + 10)] == [1]
    (refused,) = node.do(NOW + 10, restore(2))
    assert isinstance(refused, NotFound)


def test_restore_writes_an_old_revision_as_a_new_version(node: LoneNode) -> None:
    (first,) = node.do(NOW, put(b"1"))
    node.do(NOW + 1, put(b"2"))
    (done,) = node.do(NOW + 2, restore(2))
    assert written(done).record.data == b"1"
    assert written(done).record.uuid != written(first).record.uuid
    assert written(done).record.timestamp == NOW + 2
    assert [record.data for _, record in node.history(KEY, NOW)] == [b"1", b"2", b"1"]
    assert isinstance(node.do(NOW, restore(4))[0], NotFound)
    node.check_rows()


def test_restore_undoes_a_delete(node: LoneNode) -> None:
    node.do(NOW, put(b"1"), delete())
    assert written(node.do(NOW, restore(2))[0]).created
    assert written(node.do(NOW, restore(2))[0]).record.deleted


def test_versions_rise_over_restarts_and_clocks_set_back(node: LoneNode) -> None:
    (before,) = node.do(NOW, put(b"1"))
    node.restart()
    (same_key,) = node.do(NOW - 3_600_000, put(b"2"))
    (other_key,) = node.do(5, put(b"3", key=b"dother"))
    versions = [(w.record.timestamp, w.record.counter) for w in map(written, (before, same_key, other_key))]
    assert versions == sorted(set(versions))


def test_a_refused_command_writes_nothing(node: LoneNode) -> None:
    group = node.node.plan_group([], node.store, NOW)
    assert (group.batch, group.effects) == ({}, [])
    node.do(NOW, delete(), restore(1), put(b"1", condition=Condition(match=ANY)))
    assert list(node.store.scan(b"", b"\xff")) == []


def test_update_derives_from_what_is_there(node: LoneNode) -> None:
    def change(old: bytes | None, now_ms: int) -> bytes:
        return (old or b"") + b"%d;" % now_ms

    for now_ms in (1, 2):
        node.do(now_ms, Update(entry=b"smeta", uuid=new_uuid(), change=change))
    live = node.live(b"smeta", 3)
    assert live is not None
    assert live.data == b"1;2;"
    assert node.rows(REVISIONS) == {}
    node.check_rows()


# --- background work ---


def test_a_sweep_removes_what_may_go_with_all_its_rows(node: LoneNode) -> None:
    node.do(NOW, put(b"1", ttl_ms=10), put(b"2", ttl_ms=10), put(b"3", key=b"dstays", ttl_ms=10_000_000))
    rows = tuple(node.rows(EXPIRIES))
    assert node.do(NOW + 10 + EXPIRY_GRACE_MS - 1, Sweep(rows=rows)) == [Swept(0)]
    assert node.do(NOW + 10 + EXPIRY_GRACE_MS, Sweep(rows=rows)) == [Swept(1)]
    assert node.store.get(KEY) is None
    assert node.store.get(b"dstays") is not None
    node.check_rows()


def test_a_sweep_removes_tombstones_after_their_retention(node: LoneNode) -> None:
    node.do(NOW, put(b"1"), delete())
    rows = tuple(node.rows(TOMBSTONES))
    assert node.do(NOW + 1000, Sweep(rows=rows)) == [Swept(0)]
    assert node.do(NOW + 1001, Sweep(rows=rows)) == [Swept(1)]
    assert [key for key, _ in node.store.scan(b"a", b"m")] == []


def test_a_sweep_leaves_what_was_written_anew(node: LoneNode) -> None:
    node.do(NOW, put(b"1", ttl_ms=10))
    rows = tuple(node.rows(EXPIRIES))
    node.do(NOW + 20, put(b"2"))
    stale = expiry_row(NOW + 10, KEY)
    node.store.commit({stale: b""})
    assert node.do(NOW + 10 + EXPIRY_GRACE_MS, Sweep(rows=rows)) == [Swept(0)]
    assert node.store.get(stale) is None
    node.check_rows()


def test_trim_follows_a_lowered_setting(node: LoneNode) -> None:
    for number in range(4):
        node.do(NOW, put(b"%d" % number))
    node.restart(versions_max=2)
    assert node.do(NOW, Trim(entry=KEY)) == [Swept(1)]
    assert [record.data for _, record in node.history(KEY, NOW)] == [b"3", b"2"]
    node.check_rows()
    node.restart(versions_max=1)
    assert node.do(NOW, Trim(entry=KEY)) == [Swept(1)]
    assert node.rows(REVISIONS) == {}
    node.check_rows()


# --- records that rotted ---


def corrupt(node: LoneNode) -> None:
    raw = node.store.get(KEY)
    assert raw is not None
    node.store.commit({KEY: raw[:-1] + bytes((raw[-1] ^ 1,))})


def test_a_corrupt_record_can_be_replaced_or_deleted(node: LoneNode) -> None:
    for command in (put(b"new"), delete()):
        node.do(NOW, put(b"1"), put(b"2"))
        corrupt(node)
        (done,) = node.do(NOW, command)
        assert isinstance(done, Written)
        assert [number for number, _ in node.history(KEY, NOW)] == [1]


def test_a_corrupt_record_satisfies_no_precondition_and_is_not_restored(node: LoneNode) -> None:
    node.do(NOW, put(b"1"), put(b"2"))
    corrupt(node)
    (refused,) = node.do(NOW, put(b"3", condition=Condition(match=ANY)))
    assert isinstance(refused, PreconditionFailed)
    (refused,) = node.do(NOW, restore(1))
    assert isinstance(refused, CorruptRecord)
    (refused,) = node.do(NOW, Update(entry=KEY, uuid=new_uuid(), change=lambda old, now_ms: b""))
    assert isinstance(refused, KvsError)
