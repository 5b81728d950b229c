"""A fresh node makes one root and shows its token once; no other node makes any."""

import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from kvs.auth.accounts import (
    GROUPS,
    USERS,
    delete_user,
    find_by_groupname,
    find_by_nickname,
    find_group,
    find_user,
    name_hash,
)
from kvs.auth.scopes import ALL
from kvs.auth.tokens import decode_token, derive_key, token_hash, verify
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.runner import Runner
from kvs.config import Config
from kvs.errors import StartError, Unavailable
from kvs.limits import ROOT_TOKEN_LIFE_MS
from kvs.server.first_start import make_root
from kvs.server.server import Server
from kvs.server.system import change_documents, live_document, live_documents
from kvs.storage.keyspace import system_key
from kvs.storage.memory import MemoryStore
from kvs.storage.state import read_progress
from tests.api.accounts import claims

NOW = 1_700_000_000_000
KEY = derive_key(b"s" * 32, "tokens")
_BLOCK = re.compile(
    r"A root account was made\. Its token is shown this once\.\n"
    r"User UUID: (?P<user>[0-9a-f-]{36})\n"
    r"Group UUID: (?P<group>[0-9a-f-]{36})\n"
    r"Token: (?P<token>[\w.-]+)\n"
    r"Expires: (?P<expires>\S+)"
)


