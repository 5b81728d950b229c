"""Whom a command believes that it asks: an authority, or one certificate and no other.

A node on this host writes the fingerprint of its certificate into its PID file, which nobody else can write. So its own
commands need neither an authority nor the host's name, and work with a certificate that is being replaced or has ended.
"""

import hmac
import ssl
import urllib.request
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kvs.daemon.failure import Failed

if TYPE_CHECKING:
    from kvs.tls.files import Identity


class Trust(NamedTuple):
    """Without `ca_file` and `fingerprint`: the authorities that this host believes. `identity` is shown to a node that
    wants a certificate."""

    ca_file: Path | None = None
    fingerprint: str = ""
    identity: "Identity | None" = None

    def opener(self, url: str) -> urllib.request.OpenerDirector:
        """For asking the node at `url`, directly and nobody else. Raises Failed or StartError when a file cannot be
        used."""
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirects()]
        if url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=self.context()))
        return urllib.request.build_opener(*handlers)

    def context(self) -> ssl.SSLContext:
        """For asking by HTTPS. Raises Failed or StartError when a file cannot be used."""
        context: ssl.SSLContext
        if self.fingerprint:
            context = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
            context.fingerprint = self.fingerprint
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # the fingerprint says more than any authority could
        else:
            try:
                context = ssl.create_default_context(cafile=self.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise Failed(f"cannot use {self.ca_file}: {error.strerror or error}") from None
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.identity is not None:
            from kvs.tls.contexts import show

            show(context, self.identity)
        return context


class _PinnedObject(ssl.SSLObject):
    """Says nothing to a node that has another certificate than the one expected."""

    def do_handshake(self) -> None:
        super().do_handshake()
        _check(self)


class _PinnedSocket(ssl.SSLSocket):
    """The same for those who read and write sockets."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _check(self)


class _PinnedContext(ssl.SSLContext):
    sslobject_class = _PinnedObject
    sslsocket_class = _PinnedSocket
    fingerprint = ""


def _check(end: _PinnedObject | _PinnedSocket) -> None:
    assert isinstance(end.context, _PinnedContext)
    shown = sha256(end.getpeercert(binary_form=True) or b"").hexdigest()
    if not hmac.compare_digest(shown, end.context.fingerprint):
        # With a number, or what shows the error would not find the words.
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, "it has another certificate than the node that was started here")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A node never sends anybody elsewhere; who does is not to get the token."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
