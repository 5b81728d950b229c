"""`/openapi.json`: that it leaves out no route, method, parameter, status, problem code or way to ask, and names none
that is not there. What it says of answers is held against every answer that the tests of this folder get."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from kvs import __version__
from kvs.server.openapi.document import described
from kvs.server.openapi.parts import STATUSES
from tests.api.accounts import Place
from tests.api.client import Client, Reply
from tests.api.described import DOCUMENT, ROUTES, check_described, resolved, strict
from tests.api.peers import CLUSTER, Peer
from tests.markdown import rows, section, spans
from tests.test_docs import API, DOCUMENTED_CODES, requests

HANDLERS = Path(__file__).parents[2] / "kvs" / "server" / "handlers"
AUDIT_READING = HANDLERS.parent / "audit_reading.py"
NOT_OF_AN_OPERATION = {"unknown_route", "method_not_allowed"}
OPERATIONS: list[tuple[str, str, dict[str, Any]]] = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def name(each: object) -> str:
    return str(each) if isinstance(each, str) else ""


def schema_of(response: dict[str, Any]) -> set[str]:
    """The problem codes that a response names."""
    content = response.get("content", {}).get("application/problem+json")
    return set() if content is None else set(content["schema"]["allOf"][1]["properties"]["code"]["enum"])


def documented_endpoints() -> dict[tuple[str, str], tuple[set[int], str]]:
    """(Method, path) to (statuses of success, what is needed), as the table of docs/api.md has them."""
    return {
        request: ({int(status) for status in re.findall(r"\d{3}", cells[2])}, cells[3])
        for cells in rows(section(API, "## Endpoints"))
        if len(cells) == 4
        for request in requests(cells[0])
    }


# --- the document itself ---


def test_it_is_openapi() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    assert (DOCUMENT["openapi"], DOCUMENT["info"]["version"]) == ("3.1.0", __version__)


def test_every_route_and_method_is_there() -> None:
    expected = {(route.method, route.template) for route in ROUTES}
    expected |= {("HEAD", template) for method, template in expected if method == "GET"}
    assert {(method, path) for method, path, _ in OPERATIONS} == expected


def test_names_of_operations_are_unique() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", each) for each in names)


def test_a_route_that_is_not_described_is_told() -> None:
    with pytest.raises(KeyError, match="PUT /new is not described"):
        described("PUT", "/new")


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    text = str(DOCUMENT)
    for reference in set(re.findall(r"'\$ref': '([^']+)'", text)):
        assert resolved({"$ref": reference})
    for kind in ("schemas", "responses", "headers"):
        for component in DOCUMENT["components"][kind]:
            assert f"#/components/{kind}/{component}'" in text, (kind, component)


# --- parameters ---


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=name)
def test_names_in_a_path_are_its_parameters(method: str, path: str, operation: dict[str, Any]) -> None:
    in_path = [each for each in operation["parameters"] if each["in"] == "path"]
    assert [each["name"] for each in in_path] == re.findall(r"\{(\w+)\}", path)
    assert all(each["required"] for each in in_path)
    assert all(each["description"] for each in operation["parameters"])


def names_read(source: str) -> set[str]:
    """The parameters of queries that a handler looks for: texts in its calls and lookups."""
    calls = re.findall(
        r'(?:integer|boolean|duration_ms|_text|_time)\((?:query|parse\.query\([\w.]+\)), "(\w+)"', source
    )
    lookups = re.findall(r'query(?:\["|\.get\(")(\w+)"', source) + re.findall(r'"(\w+)" (?:not )?in query', source)
    return {*calls, *lookups}


def test_every_parameter_of_a_query_that_is_read_is_described() -> None:
    read = set().union(*(names_read(path.read_text()) for path in [*HANDLERS.glob("*.py"), AUDIT_READING]))
    told = {each["name"] for _, _, operation in OPERATIONS for each in operation["parameters"] if each["in"] == "query"}
    assert read == told
    assert len(read) > 12
    assert names_read('boolean(parse.query(call.request), "a") or "b" in query and query["c"] or query.get("d")') == {
        *"abcd"
    }


NO_CONDITIONS = {"X-Node-ID", "Last-Event-ID"}


def test_who_takes_conditions_takes_both_and_may_fail_them() -> None:
    for method, path, operation in OPERATIONS:
        fields = {each["name"] for each in operation["parameters"] if each["in"] == "header"} - NO_CONDITIONS
        if method in ("GET", "HEAD"):
            assert fields == ({"If-None-Match"} if path == "/kv/{key}" else set())
            assert ("304" in operation["responses"]) == (path == "/kv/{key}")
        else:
            assert fields in (set(), {"If-Match", "If-None-Match"})
            assert ("412" in operation["responses"]) == bool(fields), (method, path)


# --- statuses and codes ---


def test_successes_are_those_of_the_table_of_endpoints() -> None:
    table = documented_endpoints()
    assert len(table) == len(ROUTES)
    for (method, path), (statuses, _) in table.items():
        responses = DOCUMENT["paths"][path][method.lower()]["responses"]
        assert {int(status) for status in responses if status < "400"} == statuses, (method, path)


def test_statuses_of_codes_are_those_of_the_table_of_codes() -> None:
    assert dict(DOCUMENTED_CODES) == STATUSES
    assert len(DOCUMENTED_CODES) == len(STATUSES)


def test_every_code_belongs_to_some_operation() -> None:
    named = {
        code
        for _, _, operation in OPERATIONS
        for response in operation["responses"].values()
        for code in schema_of(resolved(response))
    }
    assert named == set(STATUSES) - NOT_OF_AN_OPERATION
    assert all(f"`{code}`" in DOCUMENT["info"]["description"] for code in NOT_OF_AN_OPERATION)


def test_codes_stand_with_their_status() -> None:
    for method, path, operation in OPERATIONS:
        for status, response in operation["responses"].items():
            codes = schema_of(resolved(response))
            assert {STATUSES[code] for code in codes} <= {int(status)}, (method, path)
            assert bool(codes) == (status >= "400") or method == "HEAD" or path in ("/health", "/ready")


def test_head_is_described_as_get_without_contents() -> None:
    for path, methods in DOCUMENT["paths"].items():
        if "head" in methods:
            get, head = methods["get"], methods["head"]
            assert set(head["responses"]) == set(get["responses"]), path
            assert (head["parameters"], head["security"]) == (get["parameters"], get["security"])
            assert all("content" not in response for response in head["responses"].values())


# --- who may ask ---


def test_what_is_needed_is_that_of_the_table_of_endpoints() -> None:
    for (method, path), (_, needed) in documented_endpoints().items():
        security = DOCUMENT["paths"][path][method.lower()]["security"]
        scopes = {scope for way in security for scope in way.get("token", ())}
        if needed == "none":
            assert security == [], path
        elif needed == "(3)":
            assert security == [{"clusterSecret": []}], path
        elif needed == "any that begins with `admin:`":
            assert scopes
            assert all(scope.startswith("admin:") for scope in scopes)
        elif path.startswith("/api/data") and method == "POST":
            assert scopes == {"write"}, "`delete` comes on top"
        else:
            assert scopes == set(spans(needed)), (method, path)
        assert ({} in security) == ("(1)" in needed or "(2)" in needed), (method, path)


# --- the document of a node ---


def document_of(client: Client) -> Any:
    reply = client.get("/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert list(OpenAPIV31SpecValidator(reply.json).iter_errors()) == []
    return reply.json


def test_a_lone_node_without_accounts(make_client: Callable[..., Client]) -> None:
    document = document_of(make_client(metrics_enabled=False))
    assert not [path for path in document["paths"] if path.startswith(("/auth", "/members", "/api/users", "/metrics"))]
    assert "/kv/{key}" in document["paths"]
    assert all(
        operation["security"] == [] and "401" not in operation["responses"]
        for methods in document["paths"].values()
        for operation in methods.values()
    )


def test_a_node_with_everything(make_place: Callable[..., Place]) -> None:
    at = make_place(**CLUSTER)
    document = document_of(at.caller())
    assert set(document["paths"]) == set(DOCUMENT["paths"])
    assert document["paths"]["/kv/{key}"]["get"]["security"] == [{"token": ["read"]}]


@pytest.mark.parametrize(("setting", "method"), [("allow_anonymous_read", "get"), ("allow_anonymous_write", "put")])
def test_who_needs_no_token(make_place: Callable[..., Place], setting: str, method: str) -> None:
    operations = document_of(make_place(**{setting: True}).caller())["paths"]["/kv/{key}"]
    free = [name for name, operation in operations.items() if {} in operation["security"]]
    assert free == (["get", "head"] if method == "get" else [method])


# --- that the check of answers can fail ---


def told(status: int, body: bytes = b"", media: str = "application/json", **headers: str) -> Reply:
    fields = {"x-request-id": "r", "content-type": media, **{k.replace("_", "-"): v for k, v in headers.items()}}
    return Reply(status, fields, body)


def problem(status: int, told_status: int, code: str) -> Reply:
    body = f'{{"title":"","status":{told_status},"detail":"","code":"{code}","request_id":"r"}}'
    return told(status, body.encode(), "application/problem+json")


VERSION = {"etag": '"x"', "x-kvs-timestamp": "1", "last-modified": "now"}
UUID = "3f1c9a52-8d07-4e6b-9b1a-52c7d0e4a8f6"


def test_a_good_answer_passes() -> None:
    body = f'{{"uuid":"{UUID}","timestamp":1,"data":{{"a":[1]}}}}'.encode()
    check_described("GET", "/kv/a/b", told(200, body, **VERSION))
    check_described("GET", "/kv/a/b", told(200, b"\xff", "image/png", **VERSION))
    check_described("GET", "/kv/a/b", problem(404, 404, "not_found"))
    check_described("GET", "/nowhere", told(418))


@pytest.mark.parametrize(
    "reply",
    [
        told(418, b"{}"),
        told(200, b"{}", **VERSION),
        told(200, f'{{"uuid":"{UUID}","timestamp":1,"data":1,"more":1}}'.encode(), **VERSION),
        told(200, b'{"uuid":"x","timestamp":1,"data":1}', **VERSION),
        told(200, f'{{"uuid":"{UUID}","timestamp":"1","data":1}}'.encode(), **VERSION),
        told(200, f'{{"uuid":"{UUID}","timestamp":1,"data":1}}'.encode()),
        told(304, b"not empty", **VERSION),
        told(404, b'{"title":"","status":404,"detail":"","code":"gone","request_id":""}', "application/problem+json"),
        told(
            404, b'{"title":"","status":400,"detail":"","code":"not_found","request_id":""}', "application/problem+json"
        ),
        told(
            401,
            b'{"title":"","status":401,"detail":"","code":"unauthorized","request_id":""}',
            "application/problem+json",
        ),
    ],
)
def test_another_answer_does_not(reply: Reply) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check_described("GET", "/kv/a/b", reply)


def test_a_strict_schema_takes_no_more_members() -> None:
    schema = {"type": "object", "properties": {"a": {"items": {"type": "object", "properties": {}}}}}
    assert strict(schema)["additionalProperties"] is False
    assert strict(schema)["properties"]["a"]["items"]["additionalProperties"] is False
    assert strict({"type": "object"}) == {"type": "object"}


def test_peers_are_described_too(peer: Peer) -> None:
    assert peer.get("/merkle_tree/root").status == 200
    assert DOCUMENT["paths"]["/merkle_tree/root"]["get"]["security"] == [{"clusterSecret": []}]
