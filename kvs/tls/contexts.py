"""What is spoken: TLS 1.2 or later, with ciphers that keep past traffic secret when a key is lost.

TLS 1.3 allows no others anyway; of 1.2 only ECDHE with AES-GCM or ChaCha20-Poly1305 is left.
"""

import os
import socket
import ssl
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from kvs.errors import StartError
from kvs.tls.files import Authority, Identity

_CIPHERS = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"

handshake_socket: ContextVar[socket.socket] = ContextVar("handshake_socket")
"""The connection whose handshake is made in this task. A failure is told to the client on it."""


class _Handshake(ssl.SSLObject):
    """The server's side of TLS. uvloop hangs up on a handshake that fails and forgets the alert that says why."""

    _unsent: ssl.MemoryBIO
    _socket: socket.socket | None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLWantReadError:
            raise  # it goes on when the client has sent more
        except ssl.SSLError:
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.send(self._unsent.read())
            raise


class _ServerContext(ssl.SSLContext):
    sslobject_class = _Handshake

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *others: Any, **more: Any) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *others, **more)
        assert isinstance(made, _Handshake)
        made._unsent, made._socket = outgoing, handshake_socket.get(None)
        return made


def server_context(identity: Identity, authority: Authority | None) -> ssl.SSLContext:
    """For being asked. With `authority`, clients are asked for a certificate of it: one that is not is refused, none at
    all is no error here. Raises StartError."""
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    show(context, identity)
    if authority is not None:
        _believe(context, authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(identity: Identity | None, authority: Authority | None) -> ssl.SSLContext:
    """For asking nodes: believes what `authority` has issued for the host that is asked, and shows `identity` to who
    wants a certificate. Without `authority` it believes anybody. Raises StartError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _believe(context, authority)
    if identity is not None:
        show(context, identity)
    return context


def reason_of(error: ssl.SSLError) -> str:
    """The library's word for a failure, and what it says of a certificate that it does not believe."""
    reason = str(getattr(error, "reason", None) or error)
    why = getattr(error, "verify_message", "")
    return f"{reason}: {why}" if why else reason


def show(context: ssl.SSLContext, identity: Identity) -> None:
    """Let `context` show this certificate. Raises StartError."""
    # The library reads files only. This one is in memory and has no name, so that the key is on no disk once more.
    descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(identity.pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        raise StartError(f"the certificate cannot be used: {error.reason or error}") from None
    finally:
        os.close(descriptor)


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)


def _believe(context: ssl.SSLContext, authority: Authority) -> None:
    """What stands in the file is believed, be it a root or not."""
    context.load_verify_locations(cadata=authority.pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
