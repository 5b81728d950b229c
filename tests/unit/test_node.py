import gc

import msgspec
import pytest

from kvs.cluster.events import (
    ANY,
    Changed,
    Committed,
    Condition,
    Delete,
    Look,
    Outcome,
    Put,
    Reply,
    Report,
    Restore,
    Submission,
    Sweep,
    Swept,
    Transact,
    Transacted,
    Trim,
    Written,
)
from kvs.cluster.node import Node
from kvs.errors import Conflict, CorruptRecord, Forbidden, NotFound, PreconditionFailed, StoreCorrupt
from kvs.storage.batch import Overlay
from kvs.storage.compression import RAW
from kvs.storage.keyspace import EXPIRIES, REVISIONS, TOMBSTONES, expiry_row, metadata_key
from kvs.storage.record import Record, new_uuid, uuid_text
from kvs.storage.state import read_progress
from tests.model import leaves_ms
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


def test_what_is_refused_keeps_nothing_of_its_group(node: LoneNode) -> None:
    """An error leads by its traceback to where it was caught, and from there to everything that was planned with it."""
    before = groups_in_memory()
    for _ in range(20):
        node.plan(NOW, [delete(), put(b"1", key=b"dother")])
    assert groups_in_memory() == before


def groups_in_memory() -> int:
    """Also such as a search for cycles would free."""
    return sum(type(each) is Overlay for each in gc.get_objects())


def test_a_transaction_sees_what_is_there_and_writes_all_or_nothing(node: LoneNode) -> None:
    def count(look: Look, now_ms: int) -> dict[bytes, bytes | None]:
        old = look(b"sa")
        if old is not None and len(old.data) == 2:
            raise Conflict("enough", code="enough")
        return {b"sa": (old.data if old else b"") + b"1", b"sb": b"%d" % now_ms}

    def remove(look: Look, now_ms: int) -> dict[bytes, bytes | None]:
        return {b"sa": None, b"sabsent": None}

    first, second, refused = node.do(5, *(Transact(uuid=new_uuid(), decide=count) for _ in range(3)))
    assert [first, second] == [Transacted({b"sa": b"1", b"sb": b"5"}), Transacted({b"sa": b"11", b"sb": b"5"})]
    assert isinstance(refused, Conflict)
    one, other = node.live(b"sa", 6), node.live(b"sb", 6)
    assert one is not None
    assert other is not None
    assert (one.data, one.uuid != other.uuid) == (b"11", True)
    node.check_rows()
    node.do(6, Transact(uuid=new_uuid(), decide=remove))
    assert node.live(b"sa", 7) is None
    assert node.store.get(b"sabsent") is None
    assert node.rows(REVISIONS) == {}
    node.check_rows()


def test_a_change_of_system_records_is_told_before_anybody_is_answered(node: LoneNode) -> None:
    change = Transact(uuid=new_uuid(), decide=lambda look, now_ms: {b"sa": b"1"})
    submissions = [Submission(1, (put(b"1"),), 1), Submission(2, (change,), 0)]
    effects = node.node.plan_group(submissions, node.store, NOW).effects
    assert effects[0] == Changed((b"sa",))
    assert [type(effect) for effect in effects[1:]] == [Reply, Reply, Committed]
    only_data = node.node.plan_group(submissions[:1], node.store, NOW).effects
    assert [type(effect) for effect in only_data] == [Reply, Committed]


# --- who may ---


def refuse_all(live: Record | None, metadata: bytes | None) -> None:
    raise Forbidden


def test_a_guard_is_asked_first_and_sees_what_is_replaced(node: LoneNode) -> None:
    seen: list[tuple[bytes | None, bytes | None]] = []

    def watch(live: Record | None, metadata: bytes | None) -> None:
        seen.append((None if live is None else live.data, metadata))

    node.do(NOW, put(b"1"))
    node.do(NOW, Transact(uuid=new_uuid(), decide=lambda look, now_ms: {metadata_key(KEY): b"{}"}))
    for command in (put(b"2"), delete(), restore(2)):
        node.do(NOW, msgspec.structs.replace(command, guard=watch))
    assert seen == [(b"1", b"{}"), (b"2", b"{}"), (None, b"{}")]
    # Neither a failed condition nor an absent value tells anything to who may not write.
    for command in (put(b"3", condition=Condition(match=frozenset())), restore(9)):
        (outcome,) = node.do(NOW, msgspec.structs.replace(command, guard=refuse_all))
        assert isinstance(outcome, Forbidden)
    absent = Delete(entry=b"dabsent", uuid=new_uuid(), guard=refuse_all)
    assert isinstance(node.do(NOW, absent)[0], Forbidden)


