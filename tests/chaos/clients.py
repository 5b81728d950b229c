"""Clients that write and read at all nodes at once, and tell the history of it.

Each is a thread with a connection to every node. Most requests go to a node of its own, some to any, so that keys are
written at several nodes in the same moment. Keys under `short/` have a time to live: these are not in the history, as
it cannot know when a read was answered by which clock, and count only where nodes are compared with each other.
"""

import http.client
import json
import random
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from traceback import format_exc
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.chaos.history import Held, History, Mark, Write
from tests.process.audit import stored_bytes, value_of
from tests.process.daemon import Answer, Client, kv_path

REQUEST_TIMEOUT_S = 5.0
_CLIENTS, _KEYS = 5, 60
_PAUSE_S = 0.05
"""After a failure: a node that is down is not asked without end."""
_PACE_S = 0.03
_JSON = {"Content-Type": "application/json"}
_BLOB = {"Content-Type": "application/octet-stream"}
_NOTHING_WRITTEN = ("syncing", "clock_skew")
"""Codes of a 503 that promise so."""


class Target(NamedTuple):
    """A node as clients see it: `url` gives where it listens now, or nothing while it is down; `takes_writes`, whether
    it is to be sent any."""

    name: str
    url: Callable[[], str]
    takes_writes: Callable[[], bool]


