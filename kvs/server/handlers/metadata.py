"""`/kv/{key}/metadata`: who owns a key and who may do what with it. Needs no value under the key."""

import msgspec
import orjson

from kvs.actions import METADATA_UPDATE
from kvs.auth import scopes
from kvs.auth.permissions import (
    DEFAULT_PERMISSIONS,
    PERMISSIONS_MAX,
    Metadata,
    decode_metadata,
    encode_metadata,
    owner_of,
)
from kvs.auth.principal import Principal
from kvs.cluster.events import Act, Look, Transact, Transacted
from kvs.errors import BadRequest, Forbidden, KvsError, NotFound
from kvs.limits import METADATA_MAX_BYTES
from kvs.server import parse
from kvs.server.authorisation import read_metadata
from kvs.server.body import read_fields
from kvs.server.handlers.context import Context
from kvs.server.remembered import requested_entry
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.server.schemas import MetadataChanges
from kvs.storage.codec import decode
from kvs.storage.keyspace import metadata_key, path_of
from kvs.storage.record import Record, new_uuid


class MetadataRoutes:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, call: Call) -> Response:
        now_ms = self._context.now_ms()
        entry = requested_entry(call.parameters["key"])
        wants_effective = parse.boolean(parse.query(call.request), "effective")
        metadata = read_metadata(self._context.store, entry, now_ms)
        value = self._live(entry, now_ms)
        if scopes.USERS_READ not in call.principal.scopes:
            _check_owner(call.principal, metadata, value)
        if metadata is None and not wants_effective:
            raise NotFound("no metadata were set for this key")
        return _response(metadata, value, now_ms)

    async def put(self, call: Call) -> Response:
        self._context.check_writable()
        entry = requested_entry(call.parameters["key"])
        named = msgspec.to_builtins(await read_fields(call, MetadataChanges, METADATA_MAX_BYTES))
        if not 0 <= named.get("permissions", 0) <= PERMISSIONS_MAX:
            raise BadRequest("permissions is a number of 12 bits, 0 to 4095", field="permissions")
        trusted = scopes.USERS_UPDATE in call.principal.scopes

        def decide(look: Look, now_ms: int) -> dict[bytes, bytes | None]:
            value, old = look(entry), look(metadata_key(entry))
            metadata = None if old is None else decode_metadata(old.data)
            if not trusted:
                _check_owner(call.principal, metadata, value)
            if metadata is None:
                # From now on the owner is the owner of the key, also after the value is gone.
                metadata = Metadata(owner_uuid=(value.owner if value else None) or None, created_at=now_ms)
            changed = msgspec.structs.replace(metadata, **named, updated_at=now_ms)
            return {metadata_key(entry): encode_metadata(changed)}

        act = Act(METADATA_UPDATE, call.principal.actor, path_of(entry))
        (outcome,) = await self._context.runner.submit([Transact(uuid=new_uuid(), decide=decide, acts=(act,))])
        if isinstance(outcome, KvsError):
            raise outcome
        assert isinstance(outcome, Transacted)
        now_ms = self._context.now_ms()
        written = outcome.values[metadata_key(entry)]
        assert written is not None
        return _response(decode_metadata(written), self._live(entry, now_ms), now_ms)

    def _live(self, entry: bytes, now_ms: int) -> Record | None:
        raw = self._context.store.get(entry)
        record = None if raw is None else decode(entry, raw).record
        return record if record is not None and record.is_live(now_ms) else None


def _check_owner(principal: Principal, metadata: Metadata | None, value: Record | None) -> None:
    """Raises Forbidden."""
    if not principal.user or owner_of(metadata, None if value is None else value.owner) != principal.user:
        raise Forbidden


def _response(metadata: Metadata | None, value: Record | None, now_ms: int) -> Response:
    """The whole metadata: what was set, else what applies without. `ttl` is what remains, in milliseconds; 0 when there
    is no value or it does not end."""
    written_at = value.timestamp if value else None
    document = {
        "owner_uuid": owner_of(metadata, value.owner if value else None) or None,
        "group_uuid": metadata.group_uuid if metadata else None,
        "permissions": metadata.permissions if metadata else DEFAULT_PERMISSIONS,
        "ttl": value.expires_at - now_ms if value and value.expires_at else 0,
        "created_at": metadata.created_at if metadata else written_at,
        "updated_at": metadata.updated_at if metadata else written_at,
    }
    return Response(200, orjson.dumps(document))
