"""HTTP to one of several nodes: which one, how often, how long, and what an answer means.

    what came of a request         what follows
    it never left                  another node, as long as there is time
    no answer, 502, 504            the same for what may be repeated, else `Doubt`
    429                            the same node, when it says
    503 with nothing written       another node
    503 otherwise                  as no answer
    any other refusal              ApiError
    2xx                            an Answer

A write is never repeated here once a node may have got it: see `kvs/client/writes.py`.
"""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from io import BytesIO
from random import SystemRandom
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import orjson
from yarl import URL

from kvs.client.endpoints import Endpoints
from kvs.client.errors import ApiError, ClientError, ProtocolError, UnreachableError, api_error
from kvs.client.sendable import checked_fields

_chance = SystemRandom()
_NONE: Mapping[str, str] = MappingProxyType({})
_CONNECT_TIMEOUT_S = 3.0
_WHOLE_MAX_BYTES = 1024 * 1024
_SLOWEST_BYTES_PER_S = 32 * 1024
"""A body may take its size at this rate longer; the node cuts off who is slower."""
_RETRY_AFTER_DEFAULT_S = 1.0
_RETRY_AFTER_MAX_S = 60.0
NOTHING_WRITTEN = frozenset(("syncing", "clock_skew", "starting", "leaving", "watcher_limit", "read_only"))
"""Codes of refusals that another node may not share, and after which surely nothing was written."""


