"""Questions to peers around the end of a node: its log must not fill with tracebacks of work that ends with it."""

import asyncio

import pytest

from kvs.cluster.transport import PeerUnreachable, Transport


def ask(transport: Transport, port: int) -> asyncio.Task[bytes]:
    return asyncio.create_task(transport.call("sync", f"127.0.0.1:{port}", "POST", "/api/sync/diff", b"", timeout_s=10))


async def test_behind_the_end_nobody_can_be_asked() -> None:
    transport = Transport("n1", "a secret", lambda: None)
    transport.start()
    await transport.stop()
    with pytest.raises(PeerUnreachable):
        await ask(transport, 1)


async def test_a_question_under_way_ends_with_the_node() -> None:
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        transport = Transport("n1", "a secret", lambda: None)
        transport.start()
        question = ask(transport, server.sockets[0].getsockname()[1])
        await asked.wait()
        await transport.stop()
        with pytest.raises(PeerUnreachable):
            await question
