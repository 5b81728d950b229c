"""Accounts, tokens and metadata travel as records do, and whoever gets them acts on them at once."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from kvs.auth.scopes import DATA
from kvs.cluster.exchange import OLDER, TAKEN, RangeAnswer, RangeRequest, ReplicateAnswer, ReplicateRequest
from kvs.storage.keyspace import SYSTEM, after
from tests.api.accounts import Caller, Person, Place
from tests.api.peers import CLUSTER, Peer
from tests.api.running import Clock, RunningNode
from tests.process.eventually import eventually

_numbers = count(1)
UNREACHABLE = {"seed_nodes": ("127.0.0.1:1",), "bootstrap_patience": 0.1}


def fresh() -> str:
    return f"fresh{next(_numbers)}"


class Pair:
    """Two nodes of one cluster that do not know each other's address: `here` makes accounts, `there` is brought what
    `here` holds by `carry`, as a peer would bring it."""

    def __init__(self, folder: Path) -> None:
        clock = Clock()
        self.here = Place(folder / "here", clock, **CLUSTER)
        self._there = RunningNode(
            folder / "there", clock=clock, **{**CLUSTER, **UNREACHABLE, "auth_enabled": True, "node_id": "node2"}
        )
        self._from = Peer(self.here.node.address)
        self._to = Peer(self._there.address, node_id="node1")
        self._callers: list[Caller] = []

    def records(self) -> list[tuple[bytes, bytes]]:
        """All of KVS's own records and the users', as they travel."""
        return self._from.ask_binary("/kv_range", RangeRequest(b"", b""), RangeAnswer).records

    def carry(self, records: list[tuple[bytes, bytes]] | None = None) -> set[int]:
        """What became of the records."""
        request = ReplicateRequest(self.records() if records is None else records)
        return set(self._to.ask_binary("/replicate", request, ReplicateAnswer).outcomes)

    def there(self, person: Person) -> Caller:
        """The same person with the same token, who asks the other node."""
        caller = Caller(self._there.address, person.ask.authorization.removeprefix("Bearer "))
        self._callers.append(caller)
        return caller

    def close(self) -> None:
        for client in (*self._callers, self._from, self._to):
            client.close()
        self.here.close()
        self._there.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def test_a_token_is_good_where_its_records_are(pair: Pair) -> None:
    user = pair.here.user()
    there = pair.there(user)
    assert user.ask.put("/kv/a", b"1").status == 201
    assert there.get("/kv/a").status == 401
    assert TAKEN in pair.carry()
    reply = there.get("/kv/a")
    assert reply.status == 200
    assert reply.json == user.ask.get("/kv/a").json
    assert pair.there(pair.here.root).get(f"/api/users/{user.uuid}").status == 200


def test_a_revoked_token_is_refused_at_once_and_stays_so(pair: Pair) -> None:
    user, other = pair.here.user(), pair.here.user()
    user.ask.put("/kv/a", b"1")
    before = pair.records()
    pair.carry()
    there, beside = pair.there(user), pair.there(other)
    assert (there.get("/kv/a").status, beside.get("/kv/a").status) == (200, 200)
    (token,) = pair.here.root.ask.get(f"/api/tokens?user_uuid={user.uuid}").json["tokens"]
    assert pair.here.root.ask.delete(f"/api/tokens/{token['token_id']}").status == 204
    assert user.ask.get("/kv/a").status == 401
    pair.carry()
    assert (there.get("/kv/a").status, beside.get("/kv/a").status) == (401, 200)
    assert OLDER in pair.carry(before)
    assert there.get("/kv/a").status == 401


def test_whoever_is_deleted_is_refused_at_once(pair: Pair) -> None:
    user = pair.here.user()
    user.ask.put("/kv/a", b"1")
    pair.carry()
    there = pair.there(user)
    assert there.get("/kv/a").status == 200
    assert pair.here.root.ask.delete(f"/api/users/{user.uuid}").status == 204
    pair.carry()
    assert there.get("/kv/a").status == 401


def test_whoever_leaves_a_group_loses_its_rights_at_once(pair: Pair) -> None:
    team = pair.here.group()
    owner, member = pair.here.user(), pair.here.user(groups=[team])
    owner.ask.put("/kv/a", b"1")
    assert owner.ask.call("PUT", "/kv/a/metadata", {"permissions": 0xFF0, "group_uuid": team}).status == 200
    pair.carry()
    there = pair.there(member)
    assert there.get("/kv/a").status == 200
    assert pair.here.root.ask.call("PUT", f"/api/groups/{team}", {"members": []}).status == 200
    pair.carry()
    assert there.get("/kv/a").status == 403


def memberships(caller: Caller) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """(user, group) as the list of the users shows them, and as that of the groups does. The routes of single accounts
    show the same."""
    users, groups = (caller.pages(f"/api/{kind}?limit=2", kind) for kind in ("users", "groups"))
    for kind, shown in (("users", users), ("groups", groups)):
        assert [caller.get(f"/api/{kind}/{account['uuid']}").json for account in shown] == shown
    return (
        {(user["uuid"], group) for user in users for group in user["groups"]},
        {(user, group["uuid"]) for group in groups for user in group["members"]},
    )


def test_what_two_nodes_changed_at_once_is_shown_as_it_counts(pair: Pair) -> None:
    here = pair.here.root.ask
    one, two, three = (pair.here.user().uuid for _ in range(3))
    gone, kept, named = pair.here.group(), pair.here.group(), fresh()
    assert here.call("PUT", f"/api/users/{one}", {"nickname": named}).status == 200
    pair.carry()
    there = pair.there(pair.here.root)
    assert eventually(lambda: there.get("/ready").status == 200, 20)
    assert there.call("PUT", f"/api/users/{one}", {"groups": [gone]}).status == 200
    assert there.call("PUT", f"/api/groups/{kept}", {"members": [three]}).status == 200
    assert here.call("DELETE", f"/api/groups/{gone}").status == 204
    for members in ([two], [], [two]):  # so that this side's is the later version
        assert here.call("PUT", f"/api/groups/{kept}", {"members": members}).status == 200
    pair.carry()
    root = {(pair.here.root.uuid, group["uuid"]) for group in here.get("/api/groups?groupname=admin").json["groups"]}
    assert memberships(there) == (root | {(two, kept)}, root | {(two, kept)})
    assert there.get(f"/api/users?nickname={named}").json["users"] == [there.get(f"/api/users/{one}").json]


def test_metadata_hold_on_the_other_node(pair: Pair) -> None:
    owner, stranger = pair.here.user(), pair.here.user()
    owner.ask.put("/kv/a", b"1")
    pair.carry()
    there, strange = pair.there(owner), pair.there(stranger)
    assert strange.get("/kv/a").status == 200
    assert owner.ask.call("PUT", "/kv/a/metadata", {"permissions": 0xF00}).status == 200
    pair.carry()
    assert strange.get("/kv/a").status == 403
    assert strange.get("/kv/_range").json["pairs"] == []
    assert there.get("/kv/a/metadata").json == owner.ask.get("/kv/a/metadata").json


def test_kvs_own_records_alone_carry_the_accounts(pair: Pair) -> None:
    """They are those behind the users' keys, and in the root like these."""
    user = pair.here.user(*DATA)
    own = [(entry, raw) for entry, raw in pair.records() if SYSTEM <= entry < after(SYSTEM)]
    assert {entry[1:].split(b"/")[0] for entry, _ in own} >= {b"user", b"group", b"nickname", b"groupname", b"token"}
    assert pair.carry(own) == {TAKEN}
    assert pair.there(user).get("/kv/a").status == 404
