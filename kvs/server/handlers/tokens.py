"""`/api/tokens` and `/api/login`."""

import re
from collections.abc import Mapping
from uuid import UUID

import msgspec
import structlog
from aiohttp import web

from kvs.actions import TOKEN_REVOKE
from kvs.auth.accounts import User, find_by_nickname, find_user, name_hash
from kvs.auth.principal import Principal
from kvs.auth.tokens import TOKEN_ID_CHARS, TOKENS, SigningKey, StoredToken, decode_token
from kvs.durations import parse_duration
from kvs.errors import BadRequest, NotFound, StoreCorrupt, TooManyRequests, Unauthorized
from kvs.limits import (
    ACCOUNT_BODY_MAX_BYTES,
    LOGIN_PER_ACCOUNT_MAX,
    LOGIN_PER_ADDRESS_MAX,
    LOGIN_TRACKED_MAX,
    LOGIN_WINDOW_S,
    TOKEN_DEFAULT_LIFE_MS,
    TOKEN_LIFE_MIN_MS,
)
from kvs.server import parse
from kvs.server.body import read_fields
from kvs.server.handlers.accounts import documents, json_response, list_response, page, readable_documents
from kvs.server.handlers.context import Context
from kvs.server.handlers.users import check_scopes
from kvs.server.ratelimit import SlidingWindow, network_of
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.server.schemas import Login, NewToken
from kvs.server.system import all_documents
from kvs.server.token_maker import MadeToken, make_token, store_token, token_act

log = structlog.get_logger()

_TOKEN_ID = re.compile(rf"[0-9a-f]{{{TOKEN_ID_CHARS}}}")


