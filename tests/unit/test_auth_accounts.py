"""What changes make of documents that contradict each other, as two nodes may leave them behind."""

from collections.abc import Callable

import msgspec
import pytest

from kvs.auth.accounts import (
    Changes,
    Group,
    Look,
    User,
    create_user,
    decode_group,
    decode_user,
    delete_group,
    delete_user,
    find_by_groupname,
    find_by_nickname,
    find_group,
    find_user,
    groups_of,
    name_hash,
    update_group,
    update_user,
)
from kvs.errors import BadRequest, Conflict, NotFound

NOW = 1_700_000_000_000
ANN = name_hash("ann")


class Documents(dict[str, bytes]):
    def write(self, changes: Changes) -> None:
        for name, value in changes.items():
            if value is None:
                self.pop(name, None)
            else:
                self[name] = value

    def user(self, uuid: str, *groups: str, name: str = "ann", indexed: bool = True) -> None:
        user = User(uuid=uuid, nickname_hash=name_hash(name), groups=groups, created_at=1, updated_at=1)
        self[f"user/{uuid}"] = msgspec.json.encode(user)
        if indexed:
            self[f"nickname/{name_hash(name)}"] = msgspec.json.encode(uuid)

    def group(self, uuid: str, *members: str) -> None:
        group = Group(uuid=uuid, groupname_hash=name_hash(uuid), members=members, created_at=1, updated_at=1)
        self[f"group/{uuid}"] = msgspec.json.encode(group)
        self[f"groupname/{name_hash(uuid)}"] = msgspec.json.encode(uuid)

    def groups_of(self, uuid: str) -> tuple[str, ...]:
        user = find_user(self.get, uuid)
        assert user is not None
        return user.groups

    def members_of(self, uuid: str) -> tuple[str, ...]:
        group = find_group(self.get, uuid)
        assert group is not None
        return group.members


@pytest.fixture
def documents() -> Documents:
    return Documents()


@pytest.fixture
def twins(documents: Documents) -> Documents:
    """Two nodes gave one name away; the later one, b's, has it now."""
    documents.user("a")
    documents.user("b")
    return documents


def holder(documents: Documents) -> str | None:
    user = find_by_nickname(documents.get, "ann")
    return None if user is None else user.uuid


# --- one name for two ---


def test_both_accounts_stay_and_the_name_leads_to_the_later_one(twins: Documents) -> None:
    assert holder(twins) == "b"
    assert find_user(twins.get, "a") is not None
    with pytest.raises(Conflict):
        create_user(twins.get, User(uuid="c", nickname_hash=ANN, created_at=1, updated_at=1))


def test_who_lost_his_name_takes_it_from_nobody(twins: Documents) -> None:
    twins.write(update_user(twins.get, "a", NOW, nickname_hash=name_hash("ben")))
    assert holder(twins) == "b"
    with pytest.raises(Conflict):
        update_user(twins.get, "a", NOW, nickname_hash=ANN)
    twins.write(delete_user(twins.get, "a", NOW))
    assert holder(twins) == "b"
    assert set(twins) == {"user/b", f"nickname/{ANN}", "deleted/a"}


def test_who_lost_his_name_may_have_another_change(twins: Documents) -> None:
    twins.write(update_user(twins.get, "a", NOW, password_hash="h"))
    assert holder(twins) == "b"


def test_a_name_that_leads_to_nobody_is_free(twins: Documents) -> None:
    del twins["user/b"]
    assert holder(twins) is None
    twins.write(create_user(twins.get, User(uuid="c", nickname_hash=ANN, created_at=1, updated_at=1)))
    assert holder(twins) == "c"


def test_a_name_of_a_user_is_none_of_a_group(documents: Documents) -> None:
    documents.user("u", name="x")
    documents.group("g")
    assert find_by_groupname(documents.get, "x") is None
    assert find_by_nickname(documents.get, "g") is None
    assert find_user(documents.get, "g") is None


# --- one side of a membership ---


def test_a_membership_that_stands_on_the_users_side_is_completed(documents: Documents) -> None:
    documents.user("u", "g")
    documents.group("g")
    documents.write(update_group(documents.get, "g", NOW, members=("u",)))
    assert documents.groups_of("u") == ("g",)
    assert documents.members_of("g") == ("u",)


def test_a_membership_that_stands_on_the_groups_side_is_completed(documents: Documents) -> None:
    documents.user("u")
    documents.group("g", "u")
    documents.write(update_user(documents.get, "u", NOW, groups=("g",)))
    assert documents.groups_of("u") == ("g",)
    assert documents.members_of("g") == ("u",)


