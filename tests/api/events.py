"""Reads a stream of server-sent events, and holds it against the rules of such streams."""

import json
import re
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple

from tests.api.client import TIMEOUT_S, Reply, check, read_reply, request

_NO_HEADERS: Mapping[str, str] = {}


class Event(NamedTuple):
    kind: str
    data: Any
    id: str

    @property
    def path(self) -> str:
        return str(self.data["path"])

    @property
    def value(self) -> tuple[str, str, object]:
        """What happened to which key."""
        return self.kind, self.path, self.data.get("data")


class Stream:
    """`GET /watch` of one node. `last_id` is what a client that resumes has to send."""

    def __init__(
        self,
        address: tuple[str, int],
        query: str = "",
        headers: Mapping[str, str] = _NO_HEADERS,
        *,
        receive_bytes: int = 0,
        version: str = "1.1",
    ) -> None:
        self._socket = socket.socket()
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(address)
        self._file = self._socket.makefile("rb")
        asked = request("GET", f"/watch?{query}", headers=headers)
        self._socket.sendall(asked.replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1))
        reply = read_reply(self._file)
        assert reply is not None
        check(reply)
        self.reply: Reply = reply
        if reply.status == 200:
            assert reply.headers["content-type"] == "text/event-stream"
            assert reply.headers["cache-control"] == "no-store"
            assert "content-length" not in reply.headers
        self.last_id = ""
        self.comments = 0

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def block(self) -> dict[str, str] | None:
        """The fields up to the next empty line; None at the end of the stream."""
        fields: dict[str, str] = {}
        while True:
            try:
                line = self._file.readline()
            except ConnectionError:
                return None
            if not line:
                return None  # what is not ended by an empty line does not count
            text = line.decode().removesuffix("\n")
            assert "\r" not in text
            if not text:
                break
            name, _, value = text.partition(":")
            assert name in ("", "event", "id", "data")
            assert name not in fields, "a field twice in one block"
            if name:
                fields[name] = value.removeprefix(" ")
            else:
                self.comments += 1
        if "id" in fields:
            assert re.fullmatch(r"\d+", fields["id"])
            assert int(fields["id"]) >= int(self.last_id or 0), "positions go back"
            self.last_id = fields["id"]
        return fields

    def next(self) -> Event | None:
        """The next event; None at the end of the stream."""
        while (fields := self.block()) is not None:
            if "data" in fields:
                return Event(fields["event"], json.loads(fields["data"]), fields.get("id", ""))
            assert "event" not in fields
        return None

    def take(self, count: int) -> list[Event]:
        """So many events."""
        found = [self.next() for _ in range(count)]
        events = [event for event in found if event is not None]
        assert len(events) == count, f"the stream ended behind {events}"
        return events

    def snapshot(self) -> list[Event]:
        """All events up to `uptodate`."""
        found: list[Event] = []
        while True:
            (event,) = self.take(1)
            if event.kind == "uptodate":
                return found
            found.append(event)

    def rest(self) -> list[Event]:
        """All events up to the end."""
        found: list[Event] = []
        while (event := self.next()) is not None:
            found.append(event)
        return found

    def begun(self) -> "Stream":
        """The same, once what is written from now on is told."""
        fields = self.block()
        assert fields is not None
        assert set(fields) == {"id"}
        return self
