"""What a write is in the audit log: in the batch of the data, once, with who did it; and nothing else is."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.actions import ACTIONS, DATA_DELETE, DATA_WRITE, DEFAULT_ACTIONS
from kvs.cluster.events import Act, Command, Condition, Delete, Merge, Note, Put, Remember, Restore, Sweep, Transact
from kvs.cluster.trail import Trail
from kvs.errors import Conflict, KvsError, StoreCorrupt
from kvs.storage.audit import first_rows
from kvs.storage.codec import encode_record
from kvs.storage.compression import RAW
from kvs.storage.keyspace import AUDIT, AUDIT_ENTRIES, AUDIT_TIP, data_key, system_key
from kvs.storage.memory import MemoryStore
from kvs.storage.record import new_uuid, value_digest
from tests.auditing import check_rows
from tests.nodes import LOG, LoneNode
from tests.records import record

NOW = 1_700_000_000_000
ADA = "d34cdb10-90f0-4c06-ab8b-72a38fff0fff"
BOB = "61223a34-eeed-428a-b83b-1c007f416219"
ACT = Act("user_create", BOB, "/user/x")


def put(key: str, owner: str = ADA, **more: object) -> Put:
    return Put(entry=data_key(key.encode()), uuid=new_uuid(), codec=RAW, payload=b"1", owner=owner, **more)  # type: ignore[arg-type]


def delete(key: str, owner: str = ADA) -> Delete:
    return Delete(entry=data_key(key.encode()), uuid=new_uuid(), owner=owner)


def restore(key: str, revision: int, owner: str = ADA) -> Restore:
    return Restore(entry=data_key(key.encode()), uuid=new_uuid(), revision=revision, owner=owner)


def transact(*acts: Act, refused: bool = False) -> Transact:
    def decide(look: object, now_ms: int) -> dict[bytes, bytes | None]:
        if refused:
            raise Conflict("taken", code="nickname_taken")
        return {system_key(b"user/x"): b"{}"}

    return Transact(uuid=new_uuid(), decide=decide, acts=acts)


@pytest.fixture
def node() -> LoneNode:
    return LoneNode(actions=ACTIONS)


def shown(node: LoneNode) -> list[tuple[str, str, str]]:
    return [(entry.action, entry.user_uuid, entry.resource) for entry in node.log]


def test_writes_of_values_say_who_and_what(node: LoneNode) -> None:
    node.do(NOW, put("site/é"), put("site/é", BOB))
    node.do(NOW + 1, delete("site/é", BOB), put("open", owner=""))
    assert shown(node) == [
        ("data_write", ADA, "site/é"),
        ("data_write", BOB, "site/é"),
        ("data_delete", BOB, "site/é"),
        ("data_write", "", "open"),
    ]
    assert [entry.timestamp for entry in node.log] == ["2023-11-14T22:13:20.000Z"] * 2 + [
        "2023-11-14T22:13:20.001Z"
    ] * 2


def test_what_is_restored_is_written_or_deleted(node: LoneNode) -> None:
    node.do(NOW, put("a"))
    node.do(NOW, delete("a"))
    node.do(NOW, restore("a", 2, BOB))
    node.do(NOW, restore("a", 2, BOB))
    assert shown(node)[2:] == [("data_write", BOB, "a"), ("data_delete", BOB, "a")]


def test_changes_of_accounts_say_what_they_are(node: LoneNode) -> None:
    own = Put(
        entry=system_key(b"token/x"), uuid=new_uuid(), codec=RAW, payload=b"{}", acts=(ACT, Act("backup", "", "b"))
    )
    node.do(NOW, transact(ACT), own, Note(acts=(Act("auth_failure", "", "line\nbreak"),)))
    assert shown(node) == [ACT, ACT, ("backup", "", "b"), ("auth_failure", "", "line?break")]


def test_what_is_refused_or_not_by_a_client_of_this_node_is_not_in_it(node: LoneNode) -> None:
    merged = record(timestamp=NOW, origin="far")
    node.do(
        NOW,
        put("a", condition=Condition(match=frozenset(("nothing",)))),
        delete("absent"),
        transact(ACT, refused=True),
        Merge(
            entry=data_key(b"far"),
            record=merged,
            raw=encode_record(merged),
            digest=value_digest(merged.data),
            source="n2",
        ),
        Remember(rows={b"nx": b""}),
        Sweep(rows=()),
    )
    assert shown(node) == []


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ((), []),
        (DEFAULT_ACTIONS, ["data_write", "user_create"]),
        ((DATA_DELETE,), ["data_delete"]),
        ((DATA_WRITE, DATA_DELETE), ["data_write", "data_delete"]),
    ],
)
def test_only_actions_that_are_configured_are_in_it(actions: Sequence[str], expected: list[str]) -> None:
    node = LoneNode(actions=actions)
    node.do(NOW, put("a"), delete("a"), transact(ACT), transact(Act("user_update", "", "x")))
    assert [entry.action for entry in node.log] == expected


def test_a_node_without_one_writes_none() -> None:
    node = LoneNode()
    node.do(NOW, put("a"), transact(ACT), Note(acts=(ACT,)))
    assert shown(node) == []


def test_an_entry_is_in_the_batch_of_its_data(node: LoneNode) -> None:
    group = node.plan(NOW, [put("a")])
    assert {row[:1] for row in group.batch} >= {b"d", b"a"}
    assert node.log == []


def test_a_group_of_writes_moves_the_tip_once_and_one_without_entries_does_not(node: LoneNode) -> None:
    group = node.plan(NOW, [put("a"), put("b"), put("c")])
    assert [row for row in group.batch if row[:1] == AUDIT and row[:2] != AUDIT_ENTRIES] == [AUDIT_TIP]
    assert AUDIT_TIP not in node.plan(NOW, [Note(acts=())]).batch


class DamagedTip(MemoryStore):
    def get(self, key: bytes) -> bytes | None:
        if key == AUDIT_TIP:
            raise StoreCorrupt("checksum mismatch")
        return super().get(key)


def test_a_tip_that_cannot_be_read_stops_nothing_and_shows() -> None:
    store = DamagedTip()
    store.commit(dict(first_rows(LOG)))
    trail = Trail(LOG, ACTIONS, store)
    assert trail.torn == (0, 0)
    batch: dict[bytes, bytes | None] = {}
    trail.extend([(b"data_write", b"", b"a")], NOW, batch)
    assert [finding.first for finding in check_rows({row: raw for row, raw in batch.items() if raw}).findings] == [1]


_STEPS = st.lists(st.tuples(st.sampled_from(["do", "lost", "landed", "restart"]), st.integers(1, 4)), max_size=20)


@given(_STEPS)
def test_the_chain_holds_over_restarts_and_writes_that_failed(steps: list[tuple[str, int]]) -> None:
    node = LoneNode(actions=ACTIONS)
    expected = 0
    for number, (what, count) in enumerate(steps):
        commands: list[Command] = [put(f"{number}/{each}") for each in range(count)]
        if what == "do":
            outcomes = node.do(NOW + number, *commands)
            assert not any(isinstance(outcome, KvsError) for outcome in outcomes)
        elif what == "restart":
            node.restart()
            continue
        else:
            node.fail(NOW + number, *commands, landed=what == "landed")
        expected += count if what != "lost" else 0
    assert len(node.log) == expected
    assert check_rows(node.rows(AUDIT)).findings == []
    assert node.node.trail is not None
    assert node.node.trail.tip.number == expected
