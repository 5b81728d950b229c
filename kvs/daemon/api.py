"""Asking a node's HTTP API from the command line. Every failure becomes one line and an exit code."""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from kvs.daemon.failure import CONDITION, FAILED, LIMITED, NOT_FOUND, REFUSED, UNREACHABLE, Failed
from kvs.daemon.trust import Trust

_HOST_TRUST = Trust()
_TIMEOUT_S = 30.0
_EXIT_CODES = {401: REFUSED, 403: REFUSED, 404: NOT_FOUND, 409: CONDITION, 412: CONDITION, 429: LIMITED}


class Api:
    """One node, asked with one credential."""

    def __init__(
        self,
        url: str,
        authorization: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        trust: Trust = _HOST_TRUST,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """`authorization` is the whole field, empty for none. Raises Failed for a URL that is none, and for files that
        `trust` names and that cannot be used."""
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise Failed(f"not a URL of a node: {url!r}; write it like http://127.0.0.1:8080")
        self._url = url.rstrip("/")
        self._authorization = authorization
        self._trust = trust
        self._timeout_s = timeout_s
        self._opener = trust.opener(url)
        self._headers = {**headers, **({"Authorization": authorization} if authorization else {})}

    def at(self, address: str, timeout_s: float) -> "Api":
        """Another node of the cluster, asked in the same way."""
        scheme = urllib.parse.urlsplit(self._url).scheme
        return Api(f"{scheme}://{address}", self._authorization, trust=self._trust, timeout_s=timeout_s)

    def call(self, method: str, path: str, body: object = None, *, if_match: str = "") -> Any:
        """The answer's JSON, None when it has no body. Raises Failed."""
        headers = {"If-Match": if_match} if if_match else {}
        if body is None:
            return self._exchange(method, path, None, headers)[0]
        return self._exchange(method, path, json.dumps(body).encode(), headers | {"Content-Type": "application/json"})[
            0
        ]

    def send(self, path: str, body: bytes, content_type: str) -> Any:
        """Post a body that is no JSON; the answer's. Raises Failed."""
        return self._exchange("POST", path, body, {"Content-Type": content_type})[0]

    def read(self, path: str) -> tuple[Any, str]:
        """A document and its entity tag, for `if_match`. Raises Failed."""
        return self._exchange("GET", path, None, {})

    def _exchange(self, method: str, path: str, body: bytes | None, more: Mapping[str, str]) -> tuple[Any, str]:
        request = urllib.request.Request(  # noqa: S310 - checked above
            self._url + path, body, {**self._headers, **more}, method=method
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                answer, tag = response.read(), response.headers.get("ETag", "")
        except urllib.error.HTTPError as error:
            with error:
                raise Failed(_explain(error), _EXIT_CODES.get(error.code, FAILED)) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise Failed(f"no node answers at {self._url}: {reason}", UNREACHABLE) from None
        try:
            return json.loads(answer) if answer else None, tag
        except ValueError:
            raise Failed(f"what answers at {self._url} is no node of KVS") from None

    def pages(self, path: str, name: str, **query: str) -> Iterator[Mapping[str, Any]]:
        """The items of all pages of a list."""
        while True:
            page = self.call("GET", f"{path}?{urllib.parse.urlencode(query)}")
            yield from page[name]
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]


def _explain(error: urllib.error.HTTPError) -> str:
    """The problem document's sentence."""
    try:
        problem = json.loads(error.read())
        return f"{problem['detail']} ({error.code} {problem['code']})"
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return f"the node answered {error.code} {error.reason}"
