"""Pages are read ahead, and no further than somebody follows."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
import pytest

from kvs.client.errors import ProtocolError, UnreachableError
from kvs.client.http import Answer
from kvs.client.paging import paged

URL = "http://127.0.0.1:1"
EACH = 3


class Pages:
    """`count` pages of EACH numbers; there is no answer for `hangs_at`, and an error for `failing`."""

    def __init__(self, count: int, *, failing: int | None = None) -> None:
        self.count = count
        self.failing = failing
        self.hangs_at: int | None = None
        self.asked: list[int] = []
        self.given_up: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def ask(self, cursor: str | None) -> Answer:
        number = int(cursor or 0)
        self.asked.append(number)
        if number == self.hangs_at:
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up.set_result(number)
        if number == self.failing:
            raise UnreachableError("nobody answers")
        following = str(number + 1) if number + 1 < self.count else None
        numbers = list(range(number * EACH, number * EACH + EACH))
        return Answer(200, {}, orjson.dumps({"numbers": numbers, "next_cursor": following}), URL)

    def items(self) -> AsyncGenerator[int, None]:
        return paged(self.ask, lambda answer: answer.json["numbers"])


async def take(items: AsyncGenerator[int, None], count: int) -> list[int]:
    return [await anext(items) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
async def test_all_items_come_in_order_and_each_page_is_asked_for_once(count: int) -> None:
    pages = Pages(count)
    assert [item async for item in pages.items()] == list(range(count * EACH))
    assert pages.asked == list(range(count))


async def test_who_is_content_with_the_first_page_costs_no_other() -> None:
    pages = Pages(5)
    async with aclosing(pages.items()) as items:
        assert await take(items, EACH) == [0, 1, 2]
    assert pages.asked == [0]


async def test_the_next_page_is_on_its_way_before_the_items_of_one() -> None:
    pages = Pages(5)
    async with aclosing(pages.items()) as items:
        assert await take(items, EACH + 1) == [0, 1, 2, 3]
        assert pages.asked == [0, 1, 2]
        assert await take(items, EACH) == [4, 5, 6]
        assert pages.asked == [0, 1, 2, 3]


async def test_who_stops_leaves_no_request_behind() -> None:
    pages = Pages(5)
    async with aclosing(pages.items()) as items:
        await take(items, EACH)
        pages.hangs_at = 2
        await take(items, 1)
        assert pages.asked == [0, 1, 2]
    async with asyncio.timeout(5):
        assert await pages.given_up == 2


async def test_a_page_that_fails_fails_behind_the_items_before_it() -> None:
    pages = Pages(5, failing=2)
    items = pages.items()
    assert await take(items, 2 * EACH) == list(range(2 * EACH))
    with pytest.raises(UnreachableError):
        await anext(items)


async def test_a_page_that_failed_and_that_nobody_wanted_is_no_matter() -> None:
    unhandled: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    pages = Pages(5, failing=2)
    async with aclosing(pages.items()) as items:
        await take(items, EACH + 1)
    del items
    gc.collect()  # a task whose failure nobody has looked at says so when it goes
    assert not unhandled


@pytest.mark.parametrize("body", [b'{"next_cursor":5}', b"{}", b"[]", b"hello"])
async def test_what_is_no_page_is_no_node(body: bytes) -> None:
    """One without a cursor might be taken for the last."""

    async def ask(_: str | None) -> Answer:
        return Answer(200, {}, body, URL)

    with pytest.raises(ProtocolError):
        await anext(paged(ask, lambda _: []))