def test_writing_over_a_value_leaves_its_owner(node: LoneNode) -> None:
    def owner() -> str:
        return node.history(KEY, NOW)[0][1].owner

    for user in ("alice", "bob"):
        node.do(NOW, msgspec.structs.replace(put(b"1"), owner=user))
    assert owner() == "alice"
    node.do(NOW, msgspec.structs.replace(delete(), owner="bob"))
    assert owner() == "alice"
    node.do(NOW, msgspec.structs.replace(restore(2), owner="bob"))
    assert owner() == "bob"


def test_a_revision_that_may_not_be_read_is_not_restored(node: LoneNode) -> None:
    node.do(NOW, msgspec.structs.replace(put(b"1"), owner="alice"), put(b"2"))
    hidden = msgspec.structs.replace(restore(2), readable=lambda record, metadata: record.owner != "alice")
    assert isinstance(node.do(NOW, hidden)[0], NotFound)


def test_a_corrupt_record_or_metadata_refuse_whoever_is_asked(node: LoneNode) -> None:
    node.do(NOW, put(b"1"))
    corrupt(node)
    guarded = msgspec.structs.replace(put(b"2"), guard=lambda live, metadata: None)
    assert isinstance(node.do(NOW, guarded)[0], CorruptRecord)
    node.do(NOW, put(b"3"))
    node.store.commit({metadata_key(KEY): b"rotten"})
    assert isinstance(node.do(NOW, guarded)[0], CorruptRecord)


# --- background work ---


def test_a_sweep_removes_what_may_go_with_all_its_rows(node: LoneNode) -> None:
    node.do(NOW, put(b"1", ttl_ms=10), put(b"2", ttl_ms=10), put(b"3", key=b"dstays", ttl_ms=10_000_000))
    rows = tuple(node.rows(EXPIRIES))
    assert node.do(leaves_ms(NOW + 10) - 1, Sweep(rows=rows)) == [Swept(0)]
    assert node.do(leaves_ms(NOW + 10), Sweep(rows=rows)) == [Swept(1)]
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
    assert node.do(leaves_ms(NOW + 10), Sweep(rows=rows)) == [Swept(0)]
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


def test_a_transaction_does_not_build_on_a_corrupt_record(node: LoneNode) -> None:
    node.do(NOW, put(b"1"))
    corrupt(node)
    change = Transact(uuid=new_uuid(), decide=lambda look, now_ms: {b"sa": b"1"} if look(KEY) else {})
    assert isinstance(node.do(NOW, change)[0], CorruptRecord)
    assert node.live(b"sa", NOW) is None


def test_a_transaction_may_remove_or_replace_a_corrupt_record(node: LoneNode) -> None:
    for value, left in ((None, None), (b"new", b"new")):
        node.do(NOW, put(b"1"))
        corrupt(node)
        group = node.node.plan_group(
            [Submission(1, (Transact(uuid=new_uuid(), decide=lambda *_, v=value: {KEY: v}),), 0)], node.store, NOW
        )
        node.store.commit(group.batch)
        live = node.live(KEY, NOW)
        assert (None if live is None else live.data) == left
        reports = [effect for effect in group.effects if isinstance(effect, Report)]
        assert reports == [Report("Corrupt record replaced", {"entry": KEY})]


def test_a_transaction_tells_of_the_corrupt_records_that_it_met(node: LoneNode) -> None:
    def go_on_without(look: Look, now_ms: int) -> dict[bytes, bytes | None]:
        with pytest.raises(StoreCorrupt, match="site/a"):
            look(KEY)
        return {b"sa": b"1"}

    def stop_at(look: Look, now_ms: int) -> dict[bytes, bytes | None]:
        look(KEY)
        return {b"sb": b"1"}

    node.do(NOW, put(b"1"))
    corrupt(node)
    for decide in (go_on_without, stop_at):
        group = node.node.plan_group([Submission(1, (Transact(uuid=new_uuid(), decide=decide),), 0)], node.store, NOW)
        node.store.commit(group.batch)
        (report,) = (effect for effect in group.effects if isinstance(effect, Report))
        assert report.event == "Corrupt record found"
        assert "site/a" in str(report.fields)
    assert [node.live(entry, NOW) is not None for entry in (b"sa", b"sb")] == [True, False]


def test_metadata_are_looked_for_from_the_first_on() -> None:
    """Within the very group that brings them, too."""
    lone = LoneNode()
    lone.node = Node(lone.settings, read_progress(lone.store), has_metadata=False)
    seen: list[bytes | None] = []
    guarded = Put(entry=KEY, uuid=new_uuid(), codec=RAW, payload=b"1", guard=lambda _, document: seen.append(document))
    lone.do(NOW, guarded)
    metadata = Transact(uuid=new_uuid(), decide=lambda *_: {metadata_key(KEY): b"{}"})
    lone.do(NOW, metadata, guarded)
    assert seen == [None, b"{}"]
    assert lone.node.has_metadata
