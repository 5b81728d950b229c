"""`permits` against a table that was written from the contract, not from the program."""

from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from kvs.auth.permissions import (
    DEFAULT_PERMISSIONS,
    PERMISSIONS_MAX,
    Action,
    Metadata,
    decode_metadata,
    encode_metadata,
    owner_of,
    permits,
)
from kvs.auth.principal import Principal

BITS = """
owner create, owner delete, owner write, owner read,
group create, group delete, group write, group read,
others create, others delete, others write, others read
""".replace("\n", " ").split(", ")
"""From bit 11 down to bit 0."""


class Asked(NamedTuple):
    """One question; `record_owner` is None when there is no value under the key."""

    principal: Principal
    action: Action
    metadata: Metadata | None
    record_owner: str | None

    def answer(self) -> bool:
        return permits(*self)


def set_bits(permissions: int) -> set[str]:
    return {name.strip() for name, bit in zip(BITS, f"{permissions:012b}", strict=True) if bit == "1"}


def oracle(asked: Asked) -> bool:
    """The contract's rules in their order."""
    who, action, metadata, record_owner = asked
    anonymous, absent = who.user == "", record_owner is None
    if "admin:kv" in who.scopes:
        return True
    if metadata is None and absent:
        return True  # whoever creates it is its owner; there is nothing to read or delete
    owner = record_owner if metadata is None or metadata.owner_uuid is None else metadata.owner_uuid
    creates_unowned = absent and owner is None and action is Action.CREATE and not anonymous
    shares_what_anonymous_left = metadata is None and anonymous and owner == ""
    if creates_unowned or shares_what_anonymous_left or (not anonymous and owner == who.user):
        kind = "owner"
    elif not anonymous and metadata is not None and metadata.group_uuid in who.groups:
        kind = "group"
    else:
        kind = "others"
    permissions = 0xF31 if metadata is None else metadata.permissions
    return f"{kind} {action.name.lower()}" in set_bits(permissions)


users = st.sampled_from(["a", "b", ""])
principals = st.builds(
    lambda user, groups, scopes: Principal(user=user, groups=groups if user else frozenset(), scopes=scopes),
    users,
    st.frozensets(st.sampled_from(["g", "h"])),
    st.frozensets(st.sampled_from(["read", "write", "delete", "admin:audit", "admin:kv"]), max_size=2),
)
mortals = principals.filter(lambda principal: "admin:kv" not in principal.scopes)
permissions = st.one_of(
    st.integers(0, PERMISSIONS_MAX),
    st.integers(0, 11).map(lambda bit: 1 << bit),
    st.integers(0, 11).map(lambda bit: PERMISSIONS_MAX & ~(1 << bit)),
)
metadatas = st.builds(
    Metadata,
    owner_uuid=st.sampled_from([None, "a", "b"]),
    group_uuid=st.sampled_from([None, "g", "h"]),
    permissions=permissions,
)
actions = st.sampled_from(Action)


@st.composite
def questions(draw: st.DrawFn) -> Asked:
    """Such as are asked: `create` where there is no value, `write` where there is one."""
    action = draw(actions)
    present, absent = st.sampled_from(["", "a", "b"]), st.none()
    owner = {Action.CREATE: absent, Action.WRITE: present}.get(action, present | absent)
    return Asked(draw(principals), action, draw(st.none() | metadatas), draw(owner))


@given(questions())
@example(Asked(Principal(user="a"), Action.WRITE, Metadata(permissions=0xF00), ""))
@example(Asked(Principal(user=""), Action.CREATE, Metadata(permissions=0xF00), None))
@example(Asked(Principal(user="a"), Action.CREATE, Metadata(permissions=0x800), None))
@example(Asked(Principal(user="a"), Action.READ, Metadata(permissions=0x100), None))
def test_every_answer_is_that_of_the_contract(asked: Asked) -> None:
    assert asked.answer() == oracle(asked)


def test_the_numbers_of_the_contract() -> None:
    assert DEFAULT_PERMISSIONS == 3889
    assert PERMISSIONS_MAX == 2**12 - 1
    assert set_bits(DEFAULT_PERMISSIONS) == {
        *(f"owner {right}" for right in ("create", "delete", "write", "read")),
        "group write",
        "group read",
        "others read",
    }


@given(questions(), st.integers(0, PERMISSIONS_MAX))
def test_more_bits_never_take_a_right_away(asked: Asked, more: int) -> None:
    metadata = asked.metadata or Metadata(owner_uuid="a")
    asked = asked._replace(metadata=metadata)
    wider = Metadata(
        owner_uuid=metadata.owner_uuid, group_uuid=metadata.group_uuid, permissions=metadata.permissions | more
    )
    assert asked._replace(metadata=wider).answer() >= asked.answer()


@given(questions())
def test_one_bit_decides_each_question(asked: Asked) -> None:
    """Of the twelve exactly one lets a mortal in: no class adds to another."""
    metadata = asked.metadata or Metadata(owner_uuid="a", group_uuid="g")
    alone = [
        asked._replace(
            metadata=Metadata(owner_uuid=metadata.owner_uuid, group_uuid=metadata.group_uuid, permissions=1 << bit)
        ).answer()
        for bit in range(12)
    ]
    assert sum(alone) == (12 if "admin:kv" in asked.principal.scopes else 1)


@given(mortals, st.sampled_from([Action.READ, Action.DELETE]), metadatas, st.sampled_from(["", "a", "b"]))
def test_nobody_learns_from_a_refusal_whether_a_foreign_key_is_there(
    who: Principal, action: Action, metadata: Metadata, owner: str
) -> None:
    if who.user != "" and owner_of(metadata, owner) == who.user:
        return
    assert permits(who, action, metadata, owner) == permits(who, action, metadata, None)


@given(mortals, actions, metadatas, st.sampled_from([None, "", "a", "b"]))
def test_groups_and_owners_of_others_do_not_help(
    who: Principal, action: Action, metadata: Metadata, owner: str | None
) -> None:
    """Whoever is neither the owner nor in the group is as good as an anonymous client once metadata are set."""
    stranger = Principal(user="stranger", groups=who.groups - {metadata.group_uuid or ""}, scopes=who.scopes)
    if action is not Action.CREATE or owner_of(metadata, owner) is not None:
        assert permits(stranger, action, metadata, owner) == permits(Principal(), action, metadata, owner)


@given(mortals, actions, st.sampled_from(["", "a", "b"]))
def test_without_metadata_the_record_has_the_default_bits(who: Principal, action: Action, owner: str) -> None:
    """As if they had been set; only what has no owner cannot be said so, and belongs to the anonymous."""
    if owner:
        assert permits(who, action, None, owner) == permits(who, action, Metadata(owner_uuid=owner), owner)
    else:
        assert permits(who, action, None, owner) == (not who.user or action is Action.READ)


@given(metadatas, st.integers(0, 2**48), st.integers(0, 2**48))
def test_metadata_read_back_as_they_were_written(metadata: Metadata, created_at: int, updated_at: int) -> None:
    dated = Metadata(
        owner_uuid=metadata.owner_uuid,
        group_uuid=metadata.group_uuid,
        permissions=metadata.permissions,
        created_at=created_at,
        updated_at=updated_at,
    )
    assert decode_metadata(encode_metadata(dated)) == dated
