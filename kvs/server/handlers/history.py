"""`/api/data/{key}/history`: what a key held before, and the way back."""

from functools import partial

from kvs.auth.permissions import Action, permits
from kvs.cluster.events import Restore
from kvs.errors import BadRequest, Forbidden, NotFound
from kvs.server import parse
from kvs.server.authorisation import is_revision_readable, read_metadata, tombstone_guard, write_guard
from kvs.server.handlers.context import Context
from kvs.server.remembered import requested_entry
from kvs.server.render import revision_json, version_fields, version_json
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.storage.current import history
from kvs.storage.record import Record, new_uuid, uuid_text

_DIGITS_MAX = 18
"""No revision has a longer number, and Python refuses to read numbers of thousands of digits."""


class History:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def list(self, call: Call) -> Response:
        revisions = self._revisions(call)
        if not revisions:
            raise NotFound("this key has no history")
        body = b"[%b]" % b",".join(revision_json(number, record) for number, record in revisions.items())
        return Response(200, body)

    async def get(self, call: Call) -> Response:
        number = _number(call)
        record = self._revisions(call).get(number)
        if record is None:
            raise NotFound("this revision is not kept")
        fields = version_fields(record, uuid_text(record.uuid))
        return Response(200, revision_json(number, record), fields=fields)

    async def restore(self, call: Call) -> Response:
        self._context.check_writable()
        self._check_enabled()
        command = Restore(
            entry=requested_entry(call.parameters["key"]),
            uuid=new_uuid(),
            revision=_number(call),
            owner=call.principal.user,
            condition=parse.condition(call.request),
            guard=write_guard(call.principal),
            delete_guard=tombstone_guard(call.principal),
            readable=partial(is_revision_readable, call.principal),
        )
        record = (await self._context.runner.write(command)).record
        tag = uuid_text(record.uuid)
        return Response(200, version_json(record, tag), fields=version_fields(record, tag))

    def _revisions(self, call: Call) -> dict[int, Record]:
        """Those that the caller may read. Raises Forbidden for a key whose metadata keep him out, whether it has a
        history or not."""
        self._check_enabled()
        entry = requested_entry(call.parameters["key"])
        now_ms = self._context.now_ms()
        metadata = read_metadata(self._context.store, entry, now_ms)
        revisions = {
            number: record
            for number, record in history(self._context.store, entry, now_ms, self._context.config.max_revisions)
            if permits(call.principal, Action.READ, metadata, record.owner)
        }
        if not revisions and not permits(call.principal, Action.READ, metadata, None):
            raise Forbidden
        return revisions

    def _check_enabled(self) -> None:
        if not self._context.config.revision_history_enabled:
            raise NotFound("this node keeps no history", code="history_disabled")


def _number(call: Call) -> int:
    text = call.parameters["n"]
    if not (text.isascii() and text.isdigit() and text.strip("0")):
        raise BadRequest("a revision is a whole number from 1", field="revision")
    if len(text) > _DIGITS_MAX:
        raise NotFound("this revision is not kept")
    return int(text)
