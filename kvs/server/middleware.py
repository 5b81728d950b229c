"""What every request passes: an id, its route, the gate, its handler, one place for errors, a line in the log."""

import logging
import time
from functools import partial

import structlog
from aiohttp import web

from kvs.errors import KvsError, StoreError
from kvs.limits import OFFLOAD_MIN_BYTES, SLOW_REQUEST_MS
from kvs.server import request_id as ids
from kvs.server.authentication import Gate
from kvs.server.handlers.context import client_error
from kvs.server.problems import problem
from kvs.server.response import Response
from kvs.server.room import Rooms
from kvs.server.router import Call, Router

log = structlog.get_logger()
_level = logging.getLogger(__name__)
"""Asked for the level only: structlog's loggers are assembled anew for every use, which took a sixth of a GET."""

_PRIVATE = b"Cache-Control: no-store\r\n"
"""On every answer of a node that asks who comes, whatever it says, and on those that hold for this moment only."""

_NOTHING = Response(204)


class Dispatcher:
    """The handler of the HTTP server."""

    def __init__(self, router: Router, gate: Gate, rooms: Rooms) -> None:
        self._router = router
        self._gate = gate
        self._rooms = rooms

    async def __call__(self, request: web.BaseRequest) -> Response:
        started_s = time.monotonic()
        request_id = ids.of(request)
        private = self._gate.asks
        try:
            route, parameters = self._router.resolve(request.method, request.rel_url.raw_path)
            private = private or route.access.open
            admit = partial(self._gate.admit, request, route.access)
            room = None if route.access.peer else self._rooms.bodies
            response = await route.handler(Call(request, parameters, admit(), admit, room))
            while len(response.body) >= OFFLOAD_MIN_BYTES and self._rooms.answers.is_full and request.method == "GET":
                # It is let go of, and made again when clients have taken enough of other answers.
                response = _NOTHING
                await self._rooms.answers.place(1)
                response = await route.handler(Call(request, parameters, admit(), admit, room))
        except KvsError as error:
            response = problem(error, request_id)
            # aiohttp closes behind a body that was not read; the client is told.
            response.close = not request.content.is_eof()
        except StoreError as error:
            log.error("A read failed", error=str(error), path=request.rel_url.raw_path, request_id=request_id)
            response = problem(client_error(error), request_id)
        except Exception:
            log.exception("A handler failed", method=request.method, path=request.path, request_id=request_id)
            response = problem(KvsError("the node failed to answer; its log says more"), request_id)
        response.request_id = request_id
        if private:
            response.fields += _PRIVATE
        duration_ms = (time.monotonic() - started_s) * 1000
        if response.status >= 500 or duration_ms >= SLOW_REQUEST_MS:
            log.info("Request", **_fields(request, response, request_id, duration_ms))
        elif _level.isEnabledFor(logging.DEBUG):
            log.debug("Request", **_fields(request, response, request_id, duration_ms))
        return response


def _fields(request: web.BaseRequest, response: Response, request_id: str, duration_ms: float) -> dict[str, object]:
    return {
        "method": request.method,
        "path": request.rel_url.raw_path,
        "client": request.remote,
        "status": response.status,
        "duration_ms": round(duration_ms, 3),
        "request_id": request_id,
    }
