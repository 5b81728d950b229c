"""Users, groups and tokens, and what all calls of the client go through."""

import base64
import hashlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import msgspec

from kvs.client.errors import (
    ApiError,
    OutcomeUnknownError,
    ProtocolError,
    UnauthorizedError,
    UnavailableError,
)
from kvs.client.http import Answer, Doubt, Http
from kvs.client.model import JSON, Duration, Group, NewToken, Token, User, WhoAmI, duration_text
from kvs.client.paging import paged
from kvs.client.sendable import json_bytes, query_text, segment
from kvs.client.wire import WireUuid, convert, decode

_NONE: Mapping[str, str] = MappingProxyType({})
_PAGE = 1_000
_EXP_MAX_S = 253_402_300_799
"""The end of the year 9999."""
KEEP: Any = object()
"""Stands for what is not to be changed."""

Account = TypeVar("Account", User, Group)


class Accounts:
    """The part of `AsyncClient` that is not about data."""

    _http: Http

    # --- users ---

    async def create_user(
        self,
        nickname: str,
        *,
        password: str | None = None,
        groups: Iterable[str] = (),
        scopes: Iterable[str] | None = None,
    ) -> str:
        """The uuid of a new user. `scopes` are what a login gives."""
        document: dict[str, Any] = {"nickname": nickname, "groups": list(groups)}
        if password is not None:
            document["password"] = password
        if scopes is not None:
            document["scopes"] = list(scopes)
        return _uuid(await self._call("POST", "/api/users", document=document))

    async def users(self) -> AsyncGenerator[User, None]:
        """All users. Nicknames are not known: only their hashes are stored."""
        async for found in self.pages("/api/users", "users"):
            yield convert(found, User)

    async def user(self, uuid: str) -> User:
        """Raises NotFoundError."""
        return _account(User, await self._read("users", uuid))

    async def find_user(self, nickname: str) -> User | None:
        """The user with this nickname."""
        async for found in self.pages("/api/users", "users", {"nickname": nickname}):
            return convert(found, User)
        return None

    async def update_user(
        self,
        uuid: str,
        *,
        nickname: str = KEEP,
        password: str | None = KEEP,
        groups: Iterable[str] = KEEP,
        scopes: Iterable[str] = KEEP,
        if_match: str | None = None,
    ) -> User:
        """Change what is named; the password None takes it away. `if_match` is an `etag`."""
        fields = {"nickname": nickname, "password": password, "groups": groups, "scopes": scopes}
        return _account(User, await self._change("users", uuid, fields, if_match))

    async def delete_user(self, uuid: str, *, if_match: str | None = None) -> None:
        await self._call("DELETE", f"/api/users/{segment(uuid)}", headers=_condition(if_match))

    # --- groups ---

    async def create_group(self, groupname: str, *, members: Iterable[str] = ()) -> str:
        """The uuid of a new group."""
        document = {"groupname": groupname, "members": list(members)}
        return _uuid(await self._call("POST", "/api/groups", document=document))

    async def groups(self) -> AsyncGenerator[Group, None]:
        """All groups. Their names are not known: only hashes are stored."""
        async for found in self.pages("/api/groups", "groups"):
            yield convert(found, Group)

    async def group(self, uuid: str) -> Group:
        """Raises NotFoundError."""
        return _account(Group, await self._read("groups", uuid))

    async def find_group(self, groupname: str) -> Group | None:
        """The group with this name."""
        async for found in self.pages("/api/groups", "groups", {"groupname": groupname}):
            return convert(found, Group)
        return None

    async def update_group(
        self,
        uuid: str,
        *,
        groupname: str = KEEP,
        members: Iterable[str] = KEEP,
        if_match: str | None = None,
    ) -> Group:
        """Change what is named. `if_match` is an `etag`."""
        fields = {"groupname": groupname, "members": members}
        return _account(Group, await self._change("groups", uuid, fields, if_match))

    async def delete_group(self, uuid: str, *, if_match: str | None = None) -> None:
        await self._call("DELETE", f"/api/groups/{segment(uuid)}", headers=_condition(if_match))

    # --- tokens ---

    async def create_token(
        self, user_uuid: str, scopes: Iterable[str], *, expires_in: Duration | None = None
    ) -> NewToken:
        """A new token of a user; it is shown this once."""
        document: dict[str, Any] = {"user_uuid": user_uuid, "scopes": list(scopes)}
        if expires_in is not None:
            document["expires_in"] = duration_text(expires_in)
        return _new_token(await self._call("POST", "/api/tokens", document=document))

    async def tokens(self, *, user_uuid: str | None = None) -> AsyncGenerator[Token, None]:
        """The tokens that are good, of all users or of one."""
        query = {} if user_uuid is None else {"user_uuid": user_uuid}
        async for found in self.pages("/api/tokens", "tokens", query):
            yield convert(found, Token)

    async def revoke_token(self, token_id: str) -> None:
        """Make a token worthless at once."""
        await self._call("DELETE", f"/api/tokens/{segment(token_id)}")

    async def login(self, nickname: str, password: str) -> NewToken:
        """A token for a password; this client uses it from now on."""
        made = _new_token(await self._call("POST", "/api/login", document={"nickname": nickname, "password": password}))
        self._http.authorize(f"Bearer {made.token}")
        return made

    async def whoami(self) -> WhoAmI | None:
        """Who this client's token speaks for; None without one. Raises UnauthorizedError for what is no token of
        KVS."""
        scheme, _, token = self._http.authorization.partition(" ")
        if scheme != "Bearer":
            return None
        claims = _claims(token)
        try:
            await self._http.request("GET", "/kv/_list?limit=1", repeatable=True)
            is_accepted = True
        except UnauthorizedError:
            is_accepted = False
        except ApiError:
            is_accepted = True  # it lacks a scope
        return WhoAmI(
            user_uuid=claims.user_uuid,
            scopes=claims.scopes,
            token_id=hashlib.sha3_512(token.encode()).hexdigest()[:32],
            expires_at=claims.exp * 1000,
            is_accepted=is_accepted,
        )

    # --- what all go through ---

    async def call(self, method: str, target: str, document: object = None, *, if_match: str = "") -> Any:
        """Any request with a JSON body, for routes that have no method here: the answer's document, None without one.
        What is not a GET is never repeated: OutcomeUnknownError when a node got it and did not answer."""
        repeatable = method == "GET"
        headers = _condition(if_match or None)
        answer = await self._call(method, target, document=document, headers=headers, repeatable=repeatable)
        return answer.json if answer.body else None

    async def send(self, target: str, body: bytes, content_type: str) -> Any:
        """Post a body that is no JSON, and that does no harm when it arrives twice: the answer's document."""
        headers = {"Content-Type": content_type}
        return (await self._http.request("POST", target, body=body, headers=headers, repeatable=True)).json

    async def _call(
        self,
        method: str,
        target: str,
        *,
        document: object = None,
        body: bytes | None = None,
        headers: Mapping[str, str] = _NONE,
        repeatable: bool = False,
    ) -> Answer:
        """A request with a JSON body that is not repeated."""
        if document is not None:
            body = json_bytes(document)
        typed = {**headers, "Content-Type": JSON} if body is not None else headers
        try:
            return await self._http.request(method, target, body=body, headers=typed, repeatable=repeatable)
        except Doubt as doubt:
            cause = doubt.__cause__
            if isinstance(cause, UnavailableError):
                raise cause from None
            raise OutcomeUnknownError(f"{doubt.url} got the request and did not answer: {doubt}") from None

    def pages(self, path: str, name: str, query: Mapping[str, str] = _NONE) -> AsyncGenerator[dict[str, Any], None]:
        """The items of all pages of a list, as the node sends them."""
        asked = {"limit": str(_PAGE), **query}
        return paged(partial(self._page, path, asked, ""), partial(_listed, name))

    async def _page(self, path: str, query: Mapping[str, str], at: str, cursor: str | None) -> Answer:
        """The page of this cursor; None: the first one. Of the node `at` this URL, if one is named."""
        asked = query if cursor is None else {**query, "cursor": cursor}
        return await self._http.request("GET", f"{path}?{query_text(asked)}", repeatable=True, at=at)

    async def _read(self, resource: str, uuid: str) -> Answer:
        return await self._http.request("GET", f"/api/{resource}/{segment(uuid)}", repeatable=True)

    async def _change(self, resource: str, uuid: str, fields: Mapping[str, Any], if_match: str | None) -> Answer:
        named = {name: value for name, value in fields.items() if value is not KEEP}
        document = {
            name: value if value is None or isinstance(value, str) else list(value) for name, value in named.items()
        }
        target = f"/api/{resource}/{segment(uuid)}"
        return await self._call("PUT", target, document=document, headers=_condition(if_match))

    async def _node_state(self, path: str) -> Mapping[str, Any]:
        """What a node says of itself, which it also does with a 503."""
        try:
            return dict((await self._http.request("GET", path, repeatable=True, is_about_node=True)).json)
        except UnavailableError as error:
            return error.problem


