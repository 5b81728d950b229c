"""What the gate remembers of a token, and that it forgets it in the moment in which it ceases to be true."""

from collections.abc import Callable

import pytest

from kvs.auth.accounts import Deleted, delete_user, update_user
from kvs.auth.tokens import token_hash
from kvs.server import access, authentication
from kvs.server.system import change_documents
from kvs.server.token_maker import MadeToken
from tests.gates import GROUPS, House


@pytest.fixture
def house() -> House:
    made = House()
    made.user(groups=GROUPS)
    return made


def remembered_tokens(house: House) -> list[str]:
    return [known.token_id for known in house.gate._known.values()]


def test_a_token_is_verified_once(house: House) -> None:
    token = house.token().token
    first = house.bearer(token)
    reads = house.store.reads
    assert all(house.bearer(token) is first for _ in range(5))
    assert house.store.reads == reads


def test_the_token_itself_is_not_remembered(house: House) -> None:
    token = house.token().token
    house.bearer(token)
    assert len(house.gate._known) == 1
    assert token.rpartition(".")[2] not in repr(vars(house.gate))


def test_what_was_refused_is_not_remembered(house: House) -> None:
    for number in range(50):
        assert house.refuses(f"Bearer {number}")
    assert house.gate._known == {}


def test_memory_is_bounded_and_the_forgotten_are_verified_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "TOKEN_CACHE_MAX_ENTRIES", 3)
    tokens = [house.token().token for _ in range(7)]
    for token in [*tokens, *tokens]:
        assert house.bearer(token).user == "u"
        assert len(house.gate._known) <= 3


def test_the_end_is_exact_for_a_remembered_token_too(house: House) -> None:
    made = house.token()
    house.bearer(made.token)
    house.now_ms = made.stored.expires_at - 1
    assert house.bearer(made.token).user == "u"
    house.now_ms = made.stored.expires_at
    assert house.refuses(f"Bearer {made.token}")
    assert house.gate._known == {}


def _delete_user(house: House, _: MadeToken) -> None:
    house.do(change_documents(lambda look, now_ms: delete_user(look, "u", now_ms)))


def _delete_record(house: House, made: MadeToken) -> None:
    house.do(change_documents(lambda *_: {f"token/{token_hash(made.token)}": None}))


@pytest.mark.parametrize("end", [House.revoke, _delete_user, _delete_record])
@pytest.mark.parametrize("remembered", [False, True])
def test_a_token_ends_at_once(house: House, end: Callable[[House, MadeToken], None], remembered: bool) -> None:
    made, other = house.token(), house.token()
    if remembered:
        house.bearer(made.token)
    end(house, made)
    assert house.refuses(f"Bearer {made.token}")
    assert house.refuses(f"Bearer {made.token}", needed=access.token("admin:kv"))
    if end is not _delete_user:
        assert house.bearer(other.token).user == "u"


def test_a_revocation_forgets_that_token_only(house: House) -> None:
    gone, kept = house.token(), house.token()
    house.bearer(gone.token)
    house.bearer(kept.token)
    house.revoke(gone)
    assert remembered_tokens(house) == [kept.stored.token_id]


def test_a_user_stripped_of_a_group_loses_it_at_once_and_others_are_remembered(house: House) -> None:
    house.user("v")
    own, again, other = house.token(), house.token(), house.token("v")
    for made in (own, again, other):
        house.bearer(made.token)
    house.join("u", GROUPS[:1])
    assert remembered_tokens(house) == [other.stored.token_id]
    assert [house.bearer(made.token).groups for made in (own, again)] == [{"g1"}, {"g1"}]
    house.join("u", ())
    assert house.bearer(own.token).groups == set()


def test_a_renamed_user_keeps_his_tokens(house: House) -> None:
    token = house.token().token
    house.bearer(token)
    house.do(change_documents(lambda look, now_ms: update_user(look, "u", now_ms, nickname_hash="new", groups=())))
    assert house.bearer(token).user == "u"


def test_a_deleted_user_stays_deleted_whatever_is_written_later(house: House) -> None:
    """As when the other half of a cluster, which did not know, changed a group of his."""
    token = house.token().token
    house.bearer(token)
    _delete_user(house, house.token())
    house.join("u", GROUPS)
    assert house.refuses(f"Bearer {token}")


def test_a_deletion_that_is_older_than_the_user_ends_his_tokens_at_once(house: House) -> None:
    token = house.token().token
    house.bearer(token)
    house.write("deleted/u", Deleted(deleted_at=1))
    assert remembered_tokens(house) == []
    assert house.refuses(f"Bearer {token}")


def test_a_group_counts_only_while_both_sides_say_so(house: House) -> None:
    token = house.token().token
    assert house.bearer(token).groups == {"g1", "g2"}
    house.group("g1")
    assert house.bearer(token).groups == {"g2"}
    house.group("g1", "other", "u")
    assert house.bearer(token).groups == {"g1", "g2"}
    house.write("deleted/g1", Deleted(deleted_at=1))
    assert house.bearer(token).groups == {"g2"}
    house.write("group/g2", None)
    assert house.bearer(token).groups == set()


def test_other_records_are_none_of_its_business(house: House) -> None:
    token = house.token().token
    first = house.bearer(token)
    house.gate.forget(
        [
            b"smetadata/user/u",
            b"sgroup/g9",
            b"sdeleted/g9",
            b"snickname/u",
            b"suser/",
            b"stoken/",
            "smetadata/ä".encode(),
        ]
    )
    assert house.bearer(token) is first
