"""Every route, asked by everybody, in every mode: the statuses are those of `access_table`."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from unittest.mock import Mock
from uuid import uuid4

import pytest

from kvs.auth.tokens import SigningKey
from kvs.server.handlers.context import Context
from kvs.server.handlers.metrics import MetricsRoute
from kvs.server.routes import routes
from tests.api.access_table import KEY_KINDS, MODES, ROWS, Row
from tests.api.accounts import WORTHLESS, Caller, Place, make_cast, place
from tests.api.client import Reply
from tests.api.running import RunningNode

_numbers = count(1)
_SETTINGS = {
    "auth on": {},
    "anonymous read": {"allow_anonymous_read": True},
    "anonymous write": {"allow_anonymous_write": True},
}
_TARGETS = {
    "/kv/_range": "/kv/_range?prefix={key}",
    "/kv/_list": "/kv/_list?prefix={key}",
    "/api/data/{key}/history/{n}": "/api/data/{key}/history/2",
    "/api/data/{key}/history/{n}/restore": "/api/data/{key}/history/2/restore",
}
"""Those that are not their templates with the names filled in."""


class Stage:
    """A node in one mode, and everybody who may ask it."""

    def __init__(self, cast: dict[str, Caller], team: str) -> None:
        self.cast = cast
        self._team = team

    def subject(self, row: Row) -> dict[str, str]:
        """Something fresh that the row's call is about, by the names in templates."""
        key = f"matrix{next(_numbers)}"
        if row.kind in KEY_KINDS:
            for value in (b"1", b"2"):
                assert self.cast["owner"].put(f"/kv/{key}", value).status < 300
            if (permissions := KEY_KINDS[row.kind]) is not None:
                metadata = {"permissions": permissions, "group_uuid": self._team}
                assert self.cast["root"].call("PUT", f"/kv/{key}/metadata", metadata).status == 200
        user = self._make("/api/users", {"nickname": key}, "uuid", row)
        group = self._make("/api/groups", {"groupname": key}, "uuid", row)
        token = self._make("/api/tokens", {"user_uuid": user, "scopes": []}, "token_id", row)
        return {"key": key, "uuid": group if "groups" in row.template else user, "token_id": token, "user": user}

    def _make(self, target: str, document: dict[str, object], name: str, row: Row) -> str:
        if row.kind != "accounts":
            return str(uuid4())
        made = self.cast["root"].call("POST", target, document)
        return str(made.json[name]) if made.status == 201 else str(uuid4())


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stage]]:
    """By their modes. With authentication off everybody brings along what is good on the strict node."""
    with ExitStack() as ends:
        made: dict[str, Stage] = {}
        for mode, settings in _SETTINGS.items():
            at: Place = ends.enter_context(place(tmp_path_factory.mktemp("matrix") / "data", **settings))
            made[mode] = Stage(*make_cast(at))
        off = RunningNode(tmp_path_factory.mktemp("matrix") / "data")
        ends.callback(off.stop)
        cast = {}
        for who, strict in made["auth on"].cast.items():
            cast[who] = Caller(off.address)
            cast[who].authorization = strict.authorization
            ends.callback(cast[who].close)
        made["auth off"] = Stage(cast, str(uuid4()))
        yield made.__getitem__


def test_the_table_has_every_route() -> None:
    made = routes(Mock(spec=Context), SigningKey(b"", ""), Mock(), metrics=Mock(spec=MetricsRoute))
    registered = {(route.method, route.template) for route in made}
    assert {(row.method, row.template) for row in ROWS} == registered
    by_kind = [{(row.method, row.template, row.op) for row in ROWS if row.kind == kind} for kind in KEY_KINDS]
    assert by_kind[0] == by_kind[1] == by_kind[2]
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("mode", MODES)
def test_every_route_answers_everybody_as_the_table_says(stages: Callable[[str], Stage], mode: str, row: Row) -> None:
    stage = stages(mode)
    subject = stage.subject(row)
    found = {}
    for who, caller in stage.cast.items():
        reply = _ask(caller, row, subject)
        found[who] = reply.status
        if row.op and reply.status == 200:
            found[who] = reply.json["results"][0]["status"]
        if row.method == "GET":
            target = _TARGETS.get(row.template, row.template).format(**subject)
            assert caller.send("HEAD", target).status == reply.status, who
        elif found[who] < 400:
            subject = stage.subject(row)
        if reply.status in (401, 403):
            _check_refusal(reply)
    assert found == {who: row.expected(mode, who) for who in stage.cast}
    assert set(found) >= {"none", *WORTHLESS}


def _ask(caller: Caller, row: Row, subject: dict[str, str]) -> Reply:
    target = _TARGETS.get(row.template, row.template).format(**subject)
    return caller.call(row.method, target, _document(row, subject))


def _document(row: Row, subject: dict[str, str]) -> object:
    resource = row.template.rpartition("/")[2]
    match row.method, resource:
        case ("POST", "_bulk"):
            return [{"op": row.op, "path": subject["key"], **({"data": 3} if row.op == "put" else {})}]
        case ("POST", "users"):
            return {"nickname": f"new {next(_numbers)}"}
        case ("POST", "groups"):
            return {"groupname": f"new {next(_numbers)}"}
        case ("POST", "tokens"):
            return {"user_uuid": subject["user"], "scopes": ["read"]}
        case ("PUT" | "POST", _):
            return {}
        case _:
            return None


def _check_refusal(reply: Reply) -> None:
    """The same for everybody, so that it tells nothing."""
    told = {name: value for name, value in reply.json.items() if name != "request_id"}
    if reply.status == 401:
        assert json.dumps(told) == json.dumps(
            {"title": "Unauthorized", "status": 401, "detail": "a valid token is needed", "code": "unauthorized"}
        )
        assert reply.headers["www-authenticate"] == "Bearer"
    else:
        assert (told["title"], told["code"]) == ("Forbidden", "forbidden")
        assert "www-authenticate" not in reply.headers