def _listed(name: str, answer: Answer) -> list[dict[str, Any]]:
    """What is listed under this name. Raises ProtocolError."""
    page = answer.json
    if not isinstance(page, dict) or not isinstance(page.get(name), list):
        raise ProtocolError(f"what answers at {answer.url} is no node of KVS")
    found: list[dict[str, Any]] = page[name]
    return found


def _account(kind: type[Account], answer: Answer) -> Account:
    return msgspec.structs.replace(decode(answer.body, kind, answer.url), etag=answer.etag)


def _uuid(answer: Answer) -> str:
    return decode(answer.body, WireUuid, answer.url).uuid


def _condition(etag: str | None) -> Mapping[str, str]:
    if etag is None:
        return _NONE
    return {"If-Match": etag if etag == "*" or etag.startswith('"') else f'"{etag}"'}


def _new_token(answer: Answer) -> NewToken:
    return decode(answer.body, NewToken, answer.url)


class _Claims(msgspec.Struct):
    """`exp` in Unix seconds."""

    user_uuid: str = ""
    scopes: tuple[str, ...] = ()
    exp: Annotated[int, msgspec.Meta(ge=0, le=_EXP_MAX_S)] = 0


def _claims(token: str) -> _Claims:
    """What a token says of itself, believed without a look at its signature. Raises UnauthorizedError."""
    try:
        _, payload, _ = token.split(".")
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise UnauthorizedError(401, {"status": 401, "detail": "this is no token of KVS"}, "") from None
