"""What the account routes share: carrying out a change, and pages of documents."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from typing import TypeVar
from uuid import UUID

import orjson
import structlog

from kvs.auth.accounts import Changes, Group, User, is_deleted
from kvs.cluster.events import UNCONDITIONAL, Act, Condition, Transacted
from kvs.errors import BadRequest, KvsError, NotFound, StoreCorrupt
from kvs.limits import ACCOUNTS_PER_TURN, NAME_MAX_BYTES, PAGE_DEFAULT_ENTRIES, PAGE_MAX_ENTRIES, PAGE_MAX_SCANNED
from kvs.server import parse
from kvs.server.handlers.context import Context
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.server.system import Documents, change_documents, live_document, live_documents

log = structlog.get_logger()

_Side = Collection[str] | None
_Shown = TypeVar("_Shown")
_Account = TypeVar("_Account", User, Group)


async def carry_out(
    context: Context, change: Callable[[Documents, int], Changes], act: Act
) -> Mapping[bytes, bytes | None]:
    """Commit a change of documents; what was written. `act` is what it is in the audit log. Raises the KvsError that
    refuses it."""
    (outcome,) = await context.runner.submit([change_documents(change, act)])
    if isinstance(outcome, KvsError):
        raise outcome
    assert isinstance(outcome, Transacted)
    return outcome.values


def act_of(action: str, call: Call, name: str) -> Act:
    """What whoever asks does to the account of this name, for the audit log."""
    return Act(action, call.principal.actor, f"/{name}")


def tag_of(document: bytes) -> str:
    """The entity tag of a document: of its content, so that who put everything back has changed nothing."""
    return sha256(document).hexdigest()[:32]


def under(condition: Condition, name: str, change: Callable[[Documents, int], Changes]) -> Callable[..., Changes]:
    """The change, refused unless the condition holds for the document `name` when the change is decided. One that is
    absent is left to the change."""

    def checked(look: Documents, now_ms: int) -> Changes:
        if condition is not UNCONDITIONAL:
            document = look(name)
            if document is not None:
                condition.check(tag_of(document))
        return change(look, now_ms)

    return checked


def documents(context: Context) -> Documents:
    """The documents as they are now."""
    now_ms = context.now_ms()
    return lambda name: live_document(context.store, name, now_ms)


def readable_documents(context: Context) -> Documents:
    """As `documents`, without those that are corrupt, which are logged."""
    look = documents(context)

    def found(name: str) -> bytes | None:
        try:
            return look(name)
        except StoreCorrupt as error:
            log.error("A corrupt record is left out", key=name, error=str(error))
            return None

    return found


async def listed_by(
    context: Context, uuid: str, prefix: str, listed: Callable[[bytes], Sequence[str]]
) -> tuple[str, ...]:
    """Which accounts under `prefix` list this one, whatever it lists itself."""
    found: list[str] = []
    for number, (name, raw) in enumerate(live_documents(context.store, prefix, prefix, context.now_ms())):
        if raw is not None and uuid in listed(raw):
            found.append(name.removeprefix(prefix))
        if number % PAGE_MAX_ENTRIES == 0:
            await asyncio.sleep(0)
    return tuple(found)


def paging(context: Context, query: Mapping[str, str], prefix: str) -> tuple[int, str]:
    """How many entries a page may have, and the name that it begins at. Raises BadRequest."""
    limit = parse.integer(query, "limit", default=PAGE_DEFAULT_ENTRIES, least=1, most=PAGE_MAX_ENTRIES)
    start = context.cursors.decode(query["cursor"]).decode(errors="replace") if "cursor" in query else prefix
    return limit, max(start, prefix)


async def in_force(
    context: Context, accounts: Sequence[tuple[str, Sequence[str]]], other_side: Callable[[Documents, str], _Side]
) -> list[tuple[str, ...]]:
    """What of each account's memberships counts, given its uuid and what it lists: what `other_side` lists as well, or
    what cannot be read there. Each of those is read once; others get their turn in between."""
    look = documents(context)
    asked = {uuid for uuid, _ in accounts}
    agreed: dict[str, Collection[str]] = {}
    for number, other in enumerate(dict.fromkeys(chain.from_iterable(listed for _, listed in accounts)), 1):
        side = other_side(look, other)
        agreed[other] = asked if side is None else asked.intersection(side)
        if number % ACCOUNTS_PER_TURN == 0:
            await asyncio.sleep(0)
    return [tuple(other for other in listed if uuid in agreed[other]) for uuid, listed in accounts]


def page(
    context: Context, call: Call, prefix: str, show: Callable[[bytes], _Shown | None]
) -> tuple[list[_Shown], str | None]:
    """What `show` makes of the documents under `prefix`, without those that it gives None for, and the cursor of the
    next page."""
    limit, start = paging(context, parse.query(call.request), prefix)
    shown: list[_Shown] = []
    next_start = None
    found = live_documents(context.store, prefix, start, context.now_ms())
    for scanned, (document_name, raw) in enumerate(found):
        if len(shown) == limit or scanned == PAGE_MAX_SCANNED:
            next_start = document_name
            break
        document = None if raw is None else show(raw)
        if document is not None:
            shown.append(document)
    return shown, None if next_start is None else context.cursors.encode(next_start.encode())


async def account_page(
    context: Context,
    call: Call,
    prefix: str,
    decode: Callable[[bytes], _Account],
    show: Callable[[Sequence[_Account]], Awaitable[Sequence[Mapping[str, object]]]],
) -> tuple[Sequence[Mapping[str, object]], str | None]:
    """As `page`, of users or groups, without those that were deleted."""
    look = readable_documents(context)

    def kept(raw: bytes) -> _Account | None:
        found = decode(raw)
        return None if is_deleted(look, found.uuid) else found

    accounts, next_cursor = page(context, call, prefix, kept)
    return await show(accounts), next_cursor


async def account(
    context: Context,
    name: str,
    decode: Callable[[bytes], _Account],
    show: Callable[[Sequence[_Account]], Awaitable[Sequence[Mapping[str, object]]]],
) -> Response:
    """One account as it is now, with its entity tag. Raises NotFound."""
    look = documents(context)
    document = look(name)
    kind, _, uuid = name.partition("/")
    if document is None or is_deleted(look, uuid):
        raise NotFound(f"there is no such {kind}")
    (shown,) = await show([decode(document)])
    return Response(200, orjson.dumps(shown), fields=b'ETag: "%b"\r\n' % tag_of(document).encode())


def list_response(name: str, shown: Sequence[object], next_cursor: str | None) -> Response:
    """One page."""
    return json_response(200, {name: shown, "next_cursor": next_cursor})


def json_response(status: int, document: object, *, location: str = "") -> Response:
    fields = f"Location: {location}\r\n".encode() if location else b""
    return Response(status, orjson.dumps(document), fields=fields)


def uuid_parameter(call: Call) -> str:
    """The uuid in the path in its usual form. Raises NotFound for anything else: there is nothing under it."""
    try:
        return str(UUID(call.parameters["uuid"]))
    except ValueError:
        raise NotFound("there is nothing under this uuid") from None


def check_name(text: str, field: str) -> str:
    """A nickname or group name. Raises BadRequest."""
    if not text.strip() or not text.isprintable() or len(text.encode()) > NAME_MAX_BYTES:
        raise BadRequest(f"{field} is 1 to {NAME_MAX_BYTES} bytes of printable text", field=field)
    return text


def unique(uuids: Sequence[UUID]) -> tuple[str, ...]:
    """In their usual form, each once, in the order given."""
    return tuple(dict.fromkeys(map(str, uuids)))
