"""Every way to a key, for tests that must find all of them closed."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.api.accounts import Caller
from tests.api.client import Reply

_NO_HEADERS: Mapping[str, str] = {}
SAME_ID = {"X-Request-ID": "same"}


class Way(NamedTuple):
    """A request about a key. `{key}` is its path, `{flat}` the same with `%2F`, `{uuid}` its current version."""

    method: str
    target: str
    body: bytes | None = None
    headers: Mapping[str, str] = _NO_HEADERS

    @property
    def name(self) -> str:
        return " ".join((self.method, self.target, *((self.body or b"").decode().split()), *self.headers))

    def ask(self, caller: Caller, key: str, uuid: str = "") -> Reply:
        """The request id is always the same, so that answers can be compared."""
        names = {"key": key, "flat": key.replace("/", "%2F"), "uuid": uuid}
        headers = {name: value.format(**names) for name, value in self.headers.items()}
        body = self.body
        for name, value in names.items():
            body = None if body is None else body.replace(f"{{{name}}}".encode(), value.encode())
        return caller.send(self.method, self.target.format(**names), body, {**SAME_ID, **headers})


READS = [
    Way("GET", "/kv/{key}"),
    Way("HEAD", "/kv/{key}"),
    Way("GET", "/kv/{flat}"),
    Way("GET", "/kv/{key}?metadata=1"),
    Way("GET", "/kv/{key}", None, {"If-None-Match": "*"}),
    Way("GET", "/kv/{key}", None, {"If-None-Match": '"{uuid}"'}),
    Way("GET", "/kv/{key}", None, {"If-Match": '"{uuid}"'}),
    Way("GET", "/kv/{key}", None, {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
    Way("HEAD", "/kv/{key}", None, {"If-None-Match": '"{uuid}"'}),
    Way("GET", "/kv/{key}", None, {"Range": "bytes=0-0"}),
    Way("GET", "/api/data/{key}/history"),
    Way("HEAD", "/api/data/{key}/history"),
    Way("GET", "/api/data/{flat}/history"),
    *(Way("GET", f"/api/data/{{key}}/history/{number}") for number in (1, 2, 3, 99)),
    Way("HEAD", "/api/data/{key}/history/1"),
]
"""Refused with 403 to whoever may not read."""

WRITES = [
    Way("PUT", "/kv/{key}", b'"forced"'),
    Way("PUT", "/kv/{flat}", b'"forced"'),
    Way("PUT", "/kv/{key}?ttl=1h", b'"forced"'),
    Way("PUT", "/kv/{key}", b"forced", {"Content-Type": "text/plain"}),
    Way("PUT", "/kv/{key}", b'"forced"', {"If-None-Match": "*"}),
    Way("PUT", "/kv/{key}", b'"forced"', {"If-None-Match": '"{uuid}"'}),
    Way("PUT", "/kv/{key}", b'"forced"', {"If-Match": "*"}),
    Way("PUT", "/kv/{key}", b'"forced"', {"If-Match": '"{uuid}"'}),
    Way("PUT", "/kv/{key}", b'"forced"', {"If-Match": '"other"'}),
    *(Way("POST", f"/api/data/{{key}}/history/{number}/restore") for number in (1, 2, 3, 99)),
    Way("POST", "/api/data/{flat}/history/1/restore"),
    Way("POST", "/api/data/{key}/history/2/restore", None, {"If-Match": '"{uuid}"'}),
    Way("POST", "/api/data/{key}/history/2/restore", None, {"If-None-Match": "*"}),
]
"""Refused with 403 to whoever may neither create nor write."""

DELETES = [
    Way("DELETE", "/kv/{key}"),
    Way("DELETE", "/kv/{flat}"),
    *(Way("DELETE", "/kv/{key}", None, {"If-Match": tag}) for tag in ("*", '"{uuid}"', '"other"')),
    Way("DELETE", "/kv/{key}", None, {"If-None-Match": "*"}),
]
"""Refused with 403 to whoever may not delete."""

METADATA = [
    Way("GET", "/kv/{key}/metadata"),
    Way("HEAD", "/kv/{key}/metadata"),
    Way("GET", "/kv/{key}/metadata?effective=true"),
    Way("GET", "/kv/{flat}/metadata"),
    Way("PUT", "/kv/{key}/metadata", b"{}"),
    Way("PUT", "/kv/{key}/metadata", b'{"permissions":4095}'),
    Way("PUT", "/kv/{flat}/metadata", b'{"owner_uuid":null}'),
]
"""Refused with 403 to whoever does not own the key, however much its permissions let others do."""

_ITEMS = (
    b'{"op":"put","path":"{key}","data":"forced"}',
    b'{"op":"put","path":"{key}","data":"forced","ttl":"1h"}',
    b'{"op":"put","path":"{key}","data":"Zm9yY2Vk","encoding":"base64","content_type":"a/b"}',
    b'{"op":"put","path":"{key}","data":"forced","if_match":"{uuid}"}',
    b'{"op":"put","path":"{key}","data":"forced","if_match":"other"}',
    b'{"op":"put","path":"{key}","data":"forced","if_none_match":"*"}',
    b'{"op":"delete","path":"{key}"}',
    b'{"op":"delete","path":"{key}","if_match":"{uuid}"}',
    b'{"op":"delete","path":"{key}","if_match":"other"}',
)
BULK = [Way("POST", "/kv/_bulk", item) for item in _ITEMS]
"""Answered with 200, and 403 in the place of the item."""


def statuses(caller: Caller, ways: list[Way], key: str, uuid: str = "") -> Iterator[tuple[str, int]]:
    """By the names of the ways; of `_bulk` the item's."""
    for way in ways:
        reply = way.ask(caller, key, uuid)
        yield way.name, reply.json["results"][0]["status"] if way in BULK and reply.status == 200 else reply.status
