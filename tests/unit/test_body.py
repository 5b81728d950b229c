"""Who sends a body is asked again when it took its time, and only then."""

import asyncio
from ssl import SSLError
from unittest.mock import AsyncMock, Mock

import pytest
from aiohttp import ClientConnectionResetError, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from kvs.auth.principal import ANONYMOUS, Principal
from kvs.errors import BadRequest, Forbidden, TooLarge, Unauthorized
from kvs.server.body import read_body
from kvs.server.router import Call

LATER = Principal(user="later")


class Gate:
    """Answers with `LATER`, or raises what it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.refusal: Exception | None = None

    def __call__(self) -> Principal:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        return LATER


@pytest.fixture
def gate() -> Gate:
    return Gate()


def sent(gate: Gate, **headers: str) -> tuple[Call, StreamReader]:
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(Mock(spec=asyncio.Transport))
    content = StreamReader(protocol, 2**16, loop=loop)
    request: web.BaseRequest = make_mocked_request("PUT", "/kv/a", headers, payload=content, writer=AsyncMock())
    return Call(request, {}, ANONYMOUS, gate), content


async def test_a_body_that_is_there_is_read_for_whoever_was_let_in(gate: Gate) -> None:
    call, content = sent(gate)
    content.feed_data(b"12")
    content.feed_eof()
    assert await read_body(call, 2) == b"12"
    assert (gate.asked, call.principal) == (0, ANONYMOUS)


async def test_behind_a_body_that_came_later_stands_who_it_is_now(gate: Gate) -> None:
    call, content = sent(gate)
    content.feed_data(b"1")
    reading = asyncio.create_task(read_body(call, 2))
    await asyncio.sleep(0)
    assert not reading.done()
    content.feed_data(b"2")
    content.feed_eof()
    assert await reading == b"12"
    assert (gate.asked, call.principal) == (1, LATER)


@pytest.mark.parametrize("refusal", [Unauthorized(), Forbidden()])
async def test_a_body_of_somebody_who_is_turned_away_by_now_is_not_taken(gate: Gate, refusal: Exception) -> None:
    call, content = sent(gate)
    gate.refusal = refusal
    reading = asyncio.create_task(read_body(call, 2))
    await asyncio.sleep(0)
    content.feed_eof()
    with pytest.raises(type(refusal)):
        await reading


async def test_what_is_wrong_with_a_body_needs_no_second_question(gate: Gate) -> None:
    call, content = sent(gate)
    content.feed_data(b"123")
    with pytest.raises(TooLarge):
        await read_body(call, 2)
    assert gate.asked == 0


@pytest.mark.parametrize("error", [ClientConnectionResetError("closing"), ConnectionResetError("lost")])
async def test_who_is_gone_before_he_is_told_to_go_on_is_no_failure_of_the_node(
    gate: Gate, error: ConnectionError
) -> None:
    """A connection counts as there until the next turn of the loop, though nothing can be written to it any more."""
    call, _ = sent(gate, Expect="100-continue")
    call.request.writer.write.side_effect = error  # type: ignore[attr-defined]  # a mock
    assert call.request.protocol.connected
    with pytest.raises(BadRequest):
        await read_body(call, 2)


_OTHERS = [
    RuntimeError("readany() called while another coroutine waits"),
    SSLError("a broken record"),
    OSError(113, "x"),
]


@pytest.mark.parametrize("error", _OTHERS, ids=lambda error: type(error).__name__)
async def test_what_else_ends_a_body_is_a_fault_only_on_a_connection_that_is_there(
    gate: Gate, error: Exception
) -> None:
    for is_there, wanted in ((True, type(error)), (False, BadRequest)):
        call, content = sent(gate)
        call.request.protocol.connected = is_there  # type: ignore[misc]  # a mock
        content.set_exception(error)
        with pytest.raises(wanted):
            await read_body(call, 2)
