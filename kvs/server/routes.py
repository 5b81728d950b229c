"""The table of all routes. The order matters where two templates match: the first wins."""

from kvs.server.handlers.bulk import Bulk
from kvs.server.handlers.context import Context
from kvs.server.handlers.history import History
from kvs.server.handlers.listing import Listing
from kvs.server.handlers.metadata import Metadata
from kvs.server.handlers.node import NodeStatus
from kvs.server.handlers.values import Values
from kvs.server.router import Route


def routes(context: Context) -> list[Route]:
    """Every resource this node answers. A GET route answers HEAD too."""
    values, metadata, listing = Values(context), Metadata(context), Listing(context)
    bulk, history, status = Bulk(context), History(context), NodeStatus(context)
    return [
        Route("GET", "/kv/_range", listing.range),
        Route("GET", "/kv/_list", listing.list),
        Route("POST", "/kv/_bulk", bulk.post),
        Route("GET", "/kv/{key}/metadata", metadata.get),
        Route("PUT", "/kv/{key}/metadata", metadata.put),
        Route("GET", "/kv/{key}", values.get),
        Route("PUT", "/kv/{key}", values.put),
        Route("DELETE", "/kv/{key}", values.delete),
        Route("POST", "/api/data/{key}/history/{n}/restore", history.restore),
        Route("GET", "/api/data/{key}/history", history.list),
        Route("GET", "/api/data/{key}/history/{n}", history.get),
        Route("GET", "/health", status.health),
        Route("GET", "/ready", status.ready),
    ]
