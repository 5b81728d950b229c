"""Tokens that are made and revoked at all nodes while these are broken.

A revocation that was acknowledged is as sure as any other write: the token is worthless at that node at once, for as
long as the node keeps its disk, and in the end at every node. A token that was acknowledged, and that nobody revoked,
is good at every node in the end. So it is unless the node that acknowledged it lost its disk before all were equal.
"""

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from kvs.auth import secrets
from kvs.auth.scopes import ALL
from kvs.auth.tokens import LOCAL_SCHEME, derive_key, issue_local
from tests.chaos.clients import REQUEST_TIMEOUT_S, Target
from tests.chaos.history import History, Mark
from tests.process.cluster import Node
from tests.process.daemon import Answer, Client

_PACE_S = 0.3
_LIFE_S = 7 * 86_400
_AHEAD_MAX_S = 60
"""A token that a node made by a clock further ahead than this is good later only."""
_KEPT = 40
"""Tokens that are asked about; older ones make room."""


@dataclass(eq=False)
class _Token:
    """`made_by` and `revoked_by` name who may still lose it, and in which life of its disk."""

    text: str
    token_id: str
    is_good_now: bool
    made_by: tuple[str, Mark] | None
    revoked_by: tuple[str, Mark] | None = None
    was_to_be_revoked: bool = False
    is_revoked: bool = False


class Administrator:
    """Makes the accounts of a cluster, and an administrator's token, by the key in the data directory of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.user = self._made("/api/users", {"nickname": "chaos"})["uuid"]
        made = self._made("/api/tokens", {"user_uuid": self.user, "scopes": list(ALL), "expires_in": _LIFE_S})
        self.token = made["token"]

    def _made(self, path: str, document: object) -> dict[str, str]:
        local = {"Authorization": _local(self._node.daemon.data_dir)}
        answer = self._node.client.request("POST", path, json.dumps(document).encode(), local)
        assert answer.status == 201, answer
        return dict(answer.json())


def _local(data_dir: Path) -> str:
    key = derive_key(secrets.load(data_dir), "local")
    return f"{LOCAL_SCHEME} {issue_local(key, jti=str(uuid4()), now_ms=time.time_ns() // 1_000_000)}"


class Tokens:
    """One thread that makes, revokes and tries tokens."""

    def __init__(self, seed: int, targets: Sequence[Target], history: History, administrator: Administrator) -> None:
        self.made = self.revoked = self.tried = 0
        self._chance = random.Random(f"tokens {seed}")
        self._targets, self._history, self._administrator = targets, history, administrator
        self._tokens: list[_Token] = []
        self._pausing = threading.Event()
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        self._pausing.clear()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        self._pausing.set()
        if self._thread is not None:
            self._thread.join()

    def check(self, nodes: Sequence[Node]) -> None:
        """When all is quiet and equal."""
        self._tokens = [token for token in self._tokens if self._is_kept(token.made_by)]
        for token in self._tokens:
            token.is_revoked = token.is_revoked and self._is_kept(token.revoked_by)
            token.made_by = token.revoked_by = None
            for node in nodes:
                status = _try(node.client, token)
                if token.is_revoked and status != 401:
                    self._wrong(f"{node.name} lets in by the revoked token {token.token_id} ({status})")
                if not token.was_to_be_revoked and token.is_good_now and status != 403:
                    self._wrong(f"{node.name} does not know the token {token.token_id} ({status})")

    def _is_kept(self, told: tuple[str, Mark] | None) -> bool:
        return told is None or told == self._by(told[0])

    def _by(self, name: str) -> tuple[str, Mark]:
        """A node in the present life of its disk."""
        return name, self._history.mark(name, "")

    def _loop(self) -> None:
        while not self._pausing.wait(self._chance.random() * _PACE_S):
            target = self._chance.choice(self._targets)
            url = target.url()
            if not url or not target.takes_writes():
                continue
            client = Client(url, REQUEST_TIMEOUT_S)
            with suppress(OSError, http.client.HTTPException):
                self._chance.choice((self._make, self._revoke, self._try))(target.name, client)
            client.close()

    def _make(self, name: str, client: Client) -> None:
        by = self._by(name)
        document = {"user_uuid": self._administrator.user, "scopes": ["read"], "expires_in": _LIFE_S}
        answer = self._ask(client, "POST", "/api/tokens", json.dumps(document).encode())
        if answer.status == 201:
            made = answer.json()
            ahead_s = made["expires_at"] / 1000 - _LIFE_S - time.time()
            self._tokens.append(_Token(made["token"], made["token_id"], ahead_s < _AHEAD_MAX_S, by))
            del self._tokens[:-_KEPT]
            self.made += 1

    def _revoke(self, name: str, client: Client) -> None:
        alive = [token for token in self._tokens if not token.is_revoked]
        if not alive:
            return
        token = self._chance.choice(alive)
        token.was_to_be_revoked = True
        by = self._by(name)
        if self._ask(client, "DELETE", f"/api/tokens/{token.token_id}").status == 204:
            token.is_revoked, token.revoked_by = True, by
            self.revoked += 1

    def _try(self, name: str, client: Client) -> None:
        """At the node that revoked it."""
        if not self._tokens:
            return
        token = self._chance.choice(self._tokens)
        if token.revoked_by == self._by(name):
            self.tried += 1
            status = _try(client, token)
            if status not in (401, 503):
                self._wrong(f"{name} lets in by the token {token.token_id} that it revoked ({status})")

    def _ask(self, client: Client, method: str, path: str, body: bytes | None = None) -> Answer:
        return client.request(method, path, body, {"Authorization": f"Bearer {self._administrator.token}"})

    def _wrong(self, text: str) -> None:
        self._history.violations.append(text)


def _try(client: Client, token: _Token) -> int:
    """401 if it is worthless; 403 if it is good, because it may not delete."""
    return client.request("DELETE", "/kv/nothing", headers={"Authorization": f"Bearer {token.text}"}).status
