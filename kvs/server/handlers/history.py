"""`/api/data/{key}/history`: what a key held before, and the way back."""

from collections.abc import Iterator
from functools import partial

from kvs.auth.permissions import Action, permits
from kvs.cluster.events import Restore
from kvs.errors import BadRequest, Forbidden, KvsError, NotFound
from kvs.limits import HISTORY_MAX_BYTES, REVISIONS_MAX
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
        first = parse.integer(parse.query(call.request), "from", default=1, least=1, most=REVISIONS_MAX)
        entries: list[bytes] = []
        size_bytes = 0
        fields = b""
        for number, record in self._readable(call, first):
            if size_bytes >= HISTORY_MAX_BYTES:
                fields = b'Link: <?from=%d>; rel="next"\r\n' % number
                break
            entries.append(revision_json(number, record))
            size_bytes += len(entries[-1])
        if not entries:
            raise self._nothing(call, "this key has no history")
        return Response(200, b"[%b]" % b",".join(entries), fields=fields)

    async def get(self, call: Call) -> Response:
        wanted = _number(call)
        number, record = next(self._readable(call, wanted), (0, None))
        if record is None or number != wanted:
            raise self._nothing(call, "this revision is not kept")
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

    def _readable(self, call: Call, first: int = 1) -> Iterator[tuple[int, Record]]:
        """The revisions that the caller may read, from this number on."""
        self._check_enabled()
        entry = requested_entry(call.parameters["key"])
        now_ms = self._context.now_ms()
        metadata = read_metadata(self._context.store, entry, now_ms)
        for number, record in history(self._context.store, entry, now_ms, self._context.config.max_revisions, first):
            if permits(call.principal, Action.READ, metadata, record.owner):
                yield number, record

    def _nothing(self, call: Call, detail: str) -> KvsError:
        """Why there is nothing to show: for a key whose metadata keep him out Forbidden, whether it has a history or
        not."""
        if next(self._readable(call), None) is not None:
            return NotFound(detail)
        entry = requested_entry(call.parameters["key"])
        metadata = read_metadata(self._context.store, entry, self._context.now_ms())
        return NotFound(detail) if permits(call.principal, Action.READ, metadata, None) else Forbidden()

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
