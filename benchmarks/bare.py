"""What KVS is compared with: the least that aiohttp can do for a request, on uvloop or on asyncio's own event loop.

    python -m benchmarks.bare uvloop|asyncio FOLDER

GET answers with constant bytes. PUT reads the body and, before it answers, writes it as one LevelDB batch without
fsync.
"""

import asyncio
import json
import sys

import plyvel
import uvloop
from aiohttp import web

from benchmarks.load import DOCUMENT

_ANSWER = b'{"uuid":"00000000-0000-4000-8000-000000000000","timestamp":1700000000000,"data":%s}' % DOCUMENT


def _application(folder: str) -> web.Application:
    database = plyvel.DB(folder, create_if_missing=True)

    async def get(_: web.Request) -> web.Response:
        return web.Response(body=_ANSWER, content_type="application/json")

    async def put(request: web.Request) -> web.Response:
        body = await request.read()
        with database.write_batch() as batch:
            batch.put(request.match_info["key"].encode(), body)
        return web.Response(body=_ANSWER, content_type="application/json")

    application = web.Application()
    application.router.add_get("/kv/{key:.+}", get)
    application.router.add_put("/kv/{key:.+}", put)
    return application


async def _serve(folder: str) -> None:
    runner = web.AppRunner(_application(folder), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await asyncio.Event().wait()  # until the process is ended


if __name__ == "__main__":
    _, loop, folder = sys.argv
    run = {"uvloop": uvloop.run, "asyncio": asyncio.run}[loop]
    run(_serve(folder))
