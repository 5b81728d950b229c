"""Who the tests ask as: users with their scopes and groups, and credentials that are worth nothing."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import jwt

from kvs.auth.scopes import ALL, DATA, KV
from tests.api.client import Client, Reply
from tests.api.running import Clock, RunningNode

NOBODY = "3f2b0a7e-9c1d-4e5f-8a6b-7c8d9e0f1a2b"
"""Of no user, group or token. The same in every run, so that all processes of one know the same tests."""

_NO_HEADERS: Mapping[str, str] = {}
_numbers = count(1)

WORTHLESS = ("malformed", "expired", "wrong key", "revoked")
"""Credentials that are answered as if there were none of them."""


class Caller(Client):
    """A client that shows the same credential with each request."""

    def __init__(self, address: tuple[str, int], token: str | None = None) -> None:
        super().__init__(address)
        self.authorization = "" if token is None else f"Bearer {token}"

    def send(
        self,
        method: str,
        target: str | bytes,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> Reply:
        own = {"Authorization": self.authorization} if self.authorization else {}
        return super().send(method, target, body, {**own, **headers})

    def call(self, method: str, target: str, document: object = None) -> Reply:
        """One exchange with a JSON body, or none."""
        return self.send(method, target, None if document is None else json.dumps(document).encode())

    def pages(self, target: str, name: str, cursor: str = "") -> list[Any]:
        """The items of all pages of a list, or of those from a cursor on; `target` has a query."""
        items: list[Any] = []
        cursor = f"&cursor={cursor}" if cursor else ""
        while True:
            page = self.get(target + cursor).json
            items += page[name]
            if page["next_cursor"] is None:
                return items
            cursor = f"&cursor={page['next_cursor']}"


class Person(NamedTuple):
    """A user, and a client that asks with a token of his."""

    uuid: str
    nickname: str
    ask: Caller


class Place:
    """A node with authentication on, its root, and whoever is made up on it."""

    def __init__(self, folder: Path, clock: Clock, **settings: object) -> None:
        self.folder = folder
        self.clock = clock
        self._settings: dict[str, Any] = {"auth_enabled": True, **settings}
        self._ends = ExitStack()
        self.node = RunningNode(folder, clock=clock, **self._settings)
        first = self.node.first_account
        self.root = Person(first["User UUID"], "root", self.caller(first["Token"]))

    def caller(self, token: str | None = None) -> Caller:
        made = Caller(self.node.address, token)
        self._ends.callback(made.close)
        return made

    def restart(self, **settings: object) -> None:
        """Stop the node and start it on the same folder, with these settings changed. Only root's caller follows."""
        self.node.stop()
        self._settings |= settings
        self.node = RunningNode(self.folder, clock=self.clock, **self._settings)
        assert self.node.first_account == {}
        self.root.ask.close()
        self.root.ask.address = self.node.address

    def again(self, person: Person) -> Person:
        """The same person with the same token, after a restart."""
        return person._replace(ask=self.caller(person.ask.authorization.removeprefix("Bearer ")))

    def user(self, *scopes: str, groups: Iterable[str] = (), **fields: object) -> Person:
        """A new user and a token with these scopes (all that data needs, unless they are named)."""
        nickname = str(fields.pop("nickname", f"user {next(_numbers)}"))
        made = self.root.ask.call("POST", "/api/users", {"nickname": nickname, "groups": list(groups), **fields})
        assert made.status == 201, made
        uuid = str(made.json["uuid"])
        return Person(uuid, nickname, self.caller(self.token(uuid, scopes or DATA)))

    def group(self, *members: str) -> str:
        """A new group's uuid."""
        name = f"group {next(_numbers)}"
        made = self.root.ask.call("POST", "/api/groups", {"groupname": name, "members": list(members)})
        assert made.status == 201, made
        return str(made.json["uuid"])

    def token(self, user: str, scopes: Iterable[str] = DATA, **fields: object) -> str:
        made = self.root.ask.call("POST", "/api/tokens", {"user_uuid": user, "scopes": list(scopes), **fields})
        assert made.status == 201, made
        return str(made.json["token"])

    def close(self) -> None:
        self._ends.close()
        self.node.stop()


@contextmanager
def place(folder: Path, **settings: object) -> Iterator[Place]:
    """A node for the length of a block; its clock stands still."""
    made = Place(folder, Clock(), **settings)
    try:
        yield made
    finally:
        made.close()


def make_cast(at: Place) -> tuple[dict[str, Caller], str]:
    """Everybody who may come along, by name, and the uuid of the group that the member is in. Moves the clock."""
    team = at.group()
    people = {
        "none": at.caller(),
        "reader": at.user("read").ask,
        "writer": at.user("write").ask,
        "deleter": at.user("delete").ask,
        "owner": at.user().ask,
        "other": at.user().ask,
        "member": at.user(groups=[team]).ask,
        "admin": at.user(*(scope for scope in ALL if scope != KV)).ask,
        "root": at.root.ask,
    }
    user = at.root.uuid
    good = at.root.ask.authorization.removeprefix("Bearer ")
    expired = at.token(user, ALL, expires_in=1)
    revoked = at.root.ask.call("POST", "/api/tokens", {"user_uuid": user, "scopes": list(ALL)}).json
    assert at.root.ask.delete(f"/api/tokens/{revoked['token_id']}").status == 204
    at.clock.now_ms += 1000
    worthless = {
        "malformed": good[:-1] + ("A" if good[-1] != "A" else "B"),
        "expired": expired,
        "wrong key": jwt.encode(claims(good), b"k" * 32, "HS256"),
        "revoked": revoked["token"],
    }
    assert tuple(worthless) == WORTHLESS
    return {**people, **{name: at.caller(token) for name, token in worthless.items()}}, team


def claims(token: str) -> dict[str, Any]:
    """What a token says, believed without a look at its signature."""
    return dict(jwt.decode(token, options={"verify_signature": False}))


def steady(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """What two answers to one question must share: all but what names this one answer."""
    headers = {name: value for name, value in reply.headers.items() if name not in ("x-request-id", "date")}
    return reply.status, headers, reply.body.replace(reply.headers["x-request-id"].encode(), b"?")
