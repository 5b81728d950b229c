"""`/health` and `/ready`."""

import time

import orjson

from kvs import __version__
from kvs.errors import KvsError
from kvs.server.handlers.context import Context
from kvs.server.response import Response
from kvs.server.router import Call


class NodeStatus:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._started_s = time.monotonic()

    async def health(self, _: Call) -> Response:
        cluster, degraded = self._context.cluster, self._context.runner.degraded
        return _json(
            503 if degraded else 200,
            {
                "status": "degraded" if degraded else "healthy",
                "mode": self._context.mode,
                "node_id": self._context.config.node_id,
                "member_count": 1 if cluster is None else cluster.member_count,
                "version": __version__,
                "uptime_seconds": round(time.monotonic() - self._started_s, 3),
            },
        )

    async def ready(self, _: Call) -> Response:
        mode = self._context.mode
        ready = mode == "normal" and self._takes_writes()
        return _json(200 if ready else 503, {"ready": ready, "mode": mode})

    def _takes_writes(self) -> bool:
        """Also a node in normal mode refuses writes while its clock is wrong."""
        try:
            self._context.check_writable()
        except KvsError:
            return False
        return True


def _json(status: int, document: object) -> Response:
    fields = b"Retry-After: 1\r\n" if status == 503 else b""
    return Response(status, orjson.dumps(document), fields=fields)
