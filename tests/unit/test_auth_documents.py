"""What KVS's own records may hold when another node brings them, and when they are read."""

import json
from typing import Any

import pytest

from kvs.auth.documents import check_brought, check_shape
from kvs.errors import BadMessage, StoreCorrupt
from kvs.limits import GROUPS_PER_USER_MAX, MEMBERS_PER_GROUP_MAX, TIMESTAMP_MAX

UUID = "0f1e2d3c-4b5a-4978-a6b5-c4d3e2f10213"
HASH = "ab" * 64
PASSWORD = "$argon2id$v=19$m=65536,t=3,p=4$EoDyjEtiVyk3Hxuf+wteSA$FoNr1d5txsTKkbQBj/UVsY1KE5JL8E6hogQnYc5ce0A"
TIMES = {"created_at": 1, "updated_at": 2}
USER = {"uuid": UUID, "nickname_hash": HASH, "password_hash": PASSWORD, "groups": [UUID], "scopes": ["read"], **TIMES}
GROUP = {"uuid": UUID, "groupname_hash": HASH, "members": [UUID], **TIMES}
TOKEN = {"token_id": HASH[:32], "user_uuid": UUID, "scopes": ["read"], "created_at": 1, "expires_at": 2}
METADATA = {"owner_uuid": UUID, "group_uuid": None, "permissions": 0xF31, **TIMES}
GOOD: dict[str, Any] = {
    f"user/{UUID}": USER,
    f"group/{UUID}": GROUP,
    f"nickname/{HASH}": UUID,
    f"groupname/{HASH}": UUID,
    f"token/{HASH}": TOKEN,
    "metadata/a/b": METADATA,
}
BAD: dict[str, dict[str, list[object]]] = {
    f"user/{UUID}": {
        "uuid": [UUID.upper(), UUID[:-1] + "0", "", 1, None],
        "nickname_hash": ["", HASH[:-1], HASH.upper(), "é" * 64],
        "password_hash": [
            "",
            "secret",
            PASSWORD.replace("m=65536", "m=4194304"),
            PASSWORD.replace("t=3", "t=1000"),
            PASSWORD.replace("argon2id", "argon2i"),
        ],
        "groups": [["x"], [UUID] * (GROUPS_PER_USER_MAX + 1), UUID, [1]],
        "scopes": [["read\n"], [""], ["r" * 65], ["read"] * 65, "read"],
        "created_at": [-1, 1.5, "1", 2**70, TIMESTAMP_MAX + 1, None],
    },
    f"group/{UUID}": {
        "uuid": [UUID[:-1] + "0"],
        "groupname_hash": ["x"],
        "members": [["x"], [UUID] * (MEMBERS_PER_GROUP_MAX + 1)],
        "updated_at": [-1, 2**70],
    },
    f"token/{HASH}": {
        "token_id": ["", HASH[1:33], HASH],
        "user_uuid": ["x", None],
        "created_by": ["x"],
        "scopes": [["read", "\0"]],
        "expires_at": [2**64, -1],
        "revoked_at": ["x", 2**64],
    },
    "metadata/a/b": {"owner_uuid": ["x", "", 1], "group_uuid": ["x"], "permissions": [-1, 0x1000, 2**70, "f"]},
}


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize("name", GOOD)
def test_what_nodes_write_is_taken(name: str) -> None:
    check_brought(name.encode(), encoded(GOOD[name]))
    check_shape(name, encoded(GOOD[name]))
    check_brought(name.encode(), None)


def test_members_that_a_later_version_adds_are_left_alone() -> None:
    check_brought(f"user/{UUID}".encode(), encoded({**USER, "from_the_future": [1]}))


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [(name, field, value) for name, fields in BAD.items() for field, values in fields.items() for value in values],
)
def test_what_no_node_writes_is_refused(name: str, field: str, value: object) -> None:
    with pytest.raises(BadMessage):
        check_brought(name.encode(), encoded({**GOOD[name], field: value}))


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("document", [b"", b"{", b"null", b"[]", b"{}", b"1", b'"x"', b"\xff", b"[" * 5000])
def test_what_is_none_is_refused_and_counts_as_corrupt(name: str, document: bytes) -> None:
    if name.startswith("metadata/") and document == b"{}":
        check_brought(name.encode(), document)  # all of its members have a default
        return
    with pytest.raises(BadMessage):
        check_brought(name.encode(), document)
    if document != b'"x"' or "name/" not in name:
        with pytest.raises(StoreCorrupt):
            check_shape(name, document)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"user",
        b"user/",
        b"user/x",
        b"user/" + UUID.upper().encode(),
        b"group/" + HASH.encode(),
        b"token/" + HASH[:32].encode(),
        b"nickname/ann",
        b"metadata/",
        b"metadata/a//b",
        b"metadata/_range",
        b"metadata/a/metadata",
        b"metadata/\xff",
        b"kind/\xff",
        b"kind/a\nb",
        b"kind/",
        b"Kind/a",
        b"/a",
        b"\0/a",
    ],
)
def test_names_that_no_node_gives_are_refused_for_tombstones_too(name: bytes) -> None:
    for document in (None, b"{}"):
        with pytest.raises(BadMessage):
            check_brought(name, document)


def test_kinds_of_a_later_version_are_taken_as_they_are() -> None:
    """Or the nodes of two versions would never hold the same."""
    check_brought(b"rule/a b/*", b"whatever")
    check_shape("rule/a b/*", b"whatever")
