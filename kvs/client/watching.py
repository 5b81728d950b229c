"""A watch that goes on by itself: streams come and go, the events do not stop."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from random import SystemRandom
from typing import Literal

import msgspec

from kvs.client.errors import ProtocolError, ResyncRequiredError, UnavailableError, UnreachableError
from kvs.client.http import Http
from kvs.client.model import Event
from kvs.client.sendable import query_text
from kvs.client.sse import Block, SseParser
from kvs.client.wire import WireValue

_chance = SystemRandom()
_SILENCE_S = 45.0
"""Three comments of a node's that did not come."""
_LOYALTY_S = 10.0
"""So long a node that does not answer is waited for, because another one cannot tell what was missed."""

_KINDS: dict[str, Literal["put", "delete", "expire", "uptodate"]] = {
    "put": "put",
    "delete": "delete",
    "expire": "expire",
    "uptodate": "uptodate",
}


class _Place:
    """How far a watcher has come, and at which node. `told`: something was, since he began there."""

    def __init__(self, since: str | None) -> None:
        self.since = since
        self.url = ""
        self.told = False

    @property
    def is_position(self) -> bool:
        return self.since not in (None, "snapshot")

    def is_lost_at(self, url: str) -> bool:
        """Whether he cannot go on there: at another node, or in the middle of a snapshot."""
        return self.told if self.since == "snapshot" else self.is_position and self.url not in ("", url)

    def begin_anew(self) -> Event:
        self.since, self.told = "snapshot", False
        return Event("resync")


Tell = Callable[[UnreachableError | None], None]
"""Hears once why no node can be reached any more, and None when one is there again."""


class _Reach:
    """Whether a node answers, as far as it was tried."""

    def __init__(self, http: Http, gives_up_s: float, tell: Tell | None) -> None:
        self._gives_up_s = gives_up_s
        self._tell = tell
        self._untried = set(http.endpoints.urls)
        self._has_answered = False
        self._is_streaming = False
        self._is_told = False

    def answered(self) -> None:
        self._has_answered = self._is_streaming = True
        if self._is_told and self._tell is not None:
            self._tell(None)
        self._is_told = False

    def failed(self, url: str, failure: UnreachableError, now_s: float) -> None:
        """Raises the failure where no node ever answered. The end of a stream is not told: another may follow."""
        self._untried.discard(url)
        if not self._has_answered and not self._untried and now_s >= self._gives_up_s:
            raise failure
        if self._has_answered and not self._is_streaming and not self._is_told:
            self._is_told = True
            if self._tell is not None:
                self._tell(failure)
        self._is_streaming = False


async def follow(http: Http, prefix: str, since: str | None, tell: Tell | None = None) -> AsyncGenerator[Event, None]:
    """Raises ApiError for what will not be otherwise when it is tried again, and UnreachableError when no node answered
    from the beginning."""
    place = _Place(since)
    loop = asyncio.get_running_loop()
    reach = _Reach(http, loop.time() + http.retry_s, tell)
    url, wait_s = http.endpoints.choose(loop.time())
    lost_s: float | None = None
    while True:
        await asyncio.sleep(wait_s)
        if place.is_lost_at(url):
            yield place.begin_anew()
        place.url = url
        rest_s = 0.0
        try:
            async with aclosing(_stream(http, prefix, place)) as events:
                async for event in events:
                    lost_s = None
                    reach.answered()
                    http.endpoints.answered(url)
                    if event is not None:
                        place.told = True
                        yield event
        except ResyncRequiredError:
            yield place.begin_anew()
            wait_s = 0.0
            continue
        except UnavailableError as refusal:
            reach.answered()
            rest_s = refusal.retry_after_s or 0.0
        except UnreachableError as failure:
            reach.failed(url, failure, loop.time())
        now_s = loop.time()
        lost_s = now_s if lost_s is None else lost_s
        http.endpoints.failed(url, now_s, _chance.random(), rest_s)
        if place.is_position and now_s - lost_s < _LOYALTY_S:
            wait_s = http.endpoints.rest_s(url, now_s)
        else:
            url, wait_s = http.endpoints.choose(now_s)


async def _stream(http: Http, prefix: str, place: _Place) -> AsyncGenerator[Event | None, None]:
    """The events of one stream; None when only the place has changed."""
    query = {"prefix": prefix}
    headers = {"Accept": "text/event-stream"}
    if place.since == "snapshot":
        query["since"] = "snapshot"
    elif place.since is not None:
        headers["Last-Event-ID"] = place.since
    parser = SseParser()
    async with http.stream(place.url, f"/watch?{query_text(query)}", headers, _SILENCE_S) as pieces:
        async for piece in pieces:
            for block in parser.feed(piece):
                if block.id is not None:
                    place.since = block.id
                yield event_of(block, place.url)


def event_of(block: Block, url: str) -> Event | None:
    """None for a block that tells of no change. Raises ProtocolError."""
    if block.data is None or block.event not in _KINDS:
        return None  # events that later versions may send
    kind = _KINDS[block.event]
    if kind == "uptodate":
        return Event("uptodate", position=block.id or "")
    try:
        found = msgspec.json.decode(block.data, type=WireValue)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ProtocolError(f"what answers at {url} is no node of KVS") from None
    value = found.value() if kind == "put" else None
    return Event(kind, found.path, found.uuid, found.timestamp, value, block.id or "")
