"""`Cache-Control: no-store`: what a node that asks for tokens answers is for whoever asked, and nobody between."""

from tests.api.accounts import Place
from tests.api.client import Client, Reply

PASSWORD = "correct horse"


def is_kept_by_nobody(reply: Reply) -> bool:
    return reply.headers.get("cache-control") == "no-store"


def test_no_answer_of_a_login_is_kept(at: Place) -> None:
    person, caller = at.user(password=PASSWORD), at.caller()
    statuses = set()
    for password in (PASSWORD, "wrong horse", 5, *[PASSWORD] * 10):
        reply = caller.call("POST", "/api/login", {"nickname": person.nickname, "password": password})
        statuses.add(reply.status)
        assert is_kept_by_nobody(reply), reply
    assert statuses == {200, 400, 401, 429}
    assert is_kept_by_nobody(caller.get("/api/login"))


def test_no_answer_of_a_node_that_asks_for_tokens_is_kept(at: Place) -> None:
    root = at.root.ask
    assert root.put("/kv/a", b"1").status == 201
    uuid = root.get("/kv/a").json["uuid"]
    made = root.call("POST", "/api/tokens", {"user_uuid": at.root.uuid, "scopes": []})
    replies = [
        made,
        root.get("/api/tokens"),
        root.get("/kv/a"),
        root.send("GET", "/kv/a", None, {"If-None-Match": f'"{uuid}"'}),
        root.get("/kv/absent"),
        root.get("/kv/_reserved"),
        root.delete("/kv/a"),
        root.get("/nowhere"),
        root.post("/kv/a"),
        at.caller().get("/kv/a"),
        at.caller(made.json["token"]).get("/kv/a"),
        at.caller().get("/health"),
        at.caller().get("/ready"),
    ]
    assert [reply.status for reply in replies] == [201, 200, 200, 304, 404, 400, 204, 404, 405, 401, 403, 200, 200]
    assert [reply for reply in replies if not is_kept_by_nobody(reply)] == []


def test_where_nobody_is_asked_only_the_state_is_not_kept(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", b"1")
    kept = {
        target: not is_kept_by_nobody(client.get(target)) for target in (f"/kv/{key}", "/nowhere", "/health", "/ready")
    }
    assert kept == {f"/kv/{key}": True, "/nowhere": True, "/health": False, "/ready": False}