class _Authorized(Client):
    """Shows a token with every request, if there is one."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url, REQUEST_TIMEOUT_S)
        self._own = {"Authorization": f"Bearer {token}"} if token else {}

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return super().request(method, path, body, {**self._own, **(headers or {})})


class Clients:
    """All of them. `counts` are answers by kind."""

    def __init__(self, seed: int, targets: Sequence[Target], history: History, token: str = "") -> None:
        self.counts: Counter[str] = Counter()
        self._clients = [
            _Chaotic(random.Random(f"client {seed}/{n}"), n, targets, history, self.counts, token)
            for n in range(_CLIENTS)
        ]

    def run(self) -> None:
        for client in self._clients:
            client.run()

    def pause(self) -> None:
        """Returns when no request is under way."""
        for client in self._clients:
            client.pausing.set()
        for client in self._clients:
            client.join()


class _Chaotic:
    def __init__(
        self,
        chance: random.Random,
        number: int,
        targets: Sequence[Target],
        history: History,
        counts: Counter[str],
        token: str,
    ) -> None:
        self.pausing = threading.Event()
        self._chance, self._number, self._targets = chance, number, targets
        self._history, self._counts, self._token = history, counts, token
        self._keys = [f"k/{n}" for n in range(_KEYS)]
        self._names = count(1)
        self._tags: dict[str, str] = {}
        """The last version that was seen of a key, for conditions."""
        self._connections: dict[str, tuple[str, Client]] = {}
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        self.pausing.clear()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        for _, client in self._connections.values():
            client.close()
        self._connections.clear()

    def _loop(self) -> None:
        steps: dict[Callable[[str, Client], None], int] = {
            self._put: 40,
            self._put_twice: 8,
            self._put_if: 10,
            self._delete: 9,
            self._bulk: 5,
            self._short: 4,
            self._read: 20,
            self._list: 4,
        }
        home = self._targets[self._number % len(self._targets)]
        while not self.pausing.wait(self._chance.random() * _PACE_S):
            target = home if self._chance.random() < 0.7 else self._chance.choice(self._targets)
            client = self._client(target)
            if client is None:
                self.pausing.wait(_PAUSE_S)
                continue
            (step,) = self._chance.choices(list(steps), list(steps.values()))
            if not target.takes_writes():
                step = self._read
            try:
                step(target.name, client)
            except (OSError, http.client.HTTPException):
                self._counts["no answer"] += 1
                self.pausing.wait(_PAUSE_S)
            except Exception:
                self._history.violations.append(f"an answer of {target.name} was not understood: {format_exc()}")
                return

    def _client(self, target: Target) -> Client | None:
        url = target.url()
        known = self._connections.get(target.name)
        if known is not None and known[0] == url:
            return known[1]
        if known is not None:
            known[1].close()
            del self._connections[target.name]
        if url:
            self._connections[target.name] = (url, _Authorized(url, self._token))
        return self._connections[target.name][1] if url else None

    # --- what is sent ---

    def _key(self) -> str:
        """Some keys are written all the time."""
        return self._chance.choice(self._keys[:5] if self._chance.random() < 0.3 else self._keys)

    def _json(self) -> bytes:
        document = {"name": f"{self._number}.{next(self._names)}", "text": "x" * self._chance.randrange(200)}
        return json.dumps(document, separators=(",", ":")).encode()

    def _value(self) -> tuple[bytes, dict[str, str]]:
        if self._chance.random() < 0.9:
            return self._json(), _JSON
        name = f"{self._number}.{next(self._names)} "
        return name.encode() + self._chance.randbytes(self._chance.randrange(8 * 1024)), _BLOB

    def _send(
        self, node: str, client: Client, query: str = "", headers: dict[str, str] | None = None, key: str = ""
    ) -> None:
        key = key or self._key()
        value, kind = self._value()
        mark = self._history.mark(node, key)
        write = self._history.send(key, value)
        answer = client.request("PUT", kv_path(key) + query, value, kind | (headers or {}))
        disks = 2 if query and answer.status != 202 else 1
        self._settle(node, write, mark, answer.status, _document(answer), disks)

    def _put(self, node: str, client: Client) -> None:
        self._send(node, client)

    def _put_twice(self, node: str, client: Client) -> None:
        """Acknowledged by two disks, or by this one alone when that takes too long."""
        self._send(node, client, "?w=2&timeout=500ms")

    def _put_if(self, node: str, client: Client) -> None:
        key = self._key()
        tag = self._tags.get(key)
        if tag is None or self._chance.random() < 0.2:
            self._send(node, client, headers={"If-None-Match": "*"}, key=key)
        else:
            self._send(node, client, headers={"If-Match": f'"{tag}"'}, key=key)

    def _delete(self, node: str, client: Client) -> None:
        key = self._key()
        mark = self._history.mark(node, key)
        write = self._history.send(key, None)
        answer = client.delete(key)
        self._settle(node, write, mark, answer.status, _document(answer))
        if answer.status == 204:
            self._look_at_deletion(node, client, write)

    def _look_at_deletion(self, node: str, client: Client, write: Write) -> None:
        mark = self._history.mark(node, write.key)
        newest = client.request("GET", f"/api/data/{quote(write.key)}/history/1")
        if newest.status == 200 and newest.json().get("deleted"):
            self._history.deleted(write, node, mark, newest.json()["timestamp"])

    def _bulk(self, node: str, client: Client) -> None:
        keys = self._chance.sample(self._keys, self._chance.randint(2, 10))
        self._send_bulk(node, client, [(key, self._json() if self._chance.random() < 0.8 else None) for key in keys])

    def _send_bulk(self, node: str, client: Client, items: Sequence[tuple[str, bytes | None]]) -> None:
        marks = [self._history.mark(node, key) for key, _ in items]
        writes = [self._history.send(key, value) for key, value in items]
        lines = (
            {"op": "delete", "path": key}
            if value is None
            else {"op": "put", "path": key, "encoding": "base64", "data": b64encode(value).decode()}
            if self._chance.random() < 0.2
            else {"op": "put", "path": key, "data": json.loads(value)}
            for key, value in items
        )
        body = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines).encode()
        answer = client.request("POST", kv_path("_bulk"), body)
        results = answer.json()["results"] if answer.status == 200 else [{"status": answer.status}] * len(writes)
        for write, mark, result in zip(writes, marks, results, strict=True):
            self._settle(node, write, mark, result["status"], result)

    def _short(self, node: str, client: Client) -> None:
        path = kv_path(f"short/{self._chance.randrange(10)}")
        ttl = self._chance.choice(["1s", "5s", "30s"])
        if client.request("PUT", f"{path}?ttl={ttl}", self._json(), _JSON).status < 300:
            self._counts["with an end"] += 1

    def _settle(self, node: str, write: Write, mark: Mark, status: int, answer: dict[str, Any], disks: int = 1) -> None:
        if status in (200, 201, 202, 204):
            version = answer.get("timestamp", 0), answer.get("uuid", "")
            self._history.acknowledge(write, node, mark, *version, disks=disks)
            self._tags[write.key] = answer.get("uuid", "none")
        elif status == 503:
            self._counts["refused by mode"] += 1
            if answer.get("code") in _NOTHING_WRITTEN:
                self._history.refuse(write)
            self.pausing.wait(_PAUSE_S)
        elif status in (400, 401, 404, 412):
            # 400: more copies than the node knows members. 401: by its clock the token was made an hour from now.
            self._history.refuse(write)
        else:
            self._history.violations.append(f"{node} answered a write of {write.key} with {status}: {answer}")

    # --- what is read ---

    def _read(self, node: str, client: Client) -> None:
        key = self._key()
        mark = self._history.mark(node, key)
        answer = client.get(key)
        if answer.status in (401, 503):
            self._counts["unread"] += 1
            return
        value = value_of(answer)
        if value is None:
            self._history.read(node, key, mark, None)
            return
        held = Held(int(answer.headers["X-KVS-Timestamp"]), answer.headers["ETag"].strip('"'), value)
        self._tags[key] = held.uuid
        self._history.read(node, key, mark, held)

    def _list(self, node: str, client: Client) -> None:
        """All keys in one page."""
        marks = {key: self._history.mark(node, key) for key in self._keys}
        answer = client.request("GET", "/kv/_range?prefix=k/&limit=1000")
        if answer.status != 200:
            self._counts["unread"] += 1
            return
        page = answer.json()
        found = {pair["path"]: held(pair["stored_value"]) for pair in page["pairs"]}
        if page["next_cursor"] is None:
            for key, mark in marks.items():
                self._history.read(node, key, mark, found.get(key))


def held(stored: dict[str, Any]) -> Held:
    """Of a value as ranges show it."""
    return Held(stored["timestamp"], stored["uuid"], stored_bytes(stored))


def _document(answer: Answer) -> dict[str, Any]:
    with suppress(ValueError):
        document = answer.json()
        if isinstance(document, dict):
            return document
    return {}
