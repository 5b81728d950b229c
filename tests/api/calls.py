"""One good call for every route. A route that is not here fails the tests, so that no new one goes without."""

from collections.abc import Mapping
from typing import NamedTuple

from tests.api.client import Client, Reply

_NO_HEADERS: Mapping[str, str] = {}


class Call(NamedTuple):
    """`target` and `body` hold `{key}` where the name of a key goes that `prepare` has filled."""

    target: str
    status: int
    body: bytes | None = None

    def send(self, client: Client, key: str, method: str, headers: Mapping[str, str] = _NO_HEADERS) -> Reply:
        body = None if self.body is None else self.body.replace(b"{key}", key.encode())
        return client.send(method, self.target.format(key=key), body, headers)


CALLS = {
    ("GET", "/kv/_range"): Call("/kv/_range?prefix={key}", 200),
    ("GET", "/kv/_list"): Call("/kv/_list?prefix={key}", 200),
    ("POST", "/kv/_bulk"): Call("/kv/_bulk", 200, b'{"op":"put","path":"{key}/bulk","data":1}'),
    ("GET", "/kv/{key}/metadata"): Call("/kv/{key}/metadata", 200),
    ("PUT", "/kv/{key}/metadata"): Call("/kv/{key}/metadata", 200, b'{"permissions":1}'),
    ("GET", "/kv/{key}"): Call("/kv/{key}", 200),
    ("PUT", "/kv/{key}"): Call("/kv/{key}/new", 201, b"1"),
    ("DELETE", "/kv/{key}"): Call("/kv/{key}", 204),
    ("POST", "/api/data/{key}/history/{n}/restore"): Call("/api/data/{key}/history/2/restore", 200),
    ("GET", "/api/data/{key}/history"): Call("/api/data/{key}/history", 200),
    ("GET", "/api/data/{key}/history/{n}"): Call("/api/data/{key}/history/2", 200),
    ("GET", "/watch"): Call("/watch?prefix={key}", 200),
    ("POST", "/api/backup"): Call("/api/backup", 201),
    ("GET", "/api/backup"): Call("/api/backup", 200),
    ("GET", "/api/backup/status"): Call("/api/backup/status", 200),
    ("POST", "/api/backup/restore"): Call("/api/backup/restore", 200, b"\x90"),
    ("GET", "/api/audit"): Call("/api/audit", 200),
    ("GET", "/api/audit/heads"): Call("/api/audit/heads", 200),
    ("GET", "/api/audit/kept"): Call("/api/audit/kept", 200),
    ("GET", "/health"): Call("/health", 200),
    ("GET", "/ready"): Call("/ready", 200),
    ("GET", "/metrics"): Call("/metrics", 200),
    ("GET", "/openapi.json"): Call("/openapi.json", 200),
}
"""(Method, documented path) to a call that succeeds."""

ROUTES = sorted(CALLS)
READS = [route for route in ROUTES if route[0] == "GET"]
WRITES = [route for route in ROUTES if route[0] != "GET" and not route[1].startswith("/api/backup")]
"""Those that change something under the key."""
WITH_BODY = [route for route in ROUTES if CALLS[route].body is not None]


def name(route: object) -> str:
    """For the names of tests."""
    return " ".join(route) if isinstance(route, tuple) else str(route)


def prepare(client: Client, key: str) -> None:
    """Make the key one for which all calls succeed: with a value, one before it, and metadata."""
    client.put(f"/kv/{key}", b"1")
    client.put(f"/kv/{key}", b"2")
    client.put(f"/kv/{key}/metadata", b"{}")
