"""A peer that lies about users, groups, tokens and metadata breaks nothing for those who ask about them."""

from base64 import b64encode
from collections.abc import Iterator

import pytest

from tests.api.accounts import Place, place
from tests.api.peers import CLUSTER, Peer, sent

UUID = "0f1e2d3c-4b5a-4978-a6b5-c4d3e2f10213"
HASH = "ab" * 64
USER = {"uuid": UUID, "nickname_hash": HASH, "created_at": 1, "updated_at": 1}
GROUP = {"uuid": UUID, "groupname_hash": HASH, "created_at": 1, "updated_at": 1}
TOKEN = {"token_id": HASH[:32], "user_uuid": UUID, "scopes": [], "created_at": 1, "expires_at": 2**40}
LIES: dict[str, tuple[str, object]] = {
    "a user that is none": (f"/user/{UUID}", {"a": 1}),
    "a list as a user": (f"/user/{UUID}", [USER]),
    "another user": (f"/user/{UUID[:-1]}0", USER),
    "a user without a uuid": ("/user/x", {**USER, "uuid": "x"}),
    "a user from a time that no number holds": (f"/user/{UUID}", {**USER, "created_at": 2**70}),
    "a user of a group that is none": (f"/user/{UUID}", {**USER, "groups": ["../x"]}),
    "a user whose password takes all memory": (f"/user/{UUID}", {**USER, "password_hash": "$argon2id$v=19$m=9999999"}),
    "a group that is none": (f"/group/{UUID}", "x"),
    "a group of too many": (f"/group/{UUID}", {**GROUP, "members": [UUID] * 10_001}),
    "a name that leads nowhere": (f"/nickname/{HASH}", {"uuid": UUID}),
    "a name of a group that is a number": (f"/groupname/{HASH}", 7),
    "a token that is none": (f"/token/{HASH}", {}),
    "a token under another's hash": (f"/token/{HASH}", {**TOKEN, "token_id": "cd" * 16}),
    "a token that ends with the numbers": (f"/token/{HASH}", {**TOKEN, "expires_at": 2**64}),
    "metadata that are none": ("/metadata/mine", []),
    "metadata with thirteen bits": ("/metadata/mine", {"permissions": 0x1FFF}),
    "metadata of nobody's key": ("/metadata/_range", {}),
    "metadata of a user that is none": ("/metadata/mine", {"owner_uuid": "me"}),
    "a name that is none": ("/user", USER),
    "a kind that is none": ("/Us er/x", USER),
}
LISTS = ["/api/users", "/api/groups", "/api/tokens", "/kv/_range", "/kv/mine", "/kv/mine/metadata"]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node that all lies are told to; its root has a value with metadata under the key `mine`."""
    with place(tmp_path_factory.mktemp("lies") / "data", **CLUSTER) as made:
        assert made.root.ask.put("/kv/mine", b"1").status == 201
        assert made.root.ask.call("PUT", "/kv/mine/metadata", {"permissions": 0xF00}).status == 200
        made.group(made.user().uuid)
        yield made


@pytest.fixture
def peer(at: Place) -> Iterator[Peer]:
    made = Peer(at.node.address)
    yield made
    made.close()


def shown(at: Place) -> list[bytes]:
    replies = [at.root.ask.get(target) for target in LISTS]
    assert [reply.status for reply in replies] == [200] * len(LISTS)
    return [reply.body for reply in replies]


@pytest.mark.parametrize(("path", "document"), LIES.values(), ids=list(LIES))
def test_a_lie_is_refused_and_what_came_with_it_is_taken(
    at: Place, peer: Peer, key: str, path: str, document: object
) -> None:
    before = shown(at)
    records = [sent(path, at.clock.now_ms, document), sent(f"/later/{key}", at.clock.now_ms, 1)]
    assert peer.ask("/replicate", {"records": records})["outcomes"] == ["refused", "taken"]
    assert shown(at) == before


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b"[" * 3000])
def test_what_is_no_json_is_none_of_these(at: Place, peer: Peer, value: bytes) -> None:
    """As a blob, which needs not be JSON."""
    before = shown(at)
    kinds = (f"/user/{UUID}", f"/group/{UUID}", f"/token/{HASH}", f"/nickname/{HASH}", "/metadata/mine")
    fields = {"content_type": "a/b", "encoding": "base64"}
    records = [sent(path, at.clock.now_ms, b64encode(value).decode(), **fields) for path in kinds]
    assert set(peer.ask("/replicate", {"records": records})["outcomes"]) == {"refused"}
    assert shown(at) == before


def test_a_tombstone_of_a_name_that_is_none_is_refused(at: Place, peer: Peer) -> None:
    records = [sent("/user/x", at.clock.now_ms, deleted=True), sent(f"/user/{UUID}", at.clock.now_ms, deleted=True)]
    assert peer.ask("/replicate", {"records": records})["outcomes"] == ["refused", "taken"]


def test_a_revocation_from_a_peer_counts_although_nobody_knew_the_token(at: Place, peer: Peer) -> None:
    """Good documents of strangers are believed: the secret is what nodes know each other by."""
    record = sent(f"/token/{HASH}", at.clock.now_ms, {**TOKEN, "revoked_at": 1})
    assert peer.ask("/replicate", {"records": [record]})["outcomes"] == ["taken"]
    assert HASH[:32] not in at.root.ask.get("/api/tokens").body.decode()
