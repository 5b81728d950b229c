"""A small HTTP client that sends what it is told, byte for byte, and holds every answer against the common rules.

Ready-made clients tidy up targets, headers and bodies; these tests are about what arrives untidy.
"""

import json
import re
import select
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, BinaryIO, NamedTuple

from tests.api.described import check_described

TIMEOUT_S = 20.0
_NO_HEADERS: Mapping[str, str] = {}
_BODILESS = (204, 304)


class Reply(NamedTuple):
    """One answer. Names of header fields are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> object:
        """The stable word of a problem document."""
        return self.json["code"]

    @property
    def is_last(self) -> bool:
        return self.headers.get("connection") == "close"


class Client:
    """Talks to one node over one connection, opened anew when the node has closed it, also while it was idle."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.address = address
        self._tls = tls
        self._socket: socket.socket | None = None
        self._file: BinaryIO | None = None

    def close(self) -> None:
        if self._socket is not None and self._file is not None:
            self._file.close()
            self._socket.close()
        self._socket = self._file = None

    def send(
        self,
        method: str,
        target: str | bytes,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> Reply:
        """One exchange. A body that is not bytes is sent in chunks."""
        if self._is_ended():
            self.close()
        with suppress(ConnectionError):  # the node may refuse a body and close before it is all sent
            self.write(request(method, target, body, headers))
        reply = self.read(method)
        check_described(method, target, reply)
        return reply

    def get(self, target: str, **headers: str) -> Reply:
        return self.send("GET", target, headers=_named(headers))

    def put(self, target: str, body: bytes | Iterable[bytes], **headers: str) -> Reply:
        return self.send("PUT", target, body, _named(headers))

    def post(self, target: str, body: bytes | Iterable[bytes] | None = None, **headers: str) -> Reply:
        return self.send("POST", target, body, _named(headers))

    def delete(self, target: str, **headers: str) -> Reply:
        return self.send("DELETE", target, headers=_named(headers))

    def _is_ended(self) -> bool:
        """Whether the node has closed the connection. (Of TLS nobody can tell without taking what else has come.)"""
        if self._socket is None or self._tls is not None:
            return False
        reading = select.poll()
        reading.register(self._socket, select.POLLIN)
        return bool(reading.poll(0)) and self._socket.recv(1, socket.MSG_PEEK) == b""

    # --- piece by piece ---

    def open(self) -> None:
        if self._socket is None:
            plain = socket.create_connection(self.address, timeout=TIMEOUT_S)
            self._socket = plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname=self.address[0])
            self._file = self._socket.makefile("rb")

    def write(self, data: bytes) -> None:
        self.open()
        assert self._socket is not None
        self._socket.sendall(data)

    def read(self, method: str = "GET") -> Reply:
        """The next answer, checked. Raises ConnectionError when there is none."""
        assert self._file is not None
        reply = read_reply(self._file, method)
        if reply is None:
            self.close()
            raise ConnectionError("the node closed the connection without an answer")
        if reply.is_last:
            self.close()
        check(reply, method)
        return reply

    def read_line(self) -> bytes:
        assert self._file is not None
        return self._file.readline()


def request(
    method: str,
    target: str | bytes,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> bytes:
    """The bytes of a request."""
    raw_target = target if isinstance(target, bytes) else target.encode("ascii")
    lines = [f"{name}: {value}".encode() for name, value in {"Host": "kvs.test", **headers}.items()]
    content = b""
    if isinstance(body, bytes):
        lines.append(b"Content-Length: %d" % len(body))
        content = body
    elif body is not None:
        lines.append(b"Transfer-Encoding: chunked")
        content = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*body, b""))
    return b"\r\n".join((b"%b %b HTTP/1.1" % (method.encode(), raw_target), *lines, b"", content))


def read_reply(file: BinaryIO, method: str = "GET") -> Reply | None:
    """The next answer of a connection; None at its end. Answers `100 Continue` are skipped. A stream of events is left
    unread behind its header, and is the last answer of its connection."""
    status_line = file.readline()
    if not status_line:
        return None
    version, status, _ = status_line.decode("ascii").split(" ", 2)
    assert version == "HTTP/1.1"
    headers: dict[str, str] = {}
    while line := file.readline().rstrip(b"\r\n"):
        name, _, value = line.decode("ascii").partition(": ")
        assert name.lower() not in headers, f"{name} is there twice"
        headers[name.lower()] = value
    if status == "100":
        return read_reply(file, method)
    is_endless = headers.get("content-type") == "text/event-stream"
    has_body = method != "HEAD" and int(status) not in _BODILESS and not is_endless
    body = file.read(int(headers["content-length"])) if has_body else b""
    return Reply(int(status), headers, body)


def check(reply: Reply, method: str = "GET") -> None:
    """What holds for every answer."""
    assert reply.status != 500, reply
    assert re.fullmatch(r"[\w.:+/=-]{1,128}", reply.headers["x-request-id"], re.ASCII)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["date"].endswith(" GMT")
    if reply.status >= 400 and reply.headers["content-type"] != "application/json":
        assert reply.headers["content-type"] == "application/problem+json"
        if method != "HEAD":
            _check_problem(reply)


def _check_problem(reply: Reply) -> None:
    problem = reply.json
    assert problem["status"] == reply.status
    assert problem["title"] == HTTPStatus(reply.status).phrase
    assert problem["request_id"] == reply.headers["x-request-id"]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", problem["code"])
    assert problem["detail"]
    assert b"Traceback" not in reply.body


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
