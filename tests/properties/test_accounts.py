"""Whatever is done with users and groups in whatever order, the documents say what a plain model says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.auth import accounts
from kvs.auth.accounts import Changes, Group, User, name_hash
from kvs.errors import BadRequest, Conflict, KvsError, NotFound

MOST = 2
"""Members a group and groups a user, in these tests."""
NAMES = ("ann", "Ann", "ben", "cleo", "dan", "eve", "f\u00fc", "fu\u0308")
Wrongs = set[type[KvsError]]
LAST = 9
WORDS = {name_hash(name): name for name in NAMES}


@dataclass
class Party:
    """A user or a group of the model. `others` are the groups of a user, the members of a group."""

    name: str
    others: set[str]
    created_at: int
    updated_at: int


@dataclass
class Model:
    """Users and groups in plain dictionaries, and the documents that the program makes of the same commands."""

    users: dict[str, Party] = field(default_factory=dict)
    groups: dict[str, Party] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    documents: dict[str, bytes] = field(default_factory=dict)
    now_ms: int = 0
    made: dict[str, int] = field(default_factory=lambda: {"user": 0, "group": 0})

    def sides(self, kind: str) -> tuple[dict[str, Party], dict[str, Party]]:
        return (self.users, self.groups) if kind == "user" else (self.groups, self.users)

    # --- the commands ---

    def create(self, kind: str, name: str, others: list[str]) -> None:
        uuid = f"{kind[0]}{self.made[kind]}"
        self.made[kind] += 1
        wrong = self.wrongs(kind, uuid, name, others)
        self.carry_out(wrong, lambda: self.creation(kind, uuid, name, tuple(others)))
        if not wrong:
            own, _ = self.sides(kind)
            own[uuid] = Party(name, set(), self.now_ms, self.now_ms)
            self.rejoin(kind, uuid, set(others))

    def update(self, kind: str, uuid: str, name: str | None, others: list[str] | None) -> None:
        own, _ = self.sides(kind)
        wrong: Wrongs = self.wrongs(kind, uuid, name, others or []) if uuid in own else {NotFound}
        self.carry_out(wrong, lambda: self.renewal(kind, uuid, name, others))
        if not wrong:
            own[uuid].name = own[uuid].name if name is None else name
            own[uuid].updated_at = self.now_ms
            if others is not None:
                self.rejoin(kind, uuid, set(others))

    def delete(self, kind: str, uuid: str) -> None:
        own, _ = self.sides(kind)
        wrong: Wrongs = set() if uuid in own else {NotFound}
        delete = accounts.delete_user if kind == "user" else accounts.delete_group
        self.carry_out(wrong, lambda: delete(self.documents.get, uuid, self.now_ms))
        if not wrong:
            self.rejoin(kind, uuid, set())
            del own[uuid]
            self.deleted.add(uuid)

    def pick(self, kind: str, numbers: list[int]) -> list[str]:
        """Of those that are there, each once; the highest number stands for one that is gone or never was."""
        own, _ = self.sides(kind)
        there = sorted(own)
        known = [number for number in numbers if there or number == LAST]
        return list(dict.fromkeys(f"{kind}-gone" if number == LAST else there[number % len(there)] for number in known))

    # --- what the model knows of them ---

    def wrongs(self, kind: str, uuid: str, name: str | None, others: list[str]) -> Wrongs:
        """All that speaks against it; the program may name any of it."""
        own, other = self.sides(kind)
        wrong: Wrongs = set()
        if any(party.name == name for holder, party in own.items() if holder != uuid):
            wrong.add(Conflict)
        if len(others) > MOST or not set(others) <= set(other):
            wrong.add(BadRequest)
        if any(len(other[one].others | {uuid}) > MOST for one in others if one in other):
            wrong.add(BadRequest)
        return wrong

    def rejoin(self, kind: str, uuid: str, others: set[str]) -> None:
        own, other = self.sides(kind)
        for one in own[uuid].others ^ others:
            other[one].others ^= {uuid}
            other[one].updated_at = self.now_ms
        own[uuid].others = others

    # --- the program ---

    def creation(self, kind: str, uuid: str, name: str, others: tuple[str, ...]) -> Changes:
        now, hashed = self.now_ms, name_hash(name)
        if kind == "user":
            user = User(uuid=uuid, nickname_hash=hashed, groups=others, created_at=now, updated_at=now)
            return accounts.create_user(self.documents.get, user)
        group = Group(uuid=uuid, groupname_hash=hashed, members=others, created_at=now, updated_at=now)
        return accounts.create_group(self.documents.get, group)

    def renewal(self, kind: str, uuid: str, name: str | None, others: list[str] | None) -> Changes:
        fields: dict[str, object] = {}
        if name is not None:
            fields["nickname_hash" if kind == "user" else "groupname_hash"] = name_hash(name)
        if others is not None:
            fields["groups" if kind == "user" else "members"] = tuple(others)
        update = accounts.update_user if kind == "user" else accounts.update_group
        return update(self.documents.get, uuid, self.now_ms, **fields)

    def carry_out(self, wrong: Wrongs, change: Callable[[], Changes]) -> None:
        """Writes what the program returns, or sees to it that it refuses for a reason."""
        self.now_ms += 1
        if wrong:
            with pytest.raises(tuple(wrong)):
                change()
            return
        for name, value in change().items():
            if value is None:
                del self.documents[name]
            else:
                self.documents[name] = value

    def check(self) -> None:
        """The documents are those of the model, and no others."""
        expected = {f"user/{uuid}" for uuid in self.users} | {f"group/{uuid}" for uuid in self.groups}
        expected |= {f"nickname/{name_hash(user.name)}" for user in self.users.values()}
        expected |= {f"groupname/{name_hash(group.name)}" for group in self.groups.values()}
        expected |= {f"deleted/{uuid}" for uuid in self.deleted}
        assert set(self.documents) == expected
        for uuid, party in self.users.items():
            user = accounts.find_user(self.documents.get, uuid)
            assert user is not None
            assert user == accounts.find_by_nickname(self.documents.get, party.name)
            assert self.shown(user.nickname_hash, user.groups, user.created_at, user.updated_at) == party
        for uuid, party in self.groups.items():
            group = accounts.find_group(self.documents.get, uuid)
            assert group is not None
            assert group == accounts.find_by_groupname(self.documents.get, party.name)
            assert self.shown(group.groupname_hash, group.members, group.created_at, group.updated_at) == party
        for name in NAMES:
            assert not any(name and f'"{name}"'.encode() in document for document in self.documents.values())

    def shown(self, hashed: str, others: tuple[str, ...], created_at: int, updated_at: int) -> Party:
        assert len(others) == len(set(others))
        return Party(WORDS[hashed], set(others), created_at, updated_at)


kinds = st.sampled_from(["user", "group"])
names = st.sampled_from(NAMES)
number = st.integers(0, LAST)
numbers = st.lists(number, max_size=MOST + 2)
creations = st.tuples(st.just("create"), kinds, st.just(LAST), names, numbers)
commands = st.one_of(
    creations,
    creations,
    st.tuples(st.just("update"), kinds, number, st.none() | names, st.none() | numbers),
    st.tuples(st.just("update"), kinds, number, st.none(), numbers),
    st.tuples(st.just("delete"), kinds, number, st.none(), st.none()),
)


@settings(max_examples=300)
@given(st.lists(commands, min_size=5, max_size=20))
def test_the_documents_follow_the_model(run: list[tuple[str, str, int, str | None, list[int] | None]]) -> None:
    """From some users and groups on that do not know each other yet."""
    model = Model()
    with patch.multiple(accounts, GROUPS_PER_USER_MAX=MOST, MEMBERS_PER_GROUP_MAX=MOST):
        for first_kind, first_name in product(("user", "group"), NAMES[: MOST + 1]):
            model.create(first_kind, first_name, [])
        for verb, kind, number, name, others in run:
            picked = None if others is None else model.pick("group" if kind == "user" else "user", others)
            if verb == "create":
                assert name is not None
                model.create(kind, name, picked or [])
            else:
                for uuid in model.pick(kind, [number]):
                    model.update(kind, uuid, name, picked) if verb == "update" else model.delete(kind, uuid)
            model.check()


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_are_kept_as_hashes_of_their_bytes(one: str, other: str) -> None:
    """Never tidied up: of two names that look alike each has its own."""
    assert (name_hash(one) == name_hash(other)) == (one == other)
    assert len(name_hash(one)) == 128
    documents: dict[str, bytes] = {}
    changes = accounts.create_user(
        documents.get, User(uuid="u", nickname_hash=name_hash(one), created_at=0, updated_at=0)
    )
    assert set(changes) == {"user/u", f"nickname/{name_hash(one)}"}
    assert msgspec.json.decode(changes[f"nickname/{name_hash(one)}"] or b"") == "u"
