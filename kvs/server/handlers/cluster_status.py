"""`/api/cluster/status` and `/auth/cluster-bootstrap`: the cluster for its operators."""

import msgspec

from kvs.errors import NotFound
from kvs.limits import BOOTSTRAP_SEEDS_MAX
from kvs.server.cluster import Cluster
from kvs.server.handlers.accounts import json_response
from kvs.server.handlers.context import Context
from kvs.server.response import Response
from kvs.server.router import Call


class ClusterStatus:
    def __init__(self, context: Context, cluster: Cluster) -> None:
        self._context = context
        self._cluster = cluster

    async def status(self, _: Call) -> Response:
        return Response(200, msgspec.json.encode(self._cluster.view(self._context.mode)))

    async def bootstrap(self, _: Call) -> Response:
        """What goes into the configuration of a new node."""
        secret = self._context.config.cluster_secret
        if not secret:
            raise NotFound("this node has no cluster_secret, and others cannot join it")
        seeds = self._cluster.addresses()[:BOOTSTRAP_SEEDS_MAX]
        return json_response(200, {"cluster_secret": secret, "seed_nodes": seeds})
