"""The way of a connection with TLS: accepted, agreed on, handed to the HTTP server.

    accept ─ too many? ─ handshake, within its deadline ─ Connection ─ … ─ lost

asyncio's servers can do this by themselves, but tell nothing of a connection before its handshake is over. Clients that
never finish one would then cost open files that the database needs, fail in silence, and be in the way when the node
stops. Each handshake is made with the certificates of that moment, so that new ones count at once.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from kvs.limits import (
    ACCEPT_RETRY_PAUSE_S,
    CONNECTIONS_MAX,
    HANDSHAKE_LINE_INTERVAL_S,
    HANDSHAKE_TIMEOUT_S,
    LISTEN_BACKLOG,
    RESPONSE_STALL_TIMEOUT_S,
    TLS_ABORT_TIMEOUT_S,
    TLS_RECEIVE_BYTES,
)
from kvs.server.connection import Connection, HttpServer
from kvs.tls.contexts import handshake_socket, reason_of

log = structlog.get_logger()


class TlsListener:
    """Serves HTTPS at one address. To be used on one event loop."""

    def __init__(self, http: HttpServer, context: Callable[[], ssl.SSLContext]) -> None:
        """`context`: what a handshake that begins now is made with."""
        self._http = http
        self._context = context
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}
        self._open: set[Connection] = set()
        self._all_lost = asyncio.Event()
        self._failed = 0
        self._next_line_s = 0.0

    async def listen(self, host: str, port: int) -> int:
        """Accept connections from now on; the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                self._sockets.append(listening := socket.socket(family, kind, protocol))
                listening.setblocking(False)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.bind(address)
                listening.listen(LISTEN_BACKLOG)
        except OSError:
            self.close()
            raise
        self._accepting = [loop.create_task(self._accept(listening)) for listening in self._sockets]
        return int(self._sockets[0].getsockname()[1])

    def close(self) -> None:
        """Accept nobody any more. What is open stays."""
        for task in self._accepting:
            task.cancel()
        for listening in self._sockets:
            listening.close()

    async def stop(self) -> None:
        """End what is open still, whatever the clients do."""
        for accepted in self._handshakes.values():
            with suppress(OSError):
                accepted.shutdown(socket.SHUT_RDWR)
        for connection in list(self._open):
            connection.abort()
        await asyncio.gather(*self._accepting, *self._handshakes, return_exceptions=True)
        if self._open:
            self._all_lost.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(TLS_ABORT_TIMEOUT_S):
                    await self._all_lost.wait()

    def made(self, connection: Connection) -> None:
        self._open.add(connection)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._all_lost.set()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:  # no open files are left, say
                log.warning("A connection could not be accepted", reason=error.strerror)
                await asyncio.sleep(ACCEPT_RETRY_PAUSE_S)
                continue
            if len(self._open) + len(self._handshakes) >= CONNECTIONS_MAX:
                accepted.close()
                continue
            task = loop.create_task(self._shake_hands(accepted, str(address[0])))
            self._handshakes[task] = accepted
            task.add_done_callback(self._handshakes.pop)

    async def _shake_hands(self, accepted: socket.socket, client: str) -> None:
        connection = self._http()
        connection.watcher = self
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TLS_RECEIVE_BYTES)
        handshake_socket.set(accepted)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._context(),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=RESPONSE_STALL_TIMEOUT_S,
            )
        except ssl.SSLError as error:
            self._tell_of(error, client)
        except OSError:
            pass  # it went away, or took too long

    def _tell_of(self, error: ssl.SSLError, client: str) -> None:
        """A line now and then: whoever can reach the port can fail as often as he likes."""
        self._failed += 1
        now_s = time.monotonic()
        if now_s >= self._next_line_s:
            log.info("TLS handshakes failed", count=self._failed, last_client=client, last_reason=reason_of(error))
            self._failed = 0
            self._next_line_s = now_s + HANDSHAKE_LINE_INTERVAL_S
