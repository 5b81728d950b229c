"""`/api/data/{key}/history`: what a key held before, and the way back."""

from collections.abc import Mapping

from aiohttp import web

from kvs.cluster.events import Restore
from kvs.errors import BadRequest, NotFound
from kvs.server import parse
from kvs.server.handlers.context import Context
from kvs.server.render import revision_json, version_fields, version_json
from kvs.server.response import Response
from kvs.storage.current import history
from kvs.storage.keyspace import data_key
from kvs.storage.record import Record, new_uuid, uuid_text

_DIGITS_MAX = 18
"""No revision has a longer number, and Python refuses to read numbers of thousands of digits."""


class History:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def list(self, _: web.BaseRequest, parameters: Mapping[str, str]) -> Response:
        revisions = self._revisions(parameters)
        if not revisions:
            raise NotFound("this key has no history")
        body = b"[%b]" % b",".join(revision_json(number, record) for number, record in revisions.items())
        return Response(200, body)

    async def get(self, _: web.BaseRequest, parameters: Mapping[str, str]) -> Response:
        number = _number(parameters)
        record = self._revisions(parameters).get(number)
        if record is None:
            raise NotFound("this revision is not kept")
        fields = version_fields(record, uuid_text(record.uuid))
        return Response(200, revision_json(number, record), fields=fields)

    async def restore(self, request: web.BaseRequest, parameters: Mapping[str, str]) -> Response:
        self._context.check_writable()
        self._check_enabled()
        command = Restore(
            entry=data_key(parse.parse_key(parameters["key"])),
            uuid=new_uuid(),
            revision=_number(parameters),
            condition=parse.condition(request),
        )
        record, _ = await self._context.runner.write(command)
        tag = uuid_text(record.uuid)
        return Response(200, version_json(record, tag), fields=version_fields(record, tag))

    def _revisions(self, parameters: Mapping[str, str]) -> dict[int, Record]:
        self._check_enabled()
        entry = data_key(parse.parse_key(parameters["key"]))
        return dict(history(self._context.store, entry, self._context.now_ms()))

    def _check_enabled(self) -> None:
        if not self._context.config.revision_history_enabled:
            raise NotFound("this node keeps no history", code="history_disabled")


def _number(parameters: Mapping[str, str]) -> int:
    text = parameters["n"]
    if not (text.isascii() and text.isdigit() and text.strip("0")):
        raise BadRequest("a revision is a whole number from 1", field="revision")
    if len(text) > _DIGITS_MAX:
        raise NotFound("this revision is not kept")
    return int(text)
