"""`/kv/{key}`: one value."""

from collections.abc import Mapping

import msgspec
from aiohttp import hdrs

from kvs.cluster.events import Delete
from kvs.errors import BadRequest, Forbidden, NotFound, StoreCorrupt
from kvs.limits import CONTENT_TYPE_MAX_BYTES, COPIES_TIMEOUT_MAX_MS, COPIES_TIMEOUT_MS
from kvs.server import parse
from kvs.server.authorisation import delete_guard, may_read
from kvs.server.body import parse_json, read_body, take_apart
from kvs.server.handlers.context import Context
from kvs.server.remembered import requested_entry, shown
from kvs.server.render import value_json, version_fields, version_json
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.server.schemas import TtlForm
from kvs.storage.record import JSON, is_media_type, new_uuid, uuid_text

_AS_JSON = ("", JSON, "application/x-www-form-urlencoded")
"""curl sends the last one with `-d` unless told otherwise."""


_NOTHING = (None, "", b"", b"")

_ttl_form = msgspec.json.Decoder(TtlForm)


class Values:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, call: Call) -> Response:
        context = self._context
        now_ms = context.now_ms()
        entry = requested_entry(call.parameters["key"])
        raw = context.store.get(entry)
        try:
            record, tag, fields, body = _NOTHING if raw is None else shown(entry, raw)
        except StoreCorrupt:
            context.fetch_again(entry)
            raise
        if record is not None and not record.is_live(now_ms):
            record = None
        if not may_read(context.store, call.principal, entry, record, now_ms, has_metadata=context.runner.has_metadata):
            raise Forbidden
        if record is None:
            raise NotFound("there is no value under this key")
        if parse.is_not_modified(call.request, tag):
            return Response(304, fields=fields)
        if record.content_type == JSON:
            return Response(200, body or value_json(record, tag), fields=fields)
        # A stored page must not run in the name of this server.
        fields += b"Content-Security-Policy: sandbox\r\n"
        return Response(200, record.data, record.content_type, fields)

    async def put(self, call: Call) -> Response:
        context, request = self._context, call.request
        context.check_writable()
        entry = requested_entry(call.parameters["key"])
        condition = parse.condition(request)
        query = parse.query(request)
        ttl_ms = parse.ttl_ms(query["ttl"]) if "ttl" in query else None
        content_type = stored_type(request.headers.get(hdrs.CONTENT_TYPE, ""))
        if content_type == JSON:
            data = await read_body(call, context.config.max_json_size)
            data, form_ttl_ms = unwrap_ttl(data)
            if form_ttl_ms is not None and ttl_ms is not None:
                raise BadRequest("ttl is given in the query and in the body", field="ttl")
            ttl_ms = form_ttl_ms if form_ttl_ms is not None else ttl_ms
        else:
            data = await read_body(call, context.config.max_blob_size)
        if ttl_ms is None:
            ttl_ms = context.config.default_ttl
        nodes, timeout_ms = self._wanted_copies(query) if query else (1, 0)
        command = await context.put_command(call.principal, entry, data, content_type, ttl_ms, condition)
        written = await context.runner.write(command)
        record = written.record
        tag = uuid_text(record.uuid)
        fields = version_fields(record, tag)
        if nodes > 1 and context.cluster is not None:
            held = await context.cluster.wait_for(entry, record, nodes, timeout_ms / 1000)
            if held < nodes:
                return Response(202, version_json(record, tag)[:-1] + b',"replicated":%d}' % held, fields=fields)
        return Response(201 if written.created else 200, version_json(record, tag), fields=fields)

    def _wanted_copies(self, query: Mapping[str, str]) -> tuple[int, int]:
        """On how many nodes a write must be before it is answered, and how long to wait for that in ms. Raises
        BadRequest."""
        cluster = self._context.cluster
        known = 1 if cluster is None else cluster.known_count
        timeout_ms = parse.duration_ms(query, "timeout", default=COPIES_TIMEOUT_MS, most=COPIES_TIMEOUT_MAX_MS)
        return parse.integer(query, "w", default=1, least=1, most=known), timeout_ms

    async def delete(self, call: Call) -> Response:
        self._context.check_writable()
        command = Delete(
            entry=requested_entry(call.parameters["key"]),
            uuid=new_uuid(),
            owner=call.principal.user,
            condition=parse.condition(call.request),
            guard=delete_guard(call.principal),
        )
        await self._context.runner.write(command)
        return Response(204)


def unwrap_ttl(data: bytes) -> tuple[bytes, int | None]:
    """Check a JSON document. If it is the form `{"data", "ttl"}`, the bytes of its `data` and the time to live in
    milliseconds; else the document itself and None. Raises BadRequest."""
    document = parse_json(data)
    if not (isinstance(document, dict) and len(document) == 2 and "data" in document and "ttl" in document):
        return data, None
    try:
        form = take_apart(_ttl_form, data)
    except msgspec.ValidationError:
        raise BadRequest('ttl is a duration in quotes, such as "1h30m"', field="ttl") from None
    return bytes(form.data), parse.ttl_ms(form.ttl)


def stored_type(text: str, field: str = hdrs.CONTENT_TYPE) -> str:
    """The content type a value is stored under: JSON, whatever its parameters, or a blob's own. Raises BadRequest that
    names the field."""
    if text in _AS_JSON or text.partition(";")[0].strip().lower() in _AS_JSON:
        return JSON
    if len(text) > CONTENT_TYPE_MAX_BYTES or not is_media_type(text):
        raise BadRequest(f"a content type is a media type of at most {CONTENT_TYPE_MAX_BYTES} bytes", field=field)
    return text