class House:
    """A store and its writer."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        settings = NodeSettings("node1", 1, versions_max=3, tombstone_retention_ms=1000, clock_drift_max_ms=60_000)
        node = Node(settings, read_progress(self.store))
        self.runner = Runner(self.store, node, lambda: NOW)

    async def make_root(self) -> str:
        return await make_root(self.store, self.runner, KEY, lambda: NOW)

    def look(self, name: str) -> bytes | None:
        return live_document(self.store, name, NOW)

    def names(self, prefix: str) -> list[str]:
        found = live_documents(self.store, prefix, prefix, NOW)
        return [name.removeprefix(prefix) for name, document in found if document is not None]

    async def delete_user(self, uuid: str) -> None:
        await self.runner.submit([change_documents(lambda look, now_ms: delete_user(look, uuid, now_ms))])

    async def forget(self, name: str) -> None:
        """Remove a document, and no other one with it."""
        await self.runner.submit([change_documents(lambda *_: {name: None})])

    def corrupt(self, name: str) -> None:
        entry = system_key(name.encode())
        raw = self.store.get(entry)
        assert raw is not None
        self.store.commit({entry: raw[:-1] + bytes((raw[-1] ^ 1,))})


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    made.runner.start()
    yield made
    await made.runner.stop()


def read(block: str) -> dict[str, str]:
    found = _BLOCK.fullmatch(block)
    assert found is not None, block
    return found.groupdict()


async def test_the_block_says_who_was_made(house: House) -> None:
    shown = read(await house.make_root())
    root, admins = find_by_nickname(house.look, "root"), find_by_groupname(house.look, "admin")
    assert root is not None
    assert admins is not None
    assert (root.uuid, admins.uuid) == (shown["user"], shown["group"])
    assert (root.groups, admins.members) == ((admins.uuid,), (root.uuid,))
    assert (root.scopes, root.password_hash) == (ALL, None)
    assert house.names(USERS) == [root.uuid]
    assert house.names(GROUPS) == [admins.uuid]


async def test_its_token_has_every_scope_for_a_day(house: House) -> None:
    shown = read(await house.make_root())
    claims = verify(shown["token"], (KEY,), NOW)
    assert (claims.user_uuid, claims.scopes) == (shown["user"], list(ALL))
    assert claims.exp * 1000 == NOW + ROOT_TOKEN_LIFE_MS
    assert shown["expires"] == "2023-11-15T22:13:20Z"
    raw = house.look("token/" + token_hash(shown["token"]))
    assert raw is not None
    stored = decode_token(raw)
    assert (stored.user_uuid, stored.expires_at) == (shown["user"], NOW + ROOT_TOKEN_LIFE_MS)
    assert shown["token"] not in repr(house.store._entries)


async def test_it_is_made_once(house: House) -> None:
    await house.make_root()
    before = dict(house.store._entries)
    assert await house.make_root() == ""
    assert house.store._entries == before


async def test_no_root_where_there_is_any_user(house: House) -> None:
    document = b'{"uuid":"u","nickname_hash":"h","created_at":1,"updated_at":1}'
    await house.runner.submit([change_documents(lambda *_: {"user/u": document})])
    assert await house.make_root() == ""
    assert house.names(USERS) == ["u"]
    assert house.names("token/") == []


async def test_two_nodes_make_two_roots(house: House) -> None:
    other = House()
    other.runner.start()
    first, second = read(await house.make_root()), read(await other.make_root())
    await other.runner.stop()
    assert all(first[name] != second[name] for name in ("user", "group", "token"))


async def test_after_the_last_user_was_deleted_a_new_root_joins_the_admins_that_are_left(house: House) -> None:
    """Or the node would not start any more."""
    first = read(await house.make_root())
    await house.delete_user(first["user"])
    second = read(await house.make_root())
    assert second["user"] != first["user"]
    assert second["group"] == first["group"]
    root, admins = find_user(house.look, second["user"]), find_group(house.look, second["group"])
    assert root is not None
    assert admins is not None
    assert (root.groups, admins.members) == ((admins.uuid,), (root.uuid,))
    assert find_by_nickname(house.look, "root") == root
    assert house.names(USERS) == [root.uuid]
    assert house.names(GROUPS) == [admins.uuid]


async def test_a_corrupt_user_is_one(house: House) -> None:
    """Or one flipped bit would keep the node from starting."""
    shown = read(await house.make_root())
    house.corrupt(USERS + shown["user"])
    before = dict(house.store._entries)
    with structlog.testing.capture_logs() as log:
        assert await house.make_root() == ""
    assert [entry["key"] for entry in log] == [USERS + shown["user"]]
    assert house.store._entries == before


@pytest.mark.parametrize("part", ["group", "groupname", "nickname"])
async def test_what_the_last_user_left_may_be_corrupt(house: House, part: str) -> None:
    first = read(await house.make_root())
    names = {
        "group": GROUPS + first["group"],
        "groupname": f"groupname/{name_hash('admin')}",
        "nickname": f"nickname/{name_hash('root')}",
    }
    if part != "nickname":
        await house.delete_user(first["user"])
        house.corrupt(names[part])
    else:
        house.corrupt(names[part])
        await house.forget(USERS + first["user"])
    second = read(await house.make_root())
    root, admins = find_by_nickname(house.look, "root"), find_by_groupname(house.look, "admin")
    assert root is not None
    assert admins is not None
    assert (root.uuid, admins.uuid) == (second["user"], second["group"])
    assert (root.groups, root.uuid in admins.members) == ((admins.uuid,), True)


async def test_nothing_is_shown_that_could_not_be_written(house: House) -> None:
    house.store.fail_writes("no space left")
    with pytest.raises(Unavailable):
        await house.make_root()
    assert house.names(USERS) == []


# --- when a node asks for it ---


async def started(folder: Path, store: MemoryStore, **settings: Any) -> str:
    """What a node shows at its start; it is stopped again."""
    given = {"node_id": "node1", "port": 0, "auth_enabled": True, "clustering_enabled": False, **settings}
    server = Server(Config(data_dir=folder, **given), store)
    await server.start()
    shown = server.first_account
    await server.stop()
    return shown


def users(store: MemoryStore) -> list[str]:
    return [name for name, document in live_documents(store, USERS, USERS, 0) if document is not None]


async def test_a_node_with_authentication_shows_its_root_at_its_first_start_only(tmp_path: Path) -> None:
    store = MemoryStore()
    shown = read(await started(tmp_path, store))
    kept = store.crash()
    assert users(kept) == [USERS + shown["user"]]
    assert await started(tmp_path, kept) == ""


@pytest.mark.parametrize("settings", [{"auth_enabled": False}, {"seed_nodes": ("127.0.0.1:1",)}])
async def test_others_make_none(tmp_path: Path, settings: dict[str, object]) -> None:
    store = MemoryStore()
    assert await started(tmp_path, store, **settings) == ""
    assert users(store.crash()) == []


@pytest.mark.parametrize("most_ms", [1_000, 3_600_000, ROOT_TOKEN_LIFE_MS, 2 * ROOT_TOKEN_LIFE_MS])
async def test_its_token_lives_no_longer_than_any_may(tmp_path: Path, most_ms: int) -> None:
    shown = read(await started(tmp_path, MemoryStore(), token_max_ttl=most_ms))
    told = claims(shown["token"])
    assert (told["exp"] - told["iat"]) * 1000 == min(most_ms, ROOT_TOKEN_LIFE_MS)


async def test_a_start_that_fails_does_not_use_up_the_only_showing(tmp_path: Path) -> None:
    store = MemoryStore()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartError, match="the port is taken"):
        await started(tmp_path, store, port=taken.getsockname()[1])
    kept = store.crash()
    assert users(kept) == []
    assert read(await started(tmp_path, kept))["user"] in users(kept.crash())[0]
