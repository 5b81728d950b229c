"""A network that can be made bad: every connection between two nodes goes through a proxy, which holds it up.

    node a ──▶ the address that node b gives to others ──▶ link (a, b) ──▶ the port that node b listens at

Each node advertises the address of a proxy of its own. Who connects to it is told by the `X-Node-ID` of the first
request, and so by which link the connection goes. A link is one way: it carries what its first node asks the second,
and the answers to that. Nobody sees who speaks TLS: all such connections to a node are one link, from "". All proxies
run on one event loop in a thread of its own; a node that does not run has a proxy that does not listen.
"""

import asyncio
import re
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

_NODE_ID = re.compile(rb"^x-node-id: *(\S+)", re.IGNORECASE | re.MULTILINE)
_TLS_HANDSHAKE = b"\x16"
_HEAD_MAX_BYTES = 64 * 1024
_CHUNK_BYTES = 64 * 1024
_TIMEOUT_S = 10.0
_TURNS_TO_SERVE = 10
"""Of the event loop, from a connection that is taken until it is served; asyncio needs three."""
_T = TypeVar("_T")


class Flow:
    """One direction of a link. What is held up while it is `cut` arrives when it is not any more, as TCP would have
    it."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.bytes_per_s = 0.0
        self._open = asyncio.Event()
        self._open.set()

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self.delay_s = self.bytes_per_s = 0.0
        self._open.set()

    async def passes(self, size_bytes: int) -> None:
        """Returns when so many bytes have come through."""
        pause_s = self.delay_s + (size_bytes / self.bytes_per_s if self.bytes_per_s else 0.0)
        if pause_s:
            passed = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(pause_s, _pass, passed)
            await passed
        await self._open.wait()


def _pass(passed: asyncio.Future[None]) -> None:
    if not passed.done():
        passed.set_result(None)


class Link:
    """From one node to another. All methods may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._there, self._back = Flow(), Flow()
        self._connections: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Nothing arrives."""
        self._loop.call_soon_threadsafe(self._there.cut)
        self._loop.call_soon_threadsafe(self._back.cut)

    def cut_answers(self) -> None:
        """Requests arrive, their answers do not."""
        self._loop.call_soon_threadsafe(self._back.cut)

    def delay(self, seconds: float) -> None:
        """Each way."""
        self._there.delay_s = self._back.delay_s = seconds

    def throttle(self, bytes_per_s: float) -> None:
        """Each way."""
        self._there.bytes_per_s = self._back.bytes_per_s = bytes_per_s

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._there.mend)
        self._loop.call_soon_threadsafe(self._back.mend)

    def drop(self) -> None:
        """Every connection breaks; new ones are taken."""
        self._loop.call_soon_threadsafe(self._drop)

    def _drop(self) -> None:
        for task in list(self._connections):
            task.cancel()

    async def carry(self, head: bytes, near: "_Stream", far: "_Stream") -> None:
        """Until either side ends; then both do."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            ways = [
                asyncio.create_task(_pump(head, near, far, self._there)),
                asyncio.create_task(_pump(b"", far, near, self._back)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._connections.discard(task)


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _pump(head: bytes, source: _Stream, sink: _Stream, flow: Flow) -> None:
    data = head or await source[0].read(_CHUNK_BYTES)
    while data:
        await flow.passes(len(data))
        sink[1].write(data)
        await sink[1].drain()
        data = await source[0].read(_CHUNK_BYTES)
    await flow.passes(0)


class Proxy:
    """Stands before one node. Its port is its own from the start; it listens only while it leads somewhere."""

    def __init__(self, network: "Network", name: str) -> None:
        self._network = network
        self._name = name
        self._port_holder = _bound(0)
        self.port = int(self._port_holder.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        self._target = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def lead_to(self, port: int) -> None:
        """Listen, and pass connections on to this port of 127.0.0.1."""
        self._target = port
        self._network.run(self._listen())

    def close(self) -> None:
        """Refuse connections, and break those there are."""
        self._network.run(self._close())

    def end(self) -> None:
        self.close()
        self._port_holder.close()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._take, sock=_bound(self.port))

    async def _close(self) -> None:
        if self._server is not None:
            # asyncio loses sight of a connection whose server is closed while it is being taken.
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            await _turns()
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The connection ends with its task, also with one that is cancelled before its first step."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            await self._pass_on(reader, writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(1)
        if head != _TLS_HANDSHAKE:
            head += await reader.readuntil(b"\r\n\r\n")
        found = _NODE_ID.search(head)
        source = found[1].decode() if found else ""
        far = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await self._network.link(source, self._name).carry(head, (reader, writer), far)
        finally:
            far[1].transport.abort()


class Network:
    """All proxies and links of a test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._links: dict[tuple[str, str], Link] = {}
        self._proxies: list[Proxy] = []

    def proxy(self, name: str) -> Proxy:
        """A new one for the node of this name."""
        self._proxies.append(Proxy(self, name))
        return self._proxies[-1]

    def link(self, source: str, target: str) -> Link:
        """By the names of two nodes."""
        return self._links.setdefault((source, target), Link(self._loop))

    def links(self) -> list[Link]:
        return list(self._links.values())

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT_S)

    async def _end(self) -> None:
        """What was aborted is closed some turns later."""
        await _turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.end()
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT_S)
        self._loop.close()


async def _turns() -> None:
    for _ in range(_TURNS_TO_SERVE):
        await asyncio.sleep(0)


def _bound(port: int) -> socket.socket:
    """Several sockets may be bound to one port, of which one listens."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made