@pytest.mark.parametrize("sides", ["user", "group"])
def test_half_a_membership_can_be_taken_away_from_its_side(documents: Documents, sides: str) -> None:
    documents.user("u", *(["g"] if sides == "user" else []))
    documents.group("g", *(["u"] if sides == "group" else []))
    if sides == "user":
        documents.write(update_user(documents.get, "u", NOW, groups=()))
    else:
        documents.write(update_group(documents.get, "g", NOW, members=()))
    assert documents.groups_of("u") == documents.members_of("g") == ()


def test_what_is_gone_on_the_other_side_stands_in_nobodys_way(documents: Documents) -> None:
    documents.user("u", "gone")
    documents.group("g", "gone too")
    documents.write(update_user(documents.get, "u", NOW, groups=("gone", "g")))
    documents.write(update_group(documents.get, "g", NOW, members=("u",)))
    documents.write(update_user(documents.get, "u", NOW, groups=("g",)))
    assert documents.groups_of("u") == ("g",)
    documents.user("v", "gone", name="ben")
    documents.group("h", "gone too")
    documents.write(delete_user(documents.get, "v", NOW))
    documents.write(delete_group(documents.get, "h", NOW))
    deleted = {"deleted/v", "deleted/h"}
    assert set(documents) == {"user/u", f"nickname/{ANN}", "group/g", f"groupname/{name_hash('g')}", *deleted}


def apart(documents: Documents, first: Callable[[Look], Changes], second: Callable[[Look], Changes]) -> None:
    """Two nodes decide without knowing of each other, and meet: of each document the later version stays."""
    changes = first(documents.get), second(documents.get)
    for made in changes:
        documents.write(made)


def test_who_is_deleted_stays_so_where_another_node_changed_a_group_later(documents: Documents) -> None:
    documents.user("u", "g", "h")
    documents.group("g", "u")
    documents.group("h", "u")
    apart(documents, lambda look: delete_user(look, "u", NOW), lambda look: delete_group(look, "g", NOW + 1))
    assert "user/u" in documents, "the group's deletion has written it once more"
    assert find_user(documents.get, "u") is None
    documents.write(create_user(documents.get, User(uuid="v", nickname_hash=ANN, created_at=1, updated_at=1)))
    with pytest.raises(NotFound):
        delete_user(documents.get, "u", NOW)
    with pytest.raises(BadRequest):
        update_group(documents.get, "h", NOW, members=("u", "v"))


def test_a_group_that_is_deleted_stays_so_where_another_node_changed_a_member_later(documents: Documents) -> None:
    documents.user("u", "g")
    documents.group("g", "u")
    apart(
        documents,
        lambda look: delete_group(look, "g", NOW),
        lambda look: update_user(look, "u", NOW + 1, groups=()),
    )
    assert "group/g" in documents
    assert find_group(documents.get, "g") is None
    documents.user("u", "g")
    user = find_user(documents.get, "u")
    assert user is not None
    assert groups_of(documents.get, user) == ()


def test_who_joined_on_one_node_and_not_on_the_other_is_in_no_group_until_somebody_says_so(
    documents: Documents,
) -> None:
    documents.user("u")
    documents.group("g")
    apart(
        documents,
        lambda look: update_group(look, "g", NOW, members=("u",)),
        lambda look: update_group(look, "g", NOW + 1, groupname_hash=name_hash("new")),
    )
    assert (documents.groups_of("u"), documents.members_of("g")) == (("g",), ())
    user = find_user(documents.get, "u")
    assert user is not None
    assert groups_of(documents.get, user) == ()
    documents.write(update_user(documents.get, "u", NOW, password_hash="h"))
    assert documents.members_of("g") == (), "nobody spoke of groups"
    for made in (
        update_user(documents.get, "u", NOW, groups=("g",)),
        update_group(documents.get, "g", NOW, members=("u",)),
    ):
        again = Documents(documents)
        again.write(made)
        assert (again.groups_of("u"), again.members_of("g")) == (("g",), ("u",))
    documents.write(delete_group(documents.get, "g", NOW, listed_by=("u",)))
    assert documents.groups_of("u") == ()


# --- the documents themselves ---


@pytest.mark.parametrize("change", [update_user, update_group, delete_user, delete_group])
def test_nothing_comes_of_changing_what_is_not_there(documents: Documents, change: object) -> None:
    assert callable(change)
    with pytest.raises(NotFound):
        change(documents.get, "u", NOW)


def test_documents_of_other_versions_are_read() -> None:
    user = decode_user(b'{"uuid":"u","nickname_hash":"h","created_at":1,"updated_at":2,"later":{"x":1}}')
    assert user == User(uuid="u", nickname_hash="h", created_at=1, updated_at=2)
    assert (user.password_hash, user.groups, user.scopes) == (None, (), ())
    group = decode_group(b'{"uuid":"g","groupname_hash":"h","created_at":1,"updated_at":2}')
    assert group.members == ()
