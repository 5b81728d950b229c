"""Permissions are asked of what is stored at that moment, and in a write of the very record that it replaces."""

import pytest

from kvs.auth.permissions import DEFAULT_PERMISSIONS, Metadata, encode_metadata
from kvs.auth.principal import ANONYMOUS, EVERYBODY, Principal
from kvs.cluster.events import Command, Delete, Outcome, Put, Restore, Written
from kvs.errors import Forbidden, NotFound, StoreCorrupt
from kvs.server.authorisation import (
    delete_guard,
    is_revision_readable,
    may_read,
    read_metadata,
    write_guard,
)
from kvs.storage.compression import RAW
from kvs.storage.keyspace import metadata_key
from kvs.storage.record import new_uuid
from tests.nodes import LoneNode
from tests.records import record

NOW = 1_700_000_000_000
ENTRY = b"dteam/a"
ALICE = Principal(user="alice", groups=frozenset(("team",)))
BOB = Principal(user="bob", groups=frozenset(("team",)))
EVE = Principal(user="eve")
ROOT = Principal(user="root", scopes=frozenset(("admin:kv",)))
PRIVATE = 0xF00


class House:
    """A node on which people write, each through his guard."""

    def __init__(self) -> None:
        self.lone = LoneNode()

    def put(self, who: Principal, entry: bytes = ENTRY, ttl_ms: int = 0) -> Put:
        return Put(
            entry=entry,
            uuid=new_uuid(),
            codec=RAW,
            payload=b"1",
            owner=who.user,
            ttl_ms=ttl_ms,
            guard=write_guard(who),
        )

    def delete(self, who: Principal) -> Delete:
        return Delete(entry=ENTRY, uuid=new_uuid(), owner=who.user, guard=delete_guard(who))

    def set(self, ttl_ms: int = 0, **fields: object) -> Put:
        document = encode_metadata(Metadata(**fields))  # type: ignore[arg-type]
        return Put(entry=metadata_key(ENTRY), uuid=new_uuid(), codec=RAW, payload=document, ttl_ms=ttl_ms)

    def do(self, *commands: Command, now_ms: int = NOW) -> list[str]:
        return [_word(outcome) for outcome in self.lone.do(now_ms, *commands)]

    def reads(self, who: Principal, now_ms: int = NOW) -> bool:
        return may_read(self.lone.store, who, ENTRY, self.lone.live(ENTRY, now_ms), now_ms, has_metadata=True)

    def owner(self) -> str | None:
        live = self.lone.live(ENTRY, NOW)
        return None if live is None else live.owner

    def corrupt(self, entry: bytes) -> None:
        raw = self.lone.store.get(entry)
        assert raw is not None
        self.lone.store.commit({entry: raw[:-1] + bytes((raw[-1] ^ 1,))})


def _word(outcome: Outcome) -> str:
    if isinstance(outcome, Written):
        return "created" if outcome.created else "written"
    assert isinstance(outcome, Forbidden | NotFound), outcome
    return "forbidden" if isinstance(outcome, Forbidden) else "absent"


@pytest.fixture
def house() -> House:
    return House()


# --- writes ---


def test_of_two_who_create_a_key_in_one_group_the_first_owns_it(house: House) -> None:
    assert house.do(house.put(ALICE), house.put(EVE), house.put(ALICE)) == ["created", "forbidden", "written"]
    assert house.owner() == "alice"


def test_who_deletes_in_the_same_group_makes_room(house: House) -> None:
    house.do(house.put(ALICE))
    assert house.do(house.delete(EVE), house.delete(ALICE), house.put(EVE)) == ["forbidden", "written", "created"]
    assert house.owner() == "eve"


