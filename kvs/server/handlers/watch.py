"""`/watch`: the changes of all keys with a prefix, as server-sent events."""

from aiohttp import web

from kvs.server import parse
from kvs.server.router import Call
from kvs.server.watch import EventStream, Watcher, Watching

_LAST_EVENT_ID = "Last-Event-ID"


class Watch:
    def __init__(self, watching: Watching) -> None:
        self._watching = watching

    async def get(self, call: Call) -> EventStream:
        query = parse.query(call.request)
        watcher = Watcher(parse.key_text(query, "prefix"), call.principal, call.admit)
        way = self._watching.begin(watcher, _since(call.request, query.get("since")))
        return EventStream(self._watching, watcher, way)


def _since(request: web.BaseRequest, given: str | None) -> str | None:
    """Where to begin. What a client says that connects again goes before what stands in its URL."""
    return request.headers.get(_LAST_EVENT_ID) or given
