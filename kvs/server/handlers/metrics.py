"""`/metrics`: for Prometheus."""

import asyncio

from kvs.cluster.node import Node
from kvs.server.exposition import CONTENT_TYPE, Family, render
from kvs.server.handlers.context import Context
from kvs.server.meters import Meters
from kvs.server.metrics import disk_families, families
from kvs.server.response import Response
from kvs.server.router import Call


class MetricsRoute:
    def __init__(self, context: Context, node: Node, meters: Meters) -> None:
        self._context = context
        self._node = node
        self._meters = meters

    async def get(self, _: Call) -> Response:
        found = families(self._context, self._node, self._meters)
        return Response(200, await asyncio.to_thread(self._text, found), CONTENT_TYPE)

    def _text(self, found: list[Family]) -> bytes:
        return render([*found, *disk_families(self._context.config.data_dir)])
