"""What a web page may ask for that a browser has opened, where nobody is asked for a token.

A browser lets every page send requests to every address that it reaches itself, so to a node on the loopback address
of the same host. Two things tell such requests from those of programs:

    Origin, Sec-Fetch-Site   the page is of another site. It cannot read the answer, but a write would be done.
    Host                     the page's owner lets the name of his site lead to a loopback address for a moment (DNS
                             rebinding): to the browser the node is then that site, and the page may read and write.

Requests with a token pass: a browser adds none on its own.
"""

import socket
from collections.abc import Iterable
from functools import lru_cache

from aiohttp import hdrs, web
from multidict import istr

from kvs.cluster.address import host_of, is_loopback
from kvs.config import Config
from kvs.errors import Forbidden
from kvs.setting_checks import is_ip

_READING = frozenset(("GET", "HEAD", "OPTIONS"))
_FETCH_SITE = istr("Sec-Fetch-Site")
_OWN_SITE = frozenset(("same-origin", "none"))
_REMEMBERED = 64
_UNOWNED = tuple(f".{name}" for name in ("localhost", "local", "internal", "home.arpa", "test", "invalid", "example"))
_UNOWNED += tuple(f".example.{top}" for top in ("com", "net", "org"))
"""Names that nobody can register for a site: RFC 2606, RFC 6761, RFC 6762, RFC 8375, and ICANN's `internal`."""


class Browsers:
    """Judges requests that came without a token."""

    def __init__(self, names: Iterable[str] | None) -> None:
        """`names` are what the node's host is called, besides its addresses and names that no site can have. None for
        any: who listens on a network is called what its users like."""
        self._names = None if names is None else frozenset(name.lower() for name in names)
        self._is_known = lru_cache(_REMEMBERED)(self._knows)

    def check(self, request: web.BaseRequest) -> None:
        """Raises Forbidden."""
        host = request.headers.get(hdrs.HOST, "")
        if not self._is_known(host):
            raise Forbidden(
                "this node listens on a loopback address and does not go by the name in the field Host",
                code="foreign_host",
            )
        if request.method in _READING:
            return
        origin = request.headers.get(hdrs.ORIGIN)
        is_foreign = origin is not None and origin.partition("://")[2].lower() != host.lower()
        if is_foreign or request.headers.get(_FETCH_SITE, "none") not in _OWN_SITE:
            raise Forbidden("a web page of another site may not write without a token", code="foreign_origin")

    def _knows(self, host: str) -> bool:
        """`host` is the field as it came: a name or an address, maybe with a port."""
        if self._names is None or not host:
            return True
        name = host.lower() if host.endswith("]") or ":" not in host else host_of(host.lower())
        name = name.strip("[]").rstrip(".")
        return "." not in name or name in self._names or f".{name}".endswith(_UNOWNED) or is_ip(name)


def browsers_of(config: Config) -> Browsers:
    """Those that a node with this configuration meets."""
    if not is_loopback(config.bind_address):
        return Browsers(None)
    return Browsers((config.bind_address, host_of(config.advertise_address), socket.gethostname()))
