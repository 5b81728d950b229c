"""What a snapshot of all values is made of, without a node keeping anything for it.

    a position of the node's change log     `AsyncClient.position`
    all values, in key order                `AsyncClient.range`: what is written meanwhile is seen or not
    what changed since the position         `AsyncClient.changes`, up to the head of the log

Put into the place of what was walked, the changes make what the node held at one moment: when the head was reached.
(The same weave of a log and a scan as in DBLog, Andreakis and Papapanagiotou 2020.)
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from kvs.client.errors import UnreachableError
from kvs.client.http import Http
from kvs.client.model import Event
from kvs.client.sendable import query_text
from kvs.client.sse import Block, SseParser
from kvs.client.watching import event_of

_SILENCE_S = 45.0


async def position_of(http: Http, url: str, prefix: str) -> str:
    """Where the change log of the node at `url` is now. Raises ApiError, UnreachableError."""
    async with aclosing(_blocks(http, url, prefix, None)) as blocks:
        async for block in blocks:
            if block.id is not None:
                return block.id
    raise UnreachableError(f"the stream from {url} broke off")


async def changes_since(http: Http, url: str, prefix: str, since: str) -> AsyncGenerator[Event, None]:
    """What has happened since that position, each key as it is now, a key perhaps twice; ends at the head of the log.
    Raises ResyncRequiredError when the log does not reach back so far, ApiError, UnreachableError."""
    async with aclosing(_blocks(http, url, prefix, since)) as blocks:
        async for block in blocks:
            event = event_of(block, url)
            if event is not None:
                yield event
            elif block.id is not None and block.data is None:
                return
    raise UnreachableError(f"the stream from {url} broke off")


async def _blocks(http: Http, url: str, prefix: str, since: str | None) -> AsyncGenerator[Block, None]:
    headers = {"Accept": "text/event-stream", **({} if since is None else {"Last-Event-ID": since})}
    parser = SseParser()
    async with http.stream(url, f"/watch?{query_text({'prefix': prefix})}", headers, _SILENCE_S) as pieces:
        async for piece in pieces:
            for block in parser.feed(piece):
                yield block
