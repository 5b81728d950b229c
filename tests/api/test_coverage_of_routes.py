"""What holds for every route, and that no route is left out."""

from unittest.mock import Mock

import pytest

from kvs.server.handlers.context import Context
from kvs.server.handlers.metrics import MetricsRoute
from kvs.server.routes import routes
from tests.api.calls import CALLS, READS, ROUTES, WITH_BODY, WRITES, name, prepare
from tests.api.client import Client

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
Route = tuple[str, str]


def test_every_route_is_tested() -> None:
    made = routes(Mock(spec=Context), None, Mock(), metrics=Mock(spec=MetricsRoute))
    registered = [(route.method, route.template) for route in made]
    assert sorted(registered) == ROUTES


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_a_good_call_succeeds(client: Client, key: str, route: Route) -> None:
    prepare(client, key)
    assert CALLS[route].send(client, key, route[0]).status == CALLS[route].status


@pytest.mark.parametrize("route", READS, ids=name)
def test_head_answers_as_get_does(client: Client, key: str, route: Route) -> None:
    prepare(client, key)
    get, head = (CALLS[route].send(client, key, method) for method in ("GET", "HEAD"))
    assert (head.status, head.body) == (200, b"")
    varying = {"x-request-id", "date"} | ({"content-length"} if route[1] in ("/health", "/metrics") else set())
    assert {n: v for n, v in head.headers.items() if n not in varying} == {
        n: v for n, v in get.headers.items() if n not in varying
    }


@pytest.mark.parametrize("template", sorted({template for _, template in ROUTES}))
def test_other_methods_are_refused_with_those_that_are_taken(client: Client, key: str, template: str) -> None:
    prepare(client, key)
    taken = {method for method, other in ROUTES if other == template}
    if "GET" in taken:
        taken.add("HEAD")
    (target, *_) = (CALLS[route].target.format(key=key) for route in ROUTES if route[1] == template)
    for method in METHODS:
        if method not in taken:
            reply = client.send(method, target)
            assert reply.status == 405, method
            assert method == "HEAD" or reply.code == "method_not_allowed"
            assert set(reply.headers["allow"].split(", ")) == taken
    assert client.get(f"/kv/{key}").json["data"] == 2


@pytest.mark.parametrize("route", WITH_BODY, ids=name)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "GZIP"])
def test_compressed_bodies_are_refused(client: Client, key: str, route: Route, encoding: str) -> None:
    prepare(client, key)
    reply = CALLS[route].send(client, key, route[0], {"Content-Encoding": encoding})
    assert (reply.status, reply.code) == (415, "unsupported_media")
    assert reply.json["field"] == "Content-Encoding"
    assert CALLS[route].send(client, key, route[0], {"Content-Encoding": "identity"}).status == CALLS[route].status


@pytest.mark.parametrize("route", WITH_BODY, ids=name)
@pytest.mark.parametrize("in_chunks", [False, True], ids=["declared", "in chunks"])
def test_bodies_have_a_limit(client: Client, key: str, route: Route, in_chunks: bool) -> None:
    prepare(client, key)
    body = b" " * ((67 if route[1] == "/api/backup/restore" else 33) * 1024 * 1024)
    sent = [body[:1_000_000]] * (len(body) // 1_000_000 + 1) if in_chunks else body
    reply = client.send(route[0], CALLS[route].target.format(key=key), sent)
    assert (reply.status, reply.code) == (413, "too_large")
    assert 0 < reply.json["limit"] < reply.json["actual"] <= len(body) + 1_000_000
    assert client.get(f"/kv/{key}").json["data"] == 2


@pytest.mark.parametrize("route", WRITES, ids=name)
def test_a_write_is_seen_by_the_next_read(client: Client, key: str, route: Route) -> None:
    prepare(client, key)
    targets = (f"/kv/_range?prefix={key}", f"/kv/{key}/metadata", f"/api/data/{key}/history")
    before = [client.get(target).body for target in targets]
    CALLS[route].send(client, key, route[0])
    after = [client.get(target).body for target in targets]
    assert before != after
