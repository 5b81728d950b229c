"""A node behind a gate, with its users and tokens, and without HTTP."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from unittest.mock import Mock

import msgspec
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from kvs.auth.accounts import Deleted, Group, User, create_user
from kvs.auth.principal import Principal
from kvs.auth.tokens import SigningKey, derive_key, token_hash
from kvs.cluster.events import Changed, Command, Submission
from kvs.errors import Unauthorized
from kvs.server.access import READ, Access
from kvs.server.authentication import TokenGate
from kvs.server.browsers import Browsers
from kvs.server.system import change_documents
from kvs.server.token_maker import MadeToken, make_token, store_token
from kvs.storage.memory import MemoryStore
from tests.nodes import LoneNode

NOW = 1_700_000_000_000
HOUR_MS = 3_600_000
KEY, BEFORE = derive_key(b"in use" * 6, "tokens"), derive_key(b"before" * 6, "tokens")
STRANGE = derive_key(b"strange" * 6, "tokens")
LOCAL = derive_key(b"of its own" * 4, "local")
GROUPS = ("g1", "g2")


def request(
    *authorization: str,
    target: str = "/kv/a",
    headers: Mapping[str, str] = MappingProxyType({}),
    method: str = "GET",
    connection: object = None,
) -> web.BaseRequest:
    """With as many `Authorization` fields as are given, on a new connection unless one is."""
    fields = CIMultiDict([("Authorization", given) for given in authorization] + list(headers.items()))
    made: web.BaseRequest = make_mocked_request(method, target, headers=fields, protocol=connection or Mock())
    return made


class WatchedStore(MemoryStore):
    """Counts reads."""

    reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(key)


class House:
    """A node without a runner behind a gate, which hears of changes as the runner tells it."""

    connection: Mock | None = None
    """That all requests come on; None: each on its own."""

    def __init__(self, *anonymous: str) -> None:
        self.now_ms = NOW
        self.lone = LoneNode()
        self.store = self.lone.store = WatchedStore()
        now_ms, browsers = (lambda: self.now_ms), Browsers(None)
        self.gate = TokenGate(self.store, [KEY, BEFORE], LOCAL, now_ms, browsers, anonymous=anonymous)

    def do(self, *commands: Command) -> None:
        group = self.lone.node.plan_group([Submission(1, commands, 0)], self.store, self.now_ms)
        self.store.commit(group.batch)
        for effect in self.lone.node.committed(group):
            if isinstance(effect, Changed):
                self.gate.forget(effect.entries)

    def user(self, uuid: str = "u", groups: tuple[str, ...] = ()) -> None:
        """A user, in groups that list it."""
        made = User(uuid=uuid, nickname_hash=uuid, groups=(), created_at=1, updated_at=1)
        self.do(change_documents(lambda look, _: create_user(look, made)))
        if groups:
            self.join(uuid, groups)

    def join(self, uuid: str, groups: tuple[str, ...]) -> None:
        """The user lists these groups, which list it."""
        user = User(uuid=uuid, nickname_hash=uuid, groups=groups, created_at=1, updated_at=self.now_ms)
        self.write(f"user/{uuid}", user)
        for group in groups:
            self.group(group, uuid)

    def group(self, uuid: str, *members: str) -> None:
        """A group that lists these members."""
        group = Group(uuid=uuid, groupname_hash=uuid, members=members, created_at=1, updated_at=self.now_ms)
        self.write(f"group/{uuid}", group)

    def write(self, name: str, document: User | Group | Deleted | None) -> None:
        """As another node may bring it."""
        value = None if document is None else msgspec.json.encode(document)
        self.do(change_documents(lambda *_: {name: value}))

    def token(self, uuid: str = "u", *, scopes: Iterable[str] = ("read",), key: SigningKey = KEY) -> MadeToken:
        made = make_token(key, user=uuid, scopes=tuple(scopes), now_ms=NOW, life_ms=HOUR_MS, created_by="")
        self.do(made.command)
        return made

    def revoke(self, made: MadeToken) -> None:
        revoked = msgspec.structs.replace(made.stored, revoked_at=self.now_ms)
        self.do(store_token(token_hash(made.token), revoked, self.now_ms))

    def ask(
        self,
        *authorization: str,
        needed: Access = READ,
        target: str = "/kv/a",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Principal:
        asked = request(*authorization, target=target, headers=headers, connection=self.connection)
        return self.gate.admit(asked, needed)

    def bearer(self, token: str, needed: Access = READ) -> Principal:
        return self.ask(f"Bearer {token}", needed=needed)

    def refuses(self, *authorization: str, needed: Access = READ) -> bool:
        try:
            self.ask(*authorization, needed=needed)
        except Unauthorized:
            return True
        return False
