"""`POST /kv/_bulk`: many writes in one commit of this node. A bad item fails alone."""

import asyncio
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import orjson

from kvs.auth import scopes
from kvs.auth.principal import Principal
from kvs.cluster.events import ANY, UNCONDITIONAL, Command, Condition, Delete, Outcome, Put, Written
from kvs.errors import BadRequest, Forbidden, KvsError, TooLarge, Unauthorized
from kvs.keys import check_key
from kvs.limits import BULK_MAX_BYTES, BULK_MAX_ITEMS, OFFLOAD_MIN_BYTES
from kvs.server import parse
from kvs.server.authorisation import check_delete_scope, delete_guard
from kvs.server.body import at_fault, parse_json, read_body, take_apart
from kvs.server.handlers.context import Context
from kvs.server.handlers.values import stored_type
from kvs.server.problems import describe
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.server.schemas import BulkItem
from kvs.storage.keyspace import data_key, path_of
from kvs.storage.record import JSON, new_uuid, uuid_text

_item = msgspec.json.Decoder(BulkItem)
_places = [(f"item{number}", msgspec.Raw, msgspec.UNSET) for number in range(BULK_MAX_ITEMS + 1)]
_array: msgspec.json.Decoder[Any] = msgspec.json.Decoder(msgspec.defstruct("_Array", _places, array_like=True))
"""The items of an array, up to one too many. What comes behind is skipped, where a list of all items would take 24
bytes of memory for every byte of a hostile body."""
_line = re.compile(rb"[^ \t\r\n][^\n]*")


class Bulk:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def post(self, call: Call) -> Response:
        self._context.check_writable()
        items = split_items(await read_body(call, BULK_MAX_BYTES))
        planned = [await self._command(item, call.principal) async for item in _in_turns(items)]
        commands = [command for command in planned if not isinstance(command, KvsError)]
        outcomes = iter(await self._context.runner.submit(commands) if commands else ())
        ended = [(command, command if isinstance(command, KvsError) else next(outcomes)) for command in planned]
        self._note_refusals(call, ended)
        return Response(200, orjson.dumps({"results": [_result(command, outcome) for command, outcome in ended]}))

    def _note_refusals(self, call: Call, ended: Sequence[tuple[Command | KvsError, Outcome]]) -> None:
        """Items are refused one by one, where nobody else hears of it. The audit log gets the first key, and how many
        there were."""
        auditor = self._context.auditor
        refused = [pair for pair in ended if isinstance(pair[1], Unauthorized | Forbidden)]
        if auditor is None or not refused:
            return
        command, error = refused[0]
        key = f" {path_of(command.entry)}" if isinstance(command, Put | Delete) else ""
        assert isinstance(error, KvsError)
        auditor.refused(call.request, call.principal.actor, error, f"/kv/_bulk{key}", len(refused))

    async def _command(self, raw: bytes, principal: Principal) -> Command | KvsError:
        """The command of an item, or why there is none."""
        try:
            item = take_apart(_item, raw)
            key = item.path.encode()
            check_key(key)
            condition = _condition(item)
            _check_scope(principal, item.op)
            if item.op == "delete":
                return Delete(
                    entry=data_key(key),
                    uuid=new_uuid(),
                    owner=principal.user,
                    condition=condition,
                    guard=delete_guard(principal),
                )
            data, content_type = self._value(item)
            ttl_ms = self._context.config.default_ttl if item.ttl is None else parse.ttl_ms(item.ttl)
            return await self._context.put_command(principal, data_key(key), data, content_type, ttl_ms, condition)
        except msgspec.ValidationError as error:
            return BadRequest(f"the item is not a bulk operation: {error}", code="invalid_item", **at_fault(error))
        except KvsError as error:
            return error

    def _value(self, item: BulkItem) -> tuple[bytes, str]:
        config = self._context.config
        data = bytes(item.data)
        if not data:
            raise BadRequest("a put has data", field="data")
        content_type = JSON
        if item.encoding == "base64":
            content_type = stored_type(item.content_type, "content_type")
            try:
                data = b64decode(msgspec.json.decode(data, type=str), validate=True)
            except (msgspec.ValidationError, Base64Error):
                raise BadRequest("data is base64 text", field="data") from None
        most = config.max_json_size if content_type == JSON else config.max_blob_size
        if len(data) > most:
            raise TooLarge(f"the value is larger than {most} bytes", limit=most, actual=len(data))
        if content_type == JSON:
            parse_json(data)
        return data, content_type


def split_items(body: bytes) -> list[bytes]:
    """The items as JSON texts: elements of an array, or lines. Raises BadRequest for an array that is no JSON, TooLarge
    for more items than allowed."""
    if body.lstrip()[:1] == b"[":
        array = msgspec.structs.astuple(take_apart(_array, body))
        items = [bytes(item) for item in array if item is not msgspec.UNSET]
    else:
        items = [line[0] for line in islice(_line.finditer(body), BULK_MAX_ITEMS + 1)]
    if len(items) > BULK_MAX_ITEMS:
        raise TooLarge(f"a bulk request has at most {BULK_MAX_ITEMS} items", limit=BULK_MAX_ITEMS, actual=len(items))
    return items


async def _in_turns(items: Sequence[bytes]) -> AsyncIterator[bytes]:
    """The items, with a turn for other requests now and then."""
    size_bytes = 0
    for item in items:
        yield item
        size_bytes += len(item)
        if size_bytes >= OFFLOAD_MIN_BYTES:
            size_bytes = 0
            await asyncio.sleep(0)


def _check_scope(principal: Principal, op: str) -> None:
    """The route lets in who may put or delete, and anonymous writers, who may only put: to delete they need a token."""
    if op == "delete":
        check_delete_scope(principal)
    if op == "put" and principal.token_id and scopes.WRITE not in principal.scopes:
        raise Forbidden


def _condition(item: BulkItem) -> Condition:
    if item.if_match is None and item.if_none_match is None:
        return UNCONDITIONAL
    return Condition(match=_tag(item.if_match), none_match=_tag(item.if_none_match))


def _tag(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    return ANY if text == "*" else frozenset((text.strip('"'),))


def _result(command: Command | KvsError, outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, KvsError):
        return describe(outcome)
    assert isinstance(outcome, Written)
    record = outcome.record
    if record.deleted:
        return {"status": 204}
    return {"status": 201 if outcome.created else 200, "uuid": uuid_text(record.uuid), "timestamp": record.timestamp}
