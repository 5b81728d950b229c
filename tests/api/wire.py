"""A bare connection, for what no HTTP client would send."""

import select
import socket
import ssl
import struct
from contextlib import suppress
from types import TracebackType

from tests.api.client import TIMEOUT_S, Reply, check, read_reply


class Wire:
    """One TCP connection to a node, with TLS on it or without."""

    def __init__(self, address: tuple[str, int], *, receive_bytes: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """`receive_bytes` makes the client's buffer small, so that the node feels when nobody reads."""
        self._socket = socket.socket()
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(address)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname=address[0])
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._file.close()
        self._socket.close()

    @property
    def certificate(self) -> bytes:
        """What the node showed; DER."""
        assert isinstance(self._socket, ssl.SSLSocket)
        return self._socket.getpeercert(binary_form=True) or b""

    def write(self, data: bytes) -> None:
        """Send; the node may have closed already."""
        with suppress(ConnectionError):
            self._socket.sendall(data)

    def end(self) -> None:
        """Say that nothing more will come."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go away without a goodbye, as a client that crashed: the node gets a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        self._socket.close()

    def take(self, count: int) -> bytes:
        """So many bytes, fewer at the end."""
        return self._file.read(count)

    def reply(self) -> Reply | None:
        """The next answer, held against the common rules; None when the node has closed."""
        try:
            reply = read_reply(self._file)
        except (ConnectionError, ssl.SSLError):  # the latter: without the goodbye of TLS
            return None
        if reply is not None:
            check(reply)
        return reply

    def replies(self) -> list[Reply]:
        """All answers until the node closes, which it must do in good time."""
        found: list[Reply] = []
        while (reply := self.reply()) is not None:
            found.append(reply)
        return found

    def is_quiet(self, for_s: float) -> bool:
        """Whether neither an answer nor the end comes meanwhile."""
        return not select.select([self._socket], [], [], for_s)[0]

    def wait(self) -> None:
        """Until an answer begins to come, or the end."""
        select.select([self._socket], [], [], TIMEOUT_S)

    def is_aborted(self) -> bool:
        """Whether the node cuts the connection off while its answer lies here unread."""
        poll = select.poll()
        poll.register(self._socket, 0)
        return bool(poll.poll(TIMEOUT_S * 1000))
