"""A proxy before a node that does to each request what it is told, in the order in which they come."""

import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import NamedTuple

TIMEOUT_S = 20.0


class Request(NamedTuple):
    method: str
    target: str
    headers: Mapping[str, str]
    """Names in lower case."""


class Fault(NamedTuple):
    """What happens to a request.

    lost         the connection breaks before the node has it
    unanswered   the connection breaks when the node has answered
    hangs        the same, but the connection stays
    answer       the proxy answers by itself
    pass         nothing

    `meanwhile` runs before the client notices anything.
    """

    kind: str
    status: int = 0
    problem: Mapping[str, object] = MappingProxyType({})
    headers: Mapping[str, str] = MappingProxyType({})
    meanwhile: Callable[[], object] | None = None


LOST = Fault("lost")
UNANSWERED = Fault("unanswered")
PASS = Fault("pass")


def answered(status: int, code: str = "", **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault("answer", status, {"status": status, "code": code, "detail": "so it is"}, named)


class FaultyProxy:
    """`faults` are taken one by one; without any, requests pass. `seen` are all that came."""

    def __init__(self, node: tuple[str, int]) -> None:
        self._node = node
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.faults: deque[Fault] = deque()
        self.seen: list[Request] = []
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(TIMEOUT_S)
            self._open.append(client)
            self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        file = client.makefile("rb")
        with suppress(OSError), file:
            while True:
                raw = _read_message(file)
                if not raw:
                    return
                self.seen.append(_parsed(raw))
                fault = self.faults.popleft() if self.faults else PASS
                if fault.kind == "lost":
                    break
                reply = _made_up(fault) if fault.kind == "answer" else self._forward(raw)
                if fault.meanwhile is not None:
                    fault.meanwhile()
                if fault.kind == "unanswered":
                    break
                if fault.kind == "hangs":
                    file.read(1)
                    break
                client.sendall(reply)
            client.shutdown(socket.SHUT_RDWR)

    def _forward(self, raw: bytes) -> bytes:
        with socket.create_connection(self._node, timeout=TIMEOUT_S) as node, node.makefile("rb") as file:
            node.sendall(raw)
            return _read_message(file, is_reply=True)


def _read_message(file: object, *, is_reply: bool = False) -> bytes:
    head = b""
    size = 0
    while True:
        line: bytes = file.readline()  # type: ignore[attr-defined]
        if not line:
            return b""
        head += line
        if line == b"\r\n":
            break
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    body: bytes = file.read(size)  # type: ignore[attr-defined]
    return head + body


def _parsed(raw: bytes) -> Request:
    first, *lines = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    method, target, _ = first.split(" ")
    fields = (line.partition(": ") for line in lines)
    return Request(method, target, {name.lower(): value for name, _, value in fields})


def _made_up(fault: Fault) -> bytes:
    body = json.dumps(dict(fault.problem)).encode()
    lines = [f"HTTP/1.1 {fault.status} So", "Content-Type: application/problem+json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in fault.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
