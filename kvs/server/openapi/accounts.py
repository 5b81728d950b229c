"""The routes of users, groups and tokens. Each has a second name, `/auth/…`."""

from collections.abc import Mapping

from kvs.server import schemas
from kvs.server.openapi.parts import (
    CONDITIONAL,
    CONDITIONS,
    ETAG,
    JSON_BODY,
    PAGES,
    PAGING,
    READS,
    TEXT,
    WRITES,
    Answer,
    Body,
    Operation,
    json,
    query,
)
from kvs.storage.record import JSON

_TAGGED = {"ETag": ETAG}
_LOCATED = {"Location": TEXT}
_CREATES = ("bad_request", *JSON_BODY, "corrupt_record", *WRITES)
_CHANGES = (*CONDITIONAL, *JSON_BODY, "not_found", "corrupt_record", *WRITES)
_DELETES = (*CONDITIONAL, "not_found", "corrupt_record", *WRITES)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/api/users"): Operation(
        "createUser",
        "Make a user",
        {201: json("The user is made.", schemas.Made, _LOCATED)},
        body=Body("The user.", {JSON: schemas.NewUser}),
        problems=(*_CREATES, "scope_exceeded", "nickname_taken"),
    ),
    ("GET", "/api/users"): Operation(
        "listUsers",
        "List users",
        {200: json("A page.", schemas.UserPage)},
        (query("nickname", "Only the user of this nickname.", TEXT), *PAGING),
        problems=(*PAGES, *READS),
    ),
    ("GET", "/api/users/{uuid}"): Operation(
        "readUser",
        "Show a user",
        {200: json("The user.", schemas.UserShown, _TAGGED)},
        problems=("not_found", *READS),
    ),
    ("PUT", "/api/users/{uuid}"): Operation(
        "changeUser",
        "Change a user",
        {200: json("The user as it is now.", schemas.UserShown, _TAGGED)},
        CONDITIONS,
        Body("What is named changes.", {JSON: schemas.UserChanges}),
        (*_CHANGES, "scope_exceeded", "nickname_taken"),
    ),
    ("DELETE", "/api/users/{uuid}"): Operation(
        "deleteUser", "Delete a user", {204: Answer("It is gone.")}, CONDITIONS, problems=_DELETES
    ),
    ("POST", "/api/groups"): Operation(
        "createGroup",
        "Make a group",
        {201: json("The group is made.", schemas.Made, _LOCATED)},
        body=Body("The group.", {JSON: schemas.NewGroup}),
        problems=(*_CREATES, "groupname_taken"),
    ),
    ("GET", "/api/groups"): Operation(
        "listGroups",
        "List groups",
        {200: json("A page.", schemas.GroupPage)},
        (query("groupname", "Only the group of this name.", TEXT), *PAGING),
        problems=(*PAGES, *READS),
    ),
    ("GET", "/api/groups/{uuid}"): Operation(
        "readGroup",
        "Show a group",
        {200: json("The group.", schemas.GroupShown, _TAGGED)},
        problems=("not_found", *READS),
    ),
    ("PUT", "/api/groups/{uuid}"): Operation(
        "changeGroup",
        "Change a group",
        {200: json("The group as it is now.", schemas.GroupShown, _TAGGED)},
        CONDITIONS,
        Body("What is named changes.", {JSON: schemas.GroupChanges}),
        (*_CHANGES, "groupname_taken"),
    ),
    ("DELETE", "/api/groups/{uuid}"): Operation(
        "deleteGroup", "Delete a group", {204: Answer("It is gone.")}, CONDITIONS, problems=_DELETES
    ),
    ("POST", "/api/tokens"): Operation(
        "createToken",
        "Make a token",
        {201: json("The token, shown this once.", schemas.TokenMade)},
        body=Body("The token.", {JSON: schemas.NewToken}),
        problems=(*_CREATES, "scope_exceeded"),
    ),
    ("GET", "/api/tokens"): Operation(
        "listTokens",
        "List the tokens that are good",
        {200: json("A page.", schemas.TokenPage)},
        (query("user_uuid", "Only those of this user.", {"type": "string", "format": "uuid"}), *PAGING),
        problems=(*PAGES, *READS),
    ),
    ("DELETE", "/api/tokens/{token_id}"): Operation(
        "revokeToken",
        "Make a token worthless",
        {204: Answer("It is worth nothing any more.")},
        problems=("not_found", "corrupt_record", *WRITES),
    ),
    ("POST", "/api/login"): Operation(
        "logIn",
        "Get a token for a password",
        {200: json("A token of the user.", schemas.LoggedIn)},
        body=Body("Who logs in.", {JSON: schemas.Login}),
        problems=(*JSON_BODY, "unauthorized", "corrupt_record", *WRITES),
    ),
}
