"""`/health` and `/ready`."""

import time

import orjson

from kvs import __version__
from kvs.server.handlers.context import Context
from kvs.server.response import Response
from kvs.server.router import Call


class NodeStatus:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._started_s = time.monotonic()

    async def health(self, _: Call) -> Response:
        degraded = self._context.runner.degraded
        return _json(
            503 if degraded else 200,
            {
                "status": "degraded" if degraded else "healthy",
                "mode": self._mode(),
                "node_id": self._context.config.node_id,
                "member_count": 1,
                "version": __version__,
                "uptime_seconds": round(time.monotonic() - self._started_s, 3),
            },
        )

    async def ready(self, _: Call) -> Response:
        mode = self._mode()
        return _json(200 if mode == "normal" else 503, {"ready": mode == "normal", "mode": mode})

    def _mode(self) -> str:
        if self._context.runner.degraded:
            return "degraded"
        return "read-only" if self._context.config.read_only else "normal"


def _json(status: int, document: object) -> Response:
    fields = b"Retry-After: 1\r\n" if status == 503 else b""
    return Response(status, orjson.dumps(document), fields=fields)
