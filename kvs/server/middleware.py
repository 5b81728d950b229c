"""What every request passes: an id, its route, the gate, the limit of requests, its handler, one place for errors, a
line in the log."""

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic

import structlog
from aiohttp import web

from kvs.auth.principal import Principal
from kvs.errors import BadRequest, Forbidden, KvsError, StoreError, TooManyRequests, Unauthorized, let_go
from kvs.limits import OFFLOAD_MIN_BYTES, SLOW_REQUEST_MS
from kvs.server import request_id as ids
from kvs.server.authentication import Gate
from kvs.server.connection import client_of
from kvs.server.handlers.context import client_error
from kvs.server.meters import Meters
from kvs.server.problems import problem
from kvs.server.ratelimit import RequestLimit
from kvs.server.response import Response
from kvs.server.room import Rooms
from kvs.server.router import Call, Route, Router

log = structlog.get_logger()
_level = logging.getLogger(__name__)
"""Asked for the level only: structlog's loggers are assembled anew for every use, which took a sixth of a GET."""

_PRIVATE = b"Cache-Control: no-store\r\n"
"""On every answer of a node that asks who comes, whatever it says, and on those that hold for this moment only."""

_NOTHING = Response(204)


class Dispatcher:
    """The handler of the HTTP server."""

    def __init__(
        self,
        router: Router,
        gate: Gate,
        limit: RequestLimit,
        rooms: Rooms,
        meters: Meters | None = None,
        on_refused: Callable[[web.BaseRequest, str, KvsError], None] | None = None,
    ) -> None:
        """`on_refused` hears of requests that are refused for who asks: who it was, as far as that is known."""
        self._router = router
        self._gate = gate
        self._limit = limit
        self._rooms = rooms
        self._meters = meters
        self._on_refused = on_refused

    async def __call__(self, request: web.BaseRequest) -> Response:
        started_s = monotonic()
        request_id = ids.of(request)
        private = self._gate.asks
        route: Route | None = None
        principal: Principal | None = None
        try:
            route, parameters = self._router.resolve(request.method, request.rel_url.raw_path)
            access = route.access
            private = private or access.open
            admit = partial(self._gate.admit, request, access)
            principal = admit()
            if "#" in request.raw_path:  # the parser takes what is behind it away, and with it a part of the key
                raise BadRequest("a request names no fragment; a '#' is written %23", field="path")
            if access.counted:
                self._limit.count(principal.user, client_of(request), started_s * 1000)
            room = None if access.peer else self._rooms.bodies
            response = await route.handler(Call(request, parameters, principal, admit, room))
            while len(response.body) >= OFFLOAD_MIN_BYTES and self._rooms.answers.is_full and request.method == "GET":
                # It is let go of, and made again when clients have taken enough of other answers.
                response = _NOTHING
                await self._rooms.answers.place(1)
                response = await route.handler(Call(request, parameters, admit(), admit, room))
        except KvsError as error:
            if self._on_refused is not None and isinstance(error, Unauthorized | Forbidden):
                self._on_refused(request, error.actor or ("" if principal is None else principal.actor), error)
            refusal = error if principal is not None else self._not_admitted(request, error, started_s)
            response = self._refuse(refusal, route, request_id)
            # aiohttp closes behind a body that was not read; the client is told.
            response.close = not request.content.is_eof()
            let_go(refusal)
        except StoreError as error:
            log.error("A read failed", error=str(error), path=request.rel_url.raw_path, request_id=request_id)
            response = self._refuse(client_error(error), route, request_id)
            let_go(error)
        except Exception as error:
            log.exception("A handler failed", method=request.method, path=request.path, request_id=request_id)
            let_go(error)
            response = self._refuse(KvsError("the node failed to answer; its log says more"), route, request_id)
        response.request_id = request_id
        if private:
            response.fields += _PRIVATE
        duration_s = monotonic() - started_s
        if self._meters is not None:
            self._meters.request(route, response.status, duration_s)
        duration_ms = duration_s * 1000
        if response.status >= 500 or duration_ms >= SLOW_REQUEST_MS:
            log.info("Request", **_fields(request, response, request_id, duration_ms))
        elif _level.isEnabledFor(logging.DEBUG):
            log.debug("Request", **_fields(request, response, request_id, duration_ms))
        return response

    def _refuse(self, error: KvsError, route: Route | None, request_id: str) -> Response:
        if self._meters is not None:
            self._meters.refused(error, route)
        return problem(error, request_id)

    def _not_admitted(self, request: web.BaseRequest, error: KvsError, now_s: float) -> KvsError:
        """What a request is refused with that no route took, or no gate let in: those count whatever they asked for."""
        user = error.user if isinstance(error, Forbidden) else ""
        try:
            self._limit.count(user, client_of(request), now_s * 1000)
        except TooManyRequests as too_many:
            return too_many
        return error


def _fields(request: web.BaseRequest, response: Response, request_id: str, duration_ms: float) -> dict[str, object]:
    return {
        "method": request.method,
        "path": request.rel_url.raw_path,
        "client": request.remote,
        "status": response.status,
        "duration_ms": round(duration_ms, 3),
        "request_id": request_id,
    }
