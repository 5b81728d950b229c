"""`/kv/{key}/metadata`: who owns a key and who may do what with it. Needs no value under the key."""

from collections.abc import Mapping

import msgspec
import orjson
from aiohttp import web

from kvs.cluster.events import Update
from kvs.errors import BadRequest, NotFound
from kvs.limits import METADATA_MAX_BYTES
from kvs.server import parse
from kvs.server.body import parse_json, read_body, take_apart
from kvs.server.handlers.context import Context
from kvs.server.response import Response
from kvs.storage.codec import decode
from kvs.storage.keyspace import data_key, system_key
from kvs.storage.record import Record, new_uuid

PERMISSIONS_DEFAULT = 0xF31
"""Owner: create, delete, write, read; group: write, read (and no create, no delete); others: read."""


class _Changes(msgspec.Struct, frozen=True):
    """What a body may name; what it does not name stays."""

    owner_uuid: str | msgspec.UnsetType | None = msgspec.UNSET
    group_uuid: str | msgspec.UnsetType | None = msgspec.UNSET
    permissions: int | msgspec.UnsetType = msgspec.UNSET


_changes = msgspec.json.Decoder(_Changes)


class Metadata:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, request: web.BaseRequest, parameters: Mapping[str, str]) -> Response:
        key = parse.parse_key(parameters["key"])
        explicit = self._live(_entry(key))
        if explicit is None and not parse.boolean(parse.query(request), "effective"):
            raise NotFound("no metadata were set for this key")
        document = self._document(key, orjson.loads(explicit.data) if explicit else {})
        return Response(200, orjson.dumps(document))

    async def put(self, request: web.BaseRequest, parameters: Mapping[str, str]) -> Response:
        self._context.check_writable()
        key = parse.parse_key(parameters["key"])
        body = await read_body(request, METADATA_MAX_BYTES)
        parse_json(body)
        try:
            named = msgspec.to_builtins(take_apart(_changes, body))
        except msgspec.ValidationError as error:
            raise BadRequest(f"the body is not metadata: {error}", code="invalid_metadata") from None
        if not 0 <= named.get("permissions", 0) <= 0xFFF:
            raise BadRequest("permissions is a number of 12 bits, 0 to 4095", field="permissions")

        def change(old: bytes | None, now_ms: int) -> bytes:
            document = orjson.loads(old) if old else {"created_at": now_ms}
            return orjson.dumps({**document, **named, "updated_at": now_ms})

        record, _ = await self._context.runner.write(Update(entry=_entry(key), uuid=new_uuid(), change=change))
        document = self._document(key, orjson.loads(record.data))
        return Response(200, orjson.dumps(document))

    def _document(self, key: bytes, explicit: dict[str, object]) -> dict[str, object]:
        """The whole metadata: what was set, else what applies without. `ttl` is what remains, in milliseconds; 0 when
        there is no value or it does not end."""
        value = self._live(data_key(key))
        created_at = value.timestamp if value else None
        return {
            "owner_uuid": explicit.get("owner_uuid", (value.owner or None) if value else None),
            "group_uuid": explicit.get("group_uuid"),
            "permissions": explicit.get("permissions", PERMISSIONS_DEFAULT),
            "ttl": value.expires_at - self._context.now_ms() if value and value.expires_at else 0,
            "created_at": explicit.get("created_at", created_at),
            "updated_at": explicit.get("updated_at", created_at),
        }

    def _live(self, entry: bytes) -> Record | None:
        raw = self._context.store.get(entry)
        if raw is None:
            return None
        record = decode(entry, raw).record
        return record if record.is_live(self._context.now_ms()) else None


def _entry(key: bytes) -> bytes:
    return system_key(b"metadata/" + key)
