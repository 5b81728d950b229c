"""`/api/users`."""

from collections.abc import Mapping, Sequence
from uuid import uuid4

import msgspec

from kvs.actions import USER_CREATE, USER_DELETE, USER_UPDATE
from kvs.auth.accounts import (
    GROUPS,
    USERS,
    User,
    create_user,
    decode_group,
    decode_user,
    delete_user,
    find_by_nickname,
    find_user,
    members_listed,
    name_hash,
    update_user,
)
from kvs.auth.principal import Principal
from kvs.auth.scopes import ALL, DATA, GROUPS_UPDATE, USERS_UPDATE
from kvs.errors import BadRequest, Forbidden
from kvs.limits import ACCOUNT_BODY_MAX_BYTES, PASSWORD_MAX_BYTES, PASSWORD_MIN_CHARS
from kvs.server import parse
from kvs.server.body import read_fields
from kvs.server.handlers.accounts import (
    account,
    account_page,
    act_of,
    carry_out,
    check_name,
    documents,
    in_force,
    json_response,
    list_response,
    listed_by,
    paging,
    under,
    unique,
    uuid_parameter,
)
from kvs.server.handlers.context import Context
from kvs.server.response import Response
from kvs.server.router import Call
from kvs.server.schemas import NewUser, UserChanges
from kvs.server.system import Documents


class Users:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, call: Call) -> Response:
        self._context.check_writable()
        given = await read_fields(call, NewUser, ACCOUNT_BODY_MAX_BYTES)
        nickname_hash = name_hash(check_name(given.nickname, "nickname"))
        password_hash = await self._hash(call, given.password)
        wanted = [scope for scope in DATA if scope in call.principal.scopes] if given.scopes is None else given.scopes
        scopes = check_scopes(wanted, call.principal)
        uuid, groups = str(uuid4()), unique(given.groups)
        if groups and call.principal.scopes.isdisjoint((USERS_UPDATE, GROUPS_UPDATE)):
            raise Forbidden(f"to put a user into groups takes {USERS_UPDATE} or {GROUPS_UPDATE}")

        def change(look: Documents, now_ms: int) -> dict[str, bytes | None]:
            user = User(
                uuid=uuid,
                nickname_hash=nickname_hash,
                password_hash=password_hash,
                groups=groups,
                scopes=scopes,
                created_at=now_ms,
                updated_at=now_ms,
            )
            return create_user(look, user)

        await carry_out(self._context, change, act_of(USER_CREATE, call, USERS + uuid))
        return json_response(201, {"uuid": uuid}, location=f"/api/users/{uuid}")

    async def list(self, call: Call) -> Response:
        """All, or with `nickname` the one who has it."""
        query = parse.query(call.request)
        if "nickname" not in query:
            return list_response("users", *await account_page(self._context, call, USERS, decode_user, self._shown))
        paging(self._context, query, USERS)  # what a list of all refuses is refused here too
        user = find_by_nickname(documents(self._context), query["nickname"])
        return list_response("users", [] if user is None else await self._shown([user]), None)

    async def get(self, call: Call) -> Response:
        return await self._account(uuid_parameter(call))

    async def update(self, call: Call) -> Response:
        self._context.check_writable()
        uuid, condition = uuid_parameter(call), parse.condition(call.request)
        given = await read_fields(call, UserChanges, ACCOUNT_BODY_MAX_BYTES)
        fields: dict[str, object] = {}
        if isinstance(given.nickname, str):
            fields["nickname_hash"] = name_hash(check_name(given.nickname, "nickname"))
        if given.password is not msgspec.UNSET:
            fields["password_hash"] = await self._hash(call, given.password)
        if isinstance(given.groups, list):
            fields["groups"] = unique(given.groups)
        principal = call.principal
        if isinstance(given.scopes, list):
            fields["scopes"] = check_scopes(given.scopes, principal)

        def change(look: Documents, now_ms: int) -> dict[str, bytes | None]:
            user = find_user(look, uuid)
            if user is not None and "password_hash" in fields and not principal.scopes.issuperset(user.scopes):
                # Whoever sets a password can log in with it.
                raise Forbidden("this user's login gives scopes that your token lacks", code="scope_exceeded")
            return update_user(look, uuid, now_ms, **fields)

        act = act_of(USER_UPDATE, call, USERS + uuid)
        await carry_out(self._context, under(condition, USERS + uuid, change), act)
        return await self._account(uuid)

    async def delete(self, call: Call) -> Response:
        self._context.check_writable()
        uuid, condition = uuid_parameter(call), parse.condition(call.request)
        groups = await listed_by(self._context, uuid, GROUPS, lambda raw: decode_group(raw).members)

        def change(look: Documents, now_ms: int) -> dict[str, bytes | None]:
            return delete_user(look, uuid, now_ms, listed_by=groups)

        act = act_of(USER_DELETE, call, USERS + uuid)
        await carry_out(self._context, under(condition, USERS + uuid, change), act)
        return Response(204)

    async def _account(self, uuid: str) -> Response:
        return await account(self._context, USERS + uuid, decode_user, self._shown)

    async def _shown(self, users: Sequence[User]) -> Sequence[Mapping[str, object]]:
        """With the groups that count for them."""
        listed = [(user.uuid, user.groups) for user in users]
        counting = await in_force(self._context, listed, members_listed)
        return [_document(user, groups) for user, groups in zip(users, counting, strict=True)]

    async def _hash(self, call: Call, password: str | msgspec.UnsetType | None) -> str | None:
        """Of a password that is one. That takes its time: behind it, `call.principal` is who asks now."""
        if not isinstance(password, str):
            return None
        if len(password) < PASSWORD_MIN_CHARS or len(password.encode()) > PASSWORD_MAX_BYTES:
            raise BadRequest(
                f"password has at least {PASSWORD_MIN_CHARS} characters and at most {PASSWORD_MAX_BYTES} bytes",
                field="password",
            )
        hashed = await self._context.passwords.hash(password)
        call.admit_again()
        return hashed


def check_scopes(given: list[str], principal: Principal) -> tuple[str, ...]:
    """Known scopes, in their usual order. Raises BadRequest, and Forbidden for one that the principal lacks."""
    unknown = [scope for scope in given if scope not in ALL]
    if unknown:
        raise BadRequest(f"{unknown[0][:64]!r} is not a scope", field="scopes")
    if not principal.scopes.issuperset(given):
        raise Forbidden("these scopes include some that your token lacks", code="scope_exceeded")
    return tuple(scope for scope in ALL if scope in given)


def _document(user: User, groups: tuple[str, ...]) -> Mapping[str, object]:
    document = msgspec.structs.asdict(user)
    del document["password_hash"]
    return {**document, "groups": groups, "has_password": user.password_hash is not None}
