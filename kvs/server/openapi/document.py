"""`/openapi.json`, made of the routes that a node has, what each needs, and how it is described.

Who may ask follows from the access of a route, the body's and the key's refusals from its having one, and every GET is
a HEAD too. So a description says only what is its own.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from kvs import __version__
from kvs.auth.scopes import ACCOUNTS, ALL
from kvs.auth.tokens import LOCAL_SCHEME
from kvs.cluster.transport import NODE_HEADER, SECRET_HEADER
from kvs.server import schemas
from kvs.server.access import Access
from kvs.server.openapi import accounts, audit, backups, cluster, data, node
from kvs.server.openapi.parts import (
    DIGITS,
    EVERYWHERE,
    OF_BODIES,
    OF_KEYS,
    PATH_PARAMETERS,
    STATUSES,
    TEXT,
    Answer,
    Operation,
    Parameter,
)
from kvs.server.problems import PROBLEM_JSON
from kvs.server.router import Route

_SECTIONS = {
    "values": data.OPERATIONS,
    "accounts": accounts.OPERATIONS,
    "backups": backups.OPERATIONS,
    "cluster": cluster.OPERATIONS,
    "audit": audit.OPERATIONS,
    "node": node.OPERATIONS,
}
_SECOND_NAMES = {"/members": "/members/", "/sync/merkle/root": "/merkle_tree/root"}
_SCHEMAS = "#/components/schemas/{name}"
_NODE_ID = Parameter(NODE_HEADER, "header", "The id of the node that asks.", TEXT)
_RATE_HEADERS = ("X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "X-Rate-Limit-Window")
_ABOUT = """\
A key-value database that works on its own at every site. Every GET answers HEAD too. A path that is none of these is \
404 `unknown_route`, another method 405 `method_not_allowed` with `Allow`."""


def document(routes: Sequence[Route], *, asks: bool, anonymous: Collection[str]) -> dict[str, Any]:
    """The whole document. `asks`: whether the node wants tokens; `anonymous`: the settings that let in who has none.
    Raises KeyError for a route that is not described."""
    made = _Document(asks=asks, anonymous=anonymous)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        methods = paths.setdefault(route.template, {})
        methods[route.method.lower()] = made.operation(route)
        if route.method == "GET":
            methods["head"] = made.head(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "KVS", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": section} for section in _SECTIONS],
        "paths": {path: paths[path] for path in sorted(paths)},
        "components": made.components(),
    }


def described(method: str, template: str) -> tuple[str, Operation, bool]:
    """(Section, operation, whether this is a second name). Raises KeyError."""
    first = _SECOND_NAMES.get(template, re.sub(r"^/auth/(?=users|groups|tokens)", "/api/", template))
    for section, operations in _SECTIONS.items():
        if (method, first) in operations:
            return section, operations[method, first], first != template
    raise KeyError(f"{method} {template} is not described")


def codes_of(operation: Operation, route: Route, *, asks: bool, anonymous: Collection[str]) -> list[str]:
    """All problem codes that a route may answer with."""
    access = route.access
    codes = [*operation.problems, *EVERYWHERE]
    if operation.body is not None:
        codes += OF_BODIES
    if "{key}" in route.template:
        codes += OF_KEYS
    if access.peer:
        codes.append("unauthorized")
    elif asks and not access.open:
        codes += ("unauthorized", "forbidden")
    if not (access.peer or access.open) and (not asks or access.anonymous in anonymous):
        codes += ("foreign_host",) if route.method == "GET" else ("foreign_host", "foreign_origin")
    if access.counted or access.peer:
        codes.append("rate_limited")
    return sorted(set(codes), key=lambda code: (STATUSES[code], code))


class _Document:
    """Operations, and the components that they refer to."""

    def __init__(self, *, asks: bool, anonymous: Collection[str]) -> None:
        self._asks = asks
        self._anonymous = anonymous
        self._problems: dict[str, dict[str, Any]] = {}
        self._schemas: dict[str, Any] = {}
        self._schema(schemas.Problem)

    def operation(self, route: Route) -> dict[str, Any]:
        section, about, is_second = described(route.method, route.template)
        codes = codes_of(about, route, asks=self._asks, anonymous=self._anonymous)
        made: dict[str, Any] = {
            "operationId": f"{about.id}{'Alias' if is_second else ''}",
            "summary": about.summary,
            "tags": [section],
            "parameters": [_parameter(each) for each in _parameters(about, route)],
            "responses": self._responses(about.answers, codes),
            "security": self._security(route.access),
        }
        if about.scopes:
            made["description"] = about.scopes
        if about.body is not None:
            content = {media: {"schema": self._schema(kind)} for media, kind in about.body.content.items()}
            made["requestBody"] = {
                "description": about.body.about,
                "required": about.body.required,
                "content": content,
            }
        return made

    def head(self, route: Route) -> dict[str, Any]:
        """As the GET, without contents."""
        made = self.operation(route)
        operation_id = made["operationId"]
        made["operationId"] = f"head{operation_id[0].upper()}{operation_id[1:]}"
        made["summary"] += " (header only)"
        made["responses"] = {
            status: {
                "description": response["description"],
                "headers": response.get("headers", _headers({})),
            }
            for status, response in ((s, self._resolved(r)) for s, r in made["responses"].items())
        }
        return made

    def components(self) -> dict[str, Any]:
        return {
            "schemas": self._schemas,
            "responses": self._problems,
            "headers": {"X-Request-ID": {"schema": TEXT, "required": True, "description": "Also in the node's log."}},
            "securitySchemes": _security_schemes(),
        }

    def _resolved(self, response: dict[str, Any]) -> dict[str, Any]:
        reference = response.get("$ref")
        return response if reference is None else self._problems[reference.rpartition("/")[2]]

    def _responses(self, answers: Mapping[int, Answer], codes: Iterable[str]) -> dict[str, Any]:
        by_status: dict[int, list[str]] = {}
        for code in codes:
            by_status.setdefault(STATUSES[code], []).append(code)
        responses = {}
        for status in sorted({*answers, *by_status}):
            if status not in answers:
                responses[str(status)] = self._problem_reference(status, by_status[status])
                continue
            response = self._answer(answers[status])
            if status in by_status:
                response["content"].update(_problem(status, by_status[status])["content"])
            responses[str(status)] = response
        return responses

    def _answer(self, answer: Answer) -> dict[str, Any]:
        made: dict[str, Any] = {"description": answer.about, "headers": _headers(answer.headers)}
        if answer.content:
            made["content"] = {media: {"schema": self._schema(kind)} for media, kind in answer.content.items()}
        return made

    def _problem_reference(self, status: int, codes: Sequence[str]) -> dict[str, Any]:
        name = ".".join(codes)
        self._problems.setdefault(name, _problem(status, codes))
        return {"$ref": f"#/components/responses/{name}"}

    def _schema(self, kind: Any) -> Any:
        """A schema as it is, or that of a type, whose parts become components."""
        if isinstance(kind, Mapping):
            return kind
        (schema,), parts = msgspec.json.schema_components([kind], ref_template=_SCHEMAS)
        self._schemas.update({name: _tidy(part) for name, part in parts.items()})
        return _tidy(schema)

    def _security(self, access: Access) -> list[dict[str, list[str]]]:
        """Alternatives, any of which will do."""
        if access.peer:
            return [{"clusterSecret": []}]
        if access.open or not self._asks:
            return []
        ways: list[dict[str, list[str]]] = [{"token": [scope]} for scope in ALL if scope in access.scopes]
        if access.local or access.scopes <= ACCOUNTS:
            ways.append({"local": []})
        return [*ways, {}] if access.anonymous in self._anonymous else ways


def _parameters(about: Operation, route: Route) -> list[Parameter]:
    in_path = [PATH_PARAMETERS[name] for name in re.findall(r"\{(\w+)\}", route.template)]
    return [*in_path, *about.parameters, *((_NODE_ID,) if route.access.peer else ())]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.about,
        "schema": parameter.schema,
    }


def _headers(own: Mapping[str, Any]) -> dict[str, Any]:
    common = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    return {**common, **{name: {"schema": schema, "required": True} for name, schema in own.items()}}


def _problem(status: int, codes: Sequence[str]) -> dict[str, Any]:
    """The answer of a status for these reasons. A corrupt record cannot be waited for."""
    own: dict[str, Any] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        own = {"WWW-Authenticate": TEXT}
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        own = dict.fromkeys(("Retry-After", *_RATE_HEADERS), DIGITS)
    headers = _headers(own)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = {"schema": DIGITS}
    reasons = {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}}
    schema = {"allOf": [{"$ref": _SCHEMAS.format(name="Problem")}, reasons]}
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}.",
        "headers": headers,
        "content": {PROBLEM_JSON: {"schema": schema}},
    }


def _tidy(schema: Any) -> Any:
    """As JSON Schema writes patterns (ECMA 262), and texts without the indentation of sources."""
    if isinstance(schema, list):
        return [_tidy(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _tidy(part) for name, part in schema.items()}
    if isinstance(made.get("pattern"), str):
        made["pattern"] = made["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    if isinstance(made.get("description"), str):
        made["description"] = " ".join(made["description"].split())
    return made


def _security_schemes() -> dict[str, Any]:
    return {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token of a user. What stands behind it in an operation is the scope that it must have.",
        },
        "local": {
            "type": "http",
            "scheme": LOCAL_SCHEME,
            "description": "What `kvs … --local` on the node's own host makes of the key in the data directory.",
        },
        "clusterSecret": {
            "type": "apiKey",
            "in": "header",
            "name": SECRET_HEADER,
            "description": "The secret that the nodes of a cluster share.",
        },
    }
