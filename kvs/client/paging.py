"""What comes in pages, as one run of items, with the next page on its way while the items of one are taken."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from kvs.client.http import Answer
from kvs.client.wire import WireCursor, decode

T = TypeVar("T")

_TURNS_TO_LEAVE = 5
"""So many turns of the event loop aiohttp takes to write a request onto a connection that is open."""


async def paged(
    ask: Callable[[str | None], Coroutine[Any, Any, Answer]], items_of: Callable[[Answer], Sequence[T]]
) -> AsyncGenerator[T, None]:
    """The items of all pages. `ask` gets the page of a cursor, None for the first one; what it raises is raised where
    the items of that page would begin. Raises ProtocolError for what is no page.

    Who takes no more than a first page is asked for no more. From the second page on, the next one is asked for before
    anything but the cursor is read of it, and the request gets the turns to leave: reading a page takes a client as
    long as making it takes a node, and whoever takes the items may not wait before the last of them.
    """
    ahead: asyncio.Task[Answer] | None = None
    answer, is_first = await ask(None), True
    try:
        while True:
            cursor = decode(answer.body, WireCursor, answer.url).next_cursor
            if cursor is not None and not is_first:
                ahead = asyncio.create_task(ask(cursor))
                for _ in range(_TURNS_TO_LEAVE):
                    await asyncio.sleep(0)
            for item in items_of(answer):
                yield item
            if cursor is None:
                return
            answer, is_first = await (ahead or ask(cursor)), False
    finally:
        if ahead is not None:
            ahead.cancel()  # also one that failed: asyncio then takes its error for seen
