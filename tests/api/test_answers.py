"""What every answer carries, whatever was asked. (The client of these tests checks the rest on each answer.)"""

import pytest

from tests.api.client import Client

SANE_IDS = ["a", "0af7651916cd43dd8448eb211c80319c", "A-b_c.d:e+f/g=", "x" * 128]
OTHER_IDS = ["", "a b", "x" * 129, "<script>", '"quoted"', "a,b", "é", "a;b", "../a\\b", "{}", "a%0d%0ab", "\ta\tb"]


@pytest.mark.parametrize("given", SANE_IDS)
def test_a_sane_request_id_comes_back(client: Client, key: str, given: str) -> None:
    for target, status in ((f"/kv/{key}", 404), ("/health", 200), ("/nowhere", 404), ("/kv/a//b", 400)):
        reply = client.get(target, X_Request_ID=given)
        assert (reply.status, reply.headers["x-request-id"]) == (status, given)


@pytest.mark.parametrize("given", OTHER_IDS)
def test_any_other_request_id_is_replaced(client: Client, given: str) -> None:
    seen = {client.get("/health", X_Request_ID=given).headers["x-request-id"] for _ in range(3)}
    assert len(seen) == 3
    assert given not in seen


def test_ids_of_the_node_differ(client: Client) -> None:
    assert len({client.get("/nowhere").json["request_id"] for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/nowhere",
        "/kv",
        "/api",
        "/api/data",
        "/api/data/a",
        "/api/data/a/histories",
        "/health/",
        "/healthz",
        "/HEALTH",
    ],
)
def test_an_unknown_route_is_not_found(client: Client, target: str) -> None:
    for method in ("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS"):
        reply = client.send(method, target, b"{}" if method in ("PUT", "POST") else None)
        assert reply.status == 404
        assert method == "HEAD" or reply.code == "unknown_route"


@pytest.mark.parametrize(
    "target", ["/members/", "/merkle_tree/root", "/sync/merkle/root", "/members/join", "/replicate"]
)
def test_a_lone_node_has_no_routes_for_peers(client: Client, target: str) -> None:
    for method in ("GET", "POST"):
        assert client.send(method, target, b"{}" if method == "POST" else None).code == "unknown_route"


@pytest.mark.parametrize("target", ["/api/users", "/auth/users", "/api/groups", "/api/tokens", "/api/login"])
def test_without_accounts_their_routes_are_not_there(client: Client, target: str) -> None:
    for method in ("GET", "POST"):
        assert client.send(method, target, b"{}" if method == "POST" else None).status == 404


def test_headers_that_would_change_the_request_are_ignored(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", b"1")
    reply = client.get(
        f"/kv/{key}",
        X_HTTP_Method_Override="DELETE",
        X_Original_URL="/health",
        X_Rewrite_URL="/health",
        X_Forwarded_Prefix="/kv/other",
        Range="bytes=0-1",
        Accept="text/html",
        Accept_Encoding="gzip, zstd",
    )
    assert (reply.status, reply.json["data"]) == (200, 1)
    assert "content-encoding" not in reply.headers
    assert not any(name.startswith("access-control-") for name in reply.headers)


def test_problems_do_not_repeat_what_was_asked_as_markup(client: Client) -> None:
    for target in ("/%3Cscript%3E", "/kv/a//<script>", "/kv/_range?limit=<script>"):
        reply = client.get(target, Accept="text/html")
        assert reply.headers["content-type"] == "application/problem+json"
        assert b"<script>" not in reply.body