def test_permissions_that_change_in_the_same_group_hold_for_what_follows(house: House) -> None:
    house.do(house.put(ALICE))
    opened = house.set(owner_uuid="alice", group_uuid="team", permissions=0xF7F)
    closed = house.set(owner_uuid="alice", group_uuid="team", permissions=PRIVATE)
    assert house.do(house.put(BOB), opened, house.put(BOB), closed, house.put(BOB), house.delete(BOB)) == [
        "forbidden",
        "created",
        "written",
        "written",
        "forbidden",
        "forbidden",
    ]
    assert house.owner() == "alice"


def test_create_and_write_are_two_rights(house: House) -> None:
    only_create, only_write = 0x0F8, 0x0F2
    house.do(house.set(owner_uuid="alice", permissions=only_create))
    assert house.do(house.put(EVE), house.put(EVE)) == ["created", "forbidden"]
    house.do(house.set(owner_uuid="alice", permissions=only_write))
    assert house.do(house.put(EVE)) == ["written"]
    house.do(house.delete(ROOT))
    assert house.do(house.put(EVE)) == ["forbidden"]


def test_deleting_is_a_right_of_its_own(house: House) -> None:
    only_delete, all_but_delete = 0xF04, 0xF0B
    house.do(house.put(ALICE), house.set(owner_uuid="alice", permissions=all_but_delete))
    assert house.do(house.delete(EVE), house.put(EVE)) == ["forbidden", "written"]
    house.do(house.set(owner_uuid="alice", permissions=only_delete))
    assert house.do(house.put(EVE), house.delete(EVE)) == ["forbidden", "written"]


def test_an_expired_value_is_none(house: House) -> None:
    house.do(house.put(ALICE, ttl_ms=1000))
    assert house.do(house.put(EVE), now_ms=NOW + 999) == ["forbidden"]
    assert house.do(house.put(EVE), now_ms=NOW + 1000) == ["created"]


def test_a_refused_delete_tells_nothing_of_what_is_there(house: House) -> None:
    house.do(house.set(owner_uuid="alice", permissions=PRIVATE))
    absent = house.lone.do(NOW, house.delete(EVE), house.put(EVE))
    house.do(house.put(ALICE))
    present = house.lone.do(NOW, house.delete(EVE), house.put(EVE))
    assert [vars(outcome) for outcome in absent] == [vars(outcome) for outcome in present]
    assert house.do(house.delete(ALICE), house.delete(ALICE)) == ["written", "absent"]


def test_some_have_no_guard(house: House) -> None:
    house.do(house.put(ALICE), house.set(owner_uuid="alice", permissions=0))
    for who in (ROOT, EVERYBODY):
        assert write_guard(who) is None
        assert delete_guard(who) is None
    assert house.do(house.put(ALICE), house.put(ROOT), house.delete(ROOT)) == ["forbidden", "written", "written"]


def test_anonymous_writers_share_what_they_leave_and_nothing_else(house: House) -> None:
    assert house.do(house.put(ANONYMOUS), house.put(ANONYMOUS), house.put(EVE)) == ["created", "written", "forbidden"]
    house.do(house.delete(ROOT), house.put(ALICE))
    assert house.do(house.put(ANONYMOUS), house.delete(ANONYMOUS)) == ["forbidden", "forbidden"]
    assert house.reads(ANONYMOUS)


def test_a_key_without_a_name_of_its_owner_in_the_metadata_belongs_to_its_writer(house: House) -> None:
    house.do(house.set(permissions=PRIVATE))
    assert house.do(house.put(ANONYMOUS), house.put(ALICE), house.put(EVE)) == ["forbidden", "created", "forbidden"]
    assert [house.reads(who) for who in (ALICE, BOB, EVE, ANONYMOUS)] == [True, False, False, False]


# --- reads ---


def test_what_is_set_decides_and_else_the_owner_of_the_record(house: House) -> None:
    house.do(house.put(ALICE))
    assert all(house.reads(who) for who in (ALICE, BOB, EVE, ANONYMOUS, ROOT))
    house.do(house.set(owner_uuid="eve", group_uuid="team", permissions=0x010))
    assert [house.reads(who) for who in (ALICE, BOB, EVE, ANONYMOUS, ROOT)] == [True, True, False, False, True]


