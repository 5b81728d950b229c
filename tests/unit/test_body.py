"""Reading bodies: what the tests of the API cannot bring about at a known moment."""

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader
from multidict import CIMultiDict

from kvs.errors import BadRequest
from kvs.server.body import read_body


async def test_a_client_that_is_gone_before_its_body_is_no_failure_of_the_node() -> None:
    content = StreamReader(Mock(), 65_536, loop=asyncio.get_running_loop())
    content.feed_data(b"half")
    request = Mock(headers=CIMultiDict({"Content-Length": "10"}), content=content)
    reading = asyncio.create_task(read_body(request, 100))
    asyncio.get_running_loop().call_soon(content.set_exception, ConnectionResetError("Connection lost"))
    with pytest.raises(BadRequest) as caught:
        await reading
    assert caught.value.code == "malformed_body"