class Tokens:
    def __init__(self, context: Context, key: SigningKey) -> None:
        self._context = context
        self._key = key
        window_ms = LOGIN_WINDOW_S * 1000
        self._accounts = SlidingWindow(LOGIN_PER_ACCOUNT_MAX, window_ms, LOGIN_TRACKED_MAX)
        self._addresses = SlidingWindow(LOGIN_PER_ADDRESS_MAX, window_ms, LOGIN_TRACKED_MAX)

    async def create(self, call: Call) -> Response:
        self._context.check_writable()
        given = await read_fields(call, NewToken, ACCOUNT_BODY_MAX_BYTES)
        scopes = check_scopes(given.scopes, call.principal)
        user = find_user(documents(self._context), str(given.user_uuid))
        if user is None:
            raise BadRequest("there is no user with this uuid", field="user_uuid")
        made = await self._make(user, scopes, self._life_ms(given.expires_in), call.principal)
        return json_response(201, _answer(made))

    async def list(self, call: Call) -> Response:
        """Those that are good, or with `user_uuid` those of one user."""
        user_uuid = _user_uuid(parse.query(call.request))
        look = readable_documents(self._context)

        def show(raw: bytes) -> Mapping[str, object] | None:
            stored = decode_token(raw)
            if stored.revoked_at is not None or user_uuid not in (None, stored.user_uuid):
                return None
            if find_user(look, stored.user_uuid) is None:
                return None
            document = msgspec.structs.asdict(stored)
            del document["revoked_at"]
            return document

        return list_response("tokens", *page(self._context, call, TOKENS, show))

    async def revoke(self, call: Call) -> Response:
        self._context.check_writable()
        digest, stored = self._find(call.parameters["token_id"])
        now_ms = self._context.now_ms()
        revoked = msgspec.structs.replace(stored, revoked_at=now_ms)
        act = token_act(TOKEN_REVOKE, call.principal.actor, stored)
        await self._context.runner.write(store_token(digest, revoked, now_ms, act))
        return Response(204)

    async def login(self, call: Call) -> Response:
        self._context.check_writable()
        given = await read_fields(call, Login, ACCOUNT_BODY_MAX_BYTES)
        self._limit_attempts(call.request, given.nickname)
        asked = find_by_nickname(documents(self._context), given.nickname)
        # Asked also for a user who does not exist, so that the answer takes as long.
        good = await self._context.passwords.check(asked.password_hash if asked else None, given.password)
        # Meanwhile the user may have lost scopes, the password or the account.
        user = find_by_nickname(documents(self._context), given.nickname)
        if asked is None or user is None or not good or _credentials(user) != _credentials(asked):
            log.warning("Login refused", client=call.request.remote)
            refusal = Unauthorized()
            refusal.actor = "" if asked is None else asked.uuid
            raise refusal
        made = await self._make(user, user.scopes, self._life_ms(None), Principal(user=user.uuid))
        return json_response(200, {**_answer(made), "user_uuid": user.uuid})

    async def _make(self, user: User, scopes: tuple[str, ...], life_ms: int, creator: Principal) -> MadeToken:
        made = make_token(
            self._key,
            user=user.uuid,
            scopes=scopes,
            now_ms=self._context.now_ms(),
            life_ms=life_ms,
            created_by=creator.user,
            actor=creator.actor,
        )
        await self._context.runner.write(made.command)
        return made

    def _find(self, token_id: str) -> tuple[str, StoredToken]:
        """The hash and the record of a token that is not revoked. Raises NotFound."""
        if _TOKEN_ID.fullmatch(token_id):
            prefix, now_ms = TOKENS + token_id, self._context.now_ms()
            for name, raw in all_documents(self._context.store, prefix, prefix, now_ms):
                if raw is None:
                    continue
                if isinstance(raw, StoreCorrupt):
                    log.error("A corrupt record stands for a token", key=name, error=str(raw))
                    stored = self._lost(token_id, now_ms)
                else:
                    stored = decode_token(raw)
                if stored.revoked_at is None:
                    return name.removeprefix(TOKENS), stored
        raise NotFound("there is no such token")

    def _lost(self, token_id: str, now_ms: int) -> StoredToken:
        """In the place of a record that is corrupt: of nobody, for as long as any token lives."""
        ends_ms = now_ms + self._context.config.token_max_ttl
        return StoredToken(token_id=token_id, user_uuid="", scopes=(), created_at=now_ms, expires_at=ends_ms)

    def _life_ms(self, expires_in: int | str | None) -> int:
        most_ms = self._context.config.token_max_ttl
        try:
            if expires_in is None:
                life_ms = min(TOKEN_DEFAULT_LIFE_MS, most_ms)
            else:
                life_ms = parse_duration(expires_in) if isinstance(expires_in, str) else expires_in * 1000
        except ValueError as error:
            raise BadRequest(str(error), field="expires_in") from None
        if not TOKEN_LIFE_MIN_MS <= life_ms <= most_ms:
            raise BadRequest(f"expires_in is 1 to {most_ms // 1000} seconds", field="expires_in")
        return life_ms

    def _limit_attempts(self, request: web.BaseRequest, nickname: str) -> None:
        """Raises TooManyRequests."""
        now_ms = self._context.now_ms()
        waits = (
            (self._addresses.hit(network_of(request.remote or ""), now_ms), LOGIN_PER_ADDRESS_MAX),
            (self._accounts.hit(name_hash(nickname), now_ms), LOGIN_PER_ACCOUNT_MAX),
        )
        wait_s, limit = max(waits)
        if wait_s:
            raise TooManyRequests(
                "too many attempts to log in",
                counted_by="login",
                limit=limit,
                window_s=LOGIN_WINDOW_S,
                retry_after_s=wait_s,
            )


def _credentials(user: User) -> tuple[str, str | None]:
    """What a login proves."""
    return user.uuid, user.password_hash


def _user_uuid(query: Mapping[str, str]) -> str | None:
    """The parameter in its usual form. Raises BadRequest."""
    try:
        return str(UUID(query["user_uuid"])) if "user_uuid" in query else None
    except ValueError:
        raise BadRequest("user_uuid is a uuid", field="user_uuid") from None


def _answer(made: MadeToken) -> dict[str, object]:
    return {"token": made.token, "expires_at": made.stored.expires_at, "token_id": made.stored.token_id}