def test_nobody_learns_whether_a_key_is_there_that_he_may_not_read(house: House) -> None:
    house.do(house.set(owner_uuid="alice", permissions=PRIVATE))
    assert [house.reads(who) for who in (ALICE, EVE, ANONYMOUS)] == [True, False, False]
    house.do(house.put(ALICE))
    assert [house.reads(who) for who in (ALICE, EVE, ANONYMOUS)] == [True, False, False]


def test_metadata_hold_for_one_key_only(house: House) -> None:
    house.do(house.put(ALICE), house.set(owner_uuid="alice", permissions=PRIVATE))
    for other in (b"dteam", b"dteam/", b"dteam/aa", b"dteam/a/b", b"dTeam/a", b"dmetadata/team/a"):
        assert read_metadata(house.lone.store, other, NOW) is None
        assert may_read(house.lone.store, EVE, other, record(owner="alice"), NOW, has_metadata=True)


def test_metadata_read_back_as_they_were_set(house: House) -> None:
    house.do(house.set(owner_uuid="alice", group_uuid="team", permissions=0, created_at=5, updated_at=6))
    set_for_it = Metadata(owner_uuid="alice", group_uuid="team", permissions=0, created_at=5, updated_at=6)
    assert read_metadata(house.lone.store, ENTRY, NOW) == set_for_it
    house.do(house.set())
    assert read_metadata(house.lone.store, ENTRY, NOW) == Metadata(permissions=DEFAULT_PERMISSIONS)


def test_metadata_that_are_gone_protect_nothing(house: House) -> None:
    house.do(house.put(ALICE), house.set(owner_uuid="alice", permissions=PRIVATE, ttl_ms=1000))
    assert not house.reads(EVE)
    assert house.reads(EVE, NOW + 1000)
    house.do(house.set(owner_uuid="alice", permissions=PRIVATE))
    assert not house.reads(EVE)
    house.do(Delete(entry=metadata_key(ENTRY), uuid=new_uuid()))
    assert read_metadata(house.lone.store, ENTRY, NOW) is None
    assert house.reads(EVE)


def test_metadata_that_cannot_be_read_let_nobody_in(house: House) -> None:
    house.do(house.put(ALICE), house.set(owner_uuid="alice"))
    house.corrupt(metadata_key(ENTRY))
    for who in (ALICE, EVE, ANONYMOUS):
        with pytest.raises(StoreCorrupt):
            house.reads(who)
    assert house.reads(ROOT)


# --- history ---


def test_a_revision_is_its_own_writers(house: House) -> None:
    """Of a key that was deleted and then created by another: each may see what the metadata let its owner see."""
    by_alice, by_eve = record(owner="alice"), record(owner="eve")
    owner_only = encode_metadata(Metadata(permissions=0x100))
    assert is_revision_readable(ALICE, by_alice, owner_only)
    assert not is_revision_readable(ALICE, by_eve, owner_only)
    assert not is_revision_readable(ANONYMOUS, by_alice, owner_only)
    assert is_revision_readable(EVERYBODY, by_alice, encode_metadata(Metadata(permissions=0)))
    assert is_revision_readable(EVE, by_alice, None)


def test_a_revision_that_may_not_be_read_cannot_be_brought_back(house: House) -> None:
    house.do(house.set(permissions=PRIVATE))
    house.do(house.put(ALICE), house.delete(ALICE), house.put(EVE))

    def restore(who: Principal) -> Restore:
        return Restore(
            entry=ENTRY,
            uuid=new_uuid(),
            revision=3,
            owner=who.user,
            guard=write_guard(who),
            readable=lambda revision, metadata: is_revision_readable(who, revision, metadata),
        )

    assert house.do(restore(ALICE), restore(EVE)) == ["forbidden", "absent"]
    assert house.do(restore(ROOT)) == ["written"]
    assert house.owner() == "eve"
