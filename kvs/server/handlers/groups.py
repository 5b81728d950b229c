"""`/api/groups`."""

from collections.abc import Mapping, Sequence
from uuid import uuid4

import msgspec

from kvs.actions import GROUP_CREATE, GROUP_DELETE, GROUP_UPDATE
from kvs.auth.accounts import (
    GROUPS,
    USERS,
    Group,
    create_group,
    decode_group,
    decode_user,
    delete_group,
    find_by_groupname,
    groups_listed,
    name_hash,
    update_group,
)
from kvs.limits import ACCOUNT_BODY_MAX_BYTES
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
from kvs.server.schemas import GroupChanges, NewGroup
from kvs.server.system import Documents


class Groups:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, call: Call) -> Response:
        self._context.check_writable()
        given = await read_fields(call, NewGroup, ACCOUNT_BODY_MAX_BYTES)
        groupname_hash = name_hash(check_name(given.groupname, "groupname"))
        uuid, members = str(uuid4()), unique(given.members)

        def change(look: Documents, now_ms: int) -> dict[str, bytes | None]:
            group = Group(
                uuid=uuid, groupname_hash=groupname_hash, members=members, created_at=now_ms, updated_at=now_ms
            )
            return create_group(look, group)

        await carry_out(self._context, change, act_of(GROUP_CREATE, call, GROUPS + uuid))
        return json_response(201, {"uuid": uuid}, location=f"/api/groups/{uuid}")

    async def list(self, call: Call) -> Response:
        """All, or with `groupname` the one that has it."""
        query = parse.query(call.request)
        if "groupname" not in query:
            return list_response("groups", *await account_page(self._context, call, GROUPS, decode_group, self._shown))
        paging(self._context, query, GROUPS)  # what a list of all refuses is refused here too
        group = find_by_groupname(documents(self._context), query["groupname"])
        return list_response("groups", [] if group is None else await self._shown([group]), None)

    async def get(self, call: Call) -> Response:
        return await self._account(uuid_parameter(call))

    async def update(self, call: Call) -> Response:
        self._context.check_writable()
        uuid, condition = uuid_parameter(call), parse.condition(call.request)
        given = await read_fields(call, GroupChanges, ACCOUNT_BODY_MAX_BYTES)
        fields: dict[str, object] = {}
        if isinstance(given.groupname, str):
            fields["groupname_hash"] = name_hash(check_name(given.groupname, "groupname"))
        if isinstance(given.members, list):
            fields["members"] = unique(given.members)

        def change(look: Documents, now_ms: int) -> dict[str, bytes | None]:
            return update_group(look, uuid, now_ms, **fields)

        act = act_of(GROUP_UPDATE, call, GROUPS + uuid)
        await carry_out(self._context, under(condition, GROUPS + uuid, change), act)
        return await self._account(uuid)

    async def delete(self, call: Call) -> Response:
        self._context.check_writable()
        uuid, condition = uuid_parameter(call), parse.condition(call.request)
        members = await listed_by(self._context, uuid, USERS, lambda raw: decode_user(raw).groups)

        def change(look: Documents, now_ms: int) -> dict[str, bytes | None]:
            return delete_group(look, uuid, now_ms, listed_by=members)

        act = act_of(GROUP_DELETE, call, GROUPS + uuid)
        await carry_out(self._context, under(condition, GROUPS + uuid, change), act)
        return Response(204)

    async def _account(self, uuid: str) -> Response:
        return await account(self._context, GROUPS + uuid, decode_group, self._shown)

    async def _shown(self, groups: Sequence[Group]) -> Sequence[Mapping[str, object]]:
        """With the members for whom they count."""
        listed = [(group.uuid, group.members) for group in groups]
        counting = await in_force(self._context, listed, groups_listed)
        return [
            {**msgspec.structs.asdict(group), "members": members}
            for group, members in zip(groups, counting, strict=True)
        ]
