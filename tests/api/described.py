"""What `/openapi.json` says of an answer. Every answer that a test's client gets is held against it."""

import inspect
from contextlib import suppress
from typing import Any, NamedTuple
from unittest.mock import Mock

import jsonschema_rs
import orjson

from kvs.errors import KvsError
from kvs.server.openapi.document import document
from kvs.server.problems import PROBLEM_JSON
from kvs.server.router import Route, Router
from kvs.server.routes import routes

ROUTES = list(routes(*(Mock() for _ in inspect.signature(routes).parameters)))
"""All that a node can have."""
_EVERYTHING = document(ROUTES, asks=True, anonymous=("allow_anonymous_read", "allow_anonymous_write"))
DOCUMENT: dict[str, Any] = orjson.loads(orjson.dumps(_EVERYTHING))
_ROUTER = Router(ROUTES)
_validators: dict[tuple[str, str, int, str], jsonschema_rs.Draft202012Validator] = {}


class Described(NamedTuple):
    """The documented answer of one status."""

    method: str
    template: str
    status: int
    response: dict[str, Any]


def check_described(method: str, target: str | bytes, reply: Any) -> None:
    """The answer is one that the document has: its status, content type, problem code, header fields and shape."""
    path = target.decode("latin-1") if isinstance(target, bytes) else target
    route = _route(method, path.partition("?")[0])
    if route is None or _is_switched_off(reply, method):
        return
    responses = DOCUMENT["paths"][route.template][method.lower()]["responses"]
    assert str(reply.status) in responses, f"{method} {route.template}: {reply.status} is not described"
    response = resolved(responses[str(reply.status)])
    for name, header in response["headers"].items():
        assert name.lower() in reply.headers or not resolved(header).get("required"), (method, path, name)
    if method != "HEAD":
        _check_content(Described(method, route.template, reply.status, response), reply)


def _route(method: str, path: str) -> Route | None:
    """None for a request that no route takes, or whose target is more than a path."""
    with suppress(KvsError):
        return _ROUTER.resolve(method, path)[0]
    return None


def _is_switched_off(reply: Any, method: str) -> bool:
    """The node does not have the route, or the request is none."""
    if reply.headers.get("content-type") != PROBLEM_JSON or reply.status < 400:
        return False
    if method == "HEAD":
        return bool(reply.status == 404)
    return reply.json["code"] in ("unknown_route", "malformed_request")


def _check_content(described: Described, reply: Any) -> None:
    contents = described.response.get("content", {})
    if not contents:
        assert not reply.body, (described, reply)
        return
    media = reply.headers["content-type"]
    if media not in contents or (media == PROBLEM_JSON and reply.status < 400):
        assert "*/*" in contents, f"{described[:3]}: {media} is not described"
    elif media.endswith("json"):
        with suppress(RecursionError):  # Python's parser goes less deep than the node's
            _validator(described, media).validate(reply.json)


def _validator(described: Described, media: str) -> jsonschema_rs.Draft202012Validator:
    key = (*described[:3], media)
    if key not in _validators:
        schema = described.response["content"][media]["schema"]
        whole = {**strict(schema), "components": {"schemas": strict(DOCUMENT["components"]["schemas"])}}
        _validators[key] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
    return _validators[key]


def strict(schema: Any) -> Any:
    """The same, in which an object has no members but those that are named. (Clients should not ask for that: a later
    version may say more.)"""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(part) for name, part in schema.items()}
    if made.get("type") == "object" and "properties" in made:
        made["additionalProperties"] = False
    return made


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    reference = part.get("$ref")
    if reference is None:
        return part
    found: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    assert isinstance(found, dict)
    return found
