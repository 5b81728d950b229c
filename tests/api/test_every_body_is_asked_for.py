"""Every route that takes a body asks again who sends it when it is there: taken from the router, so that none is left
out. What each of them must not do meanwhile is in test_rights_lost_while_sending.py."""

from unittest.mock import Mock

import pytest

from kvs.auth.scopes import ALL
from kvs.auth.tokens import SigningKey
from kvs.server.handlers.context import Context
from kvs.server.router import Route
from kvs.server.routes import routes
from tests.api.accounts import Place

BODILESS = ("/api/data/{key}/history/{n}/restore", "/api/backup")
ROUTES = [
    route
    for route in routes(Mock(spec=Context), SigningKey(b"", ""), Mock())
    if route.method not in ("GET", "DELETE") and route.template not in BODILESS
]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.template}")
def test_a_token_that_was_revoked_while_the_body_came(at: Place, route: Route) -> None:
    made = at.root.ask.call("POST", "/api/tokens", {"user_uuid": at.root.uuid, "scopes": list(ALL)}).json
    caller = at.caller(made["token"])
    caller.write(
        f"{route.method} {route.template.format(key='body', uuid=at.root.uuid)} HTTP/1.1\r\nHost: kvs.test\r\n"
        f"Authorization: {caller.authorization}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode()
    )
    assert caller.read_line() == b"HTTP/1.1 100 Continue\r\n"
    assert caller.read_line() == b"\r\n"
    assert at.root.ask.delete(f"/api/tokens/{made['token_id']}").status == 204
    caller.write(b"{}")
    assert caller.read().status == (400 if route.access.open else 401)
    assert at.root.ask.get("/kv/body").status == 404