class Answer(NamedTuple):
    """Names of header fields are as `aiohttp` has them: in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def json(self) -> Any:
        """Raises ProtocolError."""
        try:
            return orjson.loads(self.body)
        except ValueError:
            raise ProtocolError(f"what answers at {self.url} is no node of KVS") from None

    @property
    def etag(self) -> str:
        """Without its quotes."""
        return self.headers.get("ETag", "").strip('"')


class Doubt(ClientError):
    """The node at `url` may have carried out the request."""

    def __init__(self, url: str, reason: Exception | str) -> None:
        super().__init__(str(reason))
        self.url = url


class _NotSent(Exception):
    """The request has not reached a node."""


class _NoAnswer(Exception):
    """The request may have reached a node."""


class Http:
    """Requests on behalf of one program. To be used on one event loop."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        headers: Mapping[str, str],
        ssl_context: ssl.SSLContext | None,
        timeout_s: float,
        retry_s: float,
    ) -> None:
        """Raises ValueError for what is no URL of a node, and UnsendableError."""
        self.endpoints = Endpoints([checked_url(url) for url in urls])
        if not self.endpoints.urls:
            raise ValueError("a client needs the URL of a node, such as http://127.0.0.1:8080")
        self.timeout_s = timeout_s
        self.retry_s = retry_s
        self._headers = dict(checked_fields(headers))
        self._ssl: ssl.SSLContext | bool = True if ssl_context is None else ssl_context
        self._session: aiohttp.ClientSession | None = None
        self._offsets_ms: dict[str, int] = {}

    def authorize(self, authorization: str) -> None:
        """The `Authorization` field of all requests from now on; none if it is empty. Raises UnsendableError."""
        checked_fields({"Authorization": authorization})
        self._headers.pop("Authorization", None)
        if authorization:
            self._headers["Authorization"] = authorization

    @property
    def authorization(self) -> str:
        return self._headers.get("Authorization", "")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] = _NONE,
        repeatable: bool = False,
        patience_s: float = 0.0,
        at: str = "",
        is_about_node: bool = False,
    ) -> Answer:
        """The answer of one of the nodes, or of the one `at` this URL. `target` is path and query, encoded;
        `patience_s` is how much longer than usual the node may take. A request that `is_about_node` takes a 503 of the
        last node for what it asked, and does not wait until the node is well. Raises ApiError, UnreachableError,
        ProtocolError, UnsendableError, and Doubt unless it is `repeatable`."""
        checked_fields(headers)
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.retry_s + patience_s
        tried: list[str] = []
        last: ClientError | None = None
        pause_s = 0.0
        while True:
            url, wait_s = (at, 0.0) if at else self.endpoints.choose(loop.time())
            if at and last is not None:
                raise last
            wait_s = max(wait_s, pause_s)
            if last is not None and (wait_s or url in tried) and loop.time() + wait_s > deadline_s:
                raise last
            await asyncio.sleep(wait_s)
            pause_s = rest_s = 0.0
            try:
                answer = await self._once(url, method, target, body, headers, patience_s)
                self.endpoints.answered(url)
                if answer.status < 400:
                    return answer
                error = last = _refusal(answer)
                if is_about_node and error.status == 503 and self._were_all_asked([*tried, url]):
                    raise error
                if not self._may_be_tried_again(error, repeatable=repeatable, tried=tried):
                    raise error
                if error.status == 429:
                    pause_s = error.retry_after_s or 0.0  # another node would only be asked to bear it instead
                    continue
                rest_s = error.retry_after_s or 0.0
            except _NotSent as failure:
                last = UnreachableError(f"no node answers at {', '.join(dict.fromkeys([*tried, url]))}: {failure}")
            except _NoAnswer as failure:
                if not repeatable:
                    self.endpoints.failed(url, loop.time(), _chance.random())
                    raise Doubt(url, str(failure)) from None
                last = UnreachableError(f"no answer from {url}: {failure}")
            tried.append(url)
            self.endpoints.failed(url, loop.time(), _chance.random(), rest_s)

    def _were_all_asked(self, tried: Sequence[str]) -> bool:
        return set(self.endpoints.urls) <= set(tried)

    def _may_be_tried_again(self, error: ApiError, *, repeatable: bool, tried: Sequence[str]) -> bool:
        """Raises Doubt for a write that may have happened."""
        if error.status == 429:
            return True
        if error.code == "read_only":
            return not self._were_all_asked([*tried, error.url])
        if error.code in NOTHING_WRITTEN:
            return True
        if error.status not in (502, 503, 504) or error.code == "corrupt_record":
            return False
        if not repeatable:
            raise Doubt(error.url, error) from error
        return True

    @asynccontextmanager
    async def stream(
        self, url: str, target: str, headers: Mapping[str, str], silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of an answer that goes on, from this one node; the stream breaks off when nothing comes for so
        long. Raises ApiError, UnreachableError, ProtocolError, UnsendableError."""
        checked_fields(headers)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=silence_s)
        try:
            async with self._open().get(
                URL(url + target, encoded=True),
                headers={**self._headers, **headers},
                timeout=timeout,
                ssl=self._ssl,
                allow_redirects=False,
            ) as response:
                if response.status >= 300:
                    raise _refusal(Answer(response.status, response.headers, await response.read(), url))
                yield response.content.iter_any()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnreachableError(f"no node answers at {url}: {_reason(error)}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"the stream from {url} broke off: {_reason(error)}") from None

    def offset_ms(self, url: str) -> int | None:
        """By how much the clock of a node is ahead of that of this host, a second too low at most; None if it never
        answered."""
        return self._offsets_ms.get(url)

    async def _once(
        self, url: str, method: str, target: str, body: bytes | None, headers: Mapping[str, str], patience_s: float
    ) -> Answer:
        """Raises _NotSent, _NoAnswer."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=min(_CONNECT_TIMEOUT_S, self.timeout_s), sock_read=self.timeout_s + patience_s
        )
        total_s = self.timeout_s + patience_s + len(body or b"") / _SLOWEST_BYTES_PER_S
        try:
            async with asyncio.timeout(total_s) as limit:
                response = await self._open().request(
                    method,
                    URL(url + target, encoded=True),
                    # aiohttp warns of larger bytes: it would write them at once.
                    data=body if body is None or len(body) <= _WHOLE_MAX_BYTES else BytesIO(body),
                    headers={**self._headers, **headers},
                    timeout=timeout,
                    ssl=self._ssl,
                    allow_redirects=False,
                )
                limit.reschedule(None)  # what comes slowly is watched by `sock_read`
            async with response:
                content = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _NotSent(_reason(error)) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _NoAnswer(_reason(error)) from None
        self._note_time(url, response.headers.get("Date", ""))
        return Answer(response.status, response.headers, content, url)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Content-Type"),
            )
            # aiohttp repeats PUT and DELETE by itself when a connection that was kept breaks. The node may have carried
            # them out by then.
            self._session._retry_connection = False
        return self._session

    def _note_time(self, url: str, date: str) -> None:
        try:
            node_ms = round(parsedate_to_datetime(date).timestamp() * 1000)
        except ValueError:
            return
        self._offsets_ms[url] = node_ms - _unix_ms()


def checked_url(url: str) -> str:
    """Without a slash at its end. Raises ValueError."""
    if not _is_of_node(url):
        raise ValueError(f"not a URL of a node: {url!r}; write it like http://127.0.0.1:8080")
    return url.rstrip("/")


def _is_of_node(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port != 0
        url.encode()
        (parts.hostname or "").encode("idna")
    except ValueError:  # an address in brackets, a port or a name that is none
        return False
    is_plain = not (parts.query or parts.fragment or parts.username)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and has_port and is_plain


def _refusal(answer: Answer) -> ApiError:
    try:
        problem = orjson.loads(answer.body)
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    return api_error(answer.status, problem, answer.url, _retry_after_s(answer))


def _retry_after_s(answer: Answer) -> float | None:
    text = answer.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return min(float(text), _RETRY_AFTER_MAX_S)
    return _RETRY_AFTER_DEFAULT_S if answer.status == 429 else None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "it took too long"
    if isinstance(error, aiohttp.ClientConnectorError):
        return re.sub(r" ssl:.*? \[", " [", str(error), count=1)  # how the library was told whom to believe
    return str(error) or type(error).__name__


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
