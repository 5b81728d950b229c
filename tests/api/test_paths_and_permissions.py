"""No spelling of a path reaches a key past its permissions, or a record of KVS itself."""

from collections.abc import Iterator

import pytest

from tests.api.accounts import Caller, Person, Place, place
from tests.api.client import Reply
from tests.api.spellings import NO_KEYS, NO_ROUTES, OF_SECRET, OTHER_KEYS, SECRET

METHODS = ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
VALUE = b'"what team b keeps"'


class Scene:
    """A key of team b, and a stranger who has every scope that data need."""

    def __init__(self, at: Place) -> None:
        self.at = at
        self.owner, self.stranger = at.user(), at.user()
        for value in (b'"what team b kept"', VALUE):
            assert self.owner.ask.put(f"/kv/{SECRET}", value).status < 300
        assert self.owner.ask.call("PUT", f"/kv/{SECRET}/metadata", {"permissions": 0xF00}).status == 200
        assert self.stranger.ask.put("/kv/team-a/k", b'"own"').status == 201
        self._kept = self._look()

    def _look(self) -> list[bytes]:
        targets = (f"/kv/{SECRET}", f"/kv/{SECRET}/metadata", f"/api/data/{SECRET}/history")
        accounts = [f"/api/{kind}?limit=1000" for kind in ("users", "groups", "tokens")]
        return [self.owner.ask.get(target).body for target in targets] + [
            self.at.root.ask.get(target).body for target in accounts
        ]

    def check(self, *keys: str) -> None:
        """Nothing has changed, and there is no key beside the two and these."""
        assert self._look() == self._kept
        assert self.keys() == sorted(("team-a/k", SECRET, *keys), key=str.encode)

    def keys(self) -> list[str]:
        return [pair["path"] for pair in self.at.root.ask.pages("/kv/_range?keys_only&limit=1000", "pairs")]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with place(tmp_path_factory.mktemp("paths") / "data") as at:
        yield Scene(at)


def ask_all(caller: Caller, target: str) -> dict[str, int]:
    """The status for every method; no answer shows anything of the secret."""
    found = {}
    for method in METHODS:
        reply = caller.send(method, target, b'"forced"' if method in ("PUT", "POST") else None)
        assert b"team b" not in reply.body
        found[method] = reply.status
    return found


def expected(target: str, status: int) -> dict[str, set[int]]:
    """Methods that a route does not take get 405, before anything is looked up."""
    by_method = {method: {status} if method in METHODS[:4] else {405, status} for method in METHODS}
    path = target.partition("?")[0]
    if path.startswith("/api/data/"):
        by_method |= {"PUT": {405, status}, "DELETE": {405, status}}
    elif path.endswith("/metadata"):
        by_method |= {"DELETE": {405, status}}
    return by_method


def check_statuses(found: dict[str, int], wanted: dict[str, set[int]]) -> None:
    assert {method: status for method, status in found.items() if status not in wanted[method]} == {}


@pytest.mark.parametrize("target", OF_SECRET, ids=lambda target: target[:50])
def test_every_spelling_of_the_key_is_refused(scene: Scene, target: str) -> None:
    check_statuses(ask_all(scene.stranger.ask, target), expected(target, 403))
    check_statuses(ask_all(scene.at.caller(), target), expected(target, 401))
    scene.check()
    assert scene.owner.ask.get(target).body == scene.owner.ask.get(f"/kv/{SECRET}").body


@pytest.mark.parametrize("target", NO_KEYS, ids=lambda target: target[:50])
def test_what_is_no_key_is_refused(scene: Scene, target: str) -> None:
    check_statuses(ask_all(scene.stranger.ask, target), expected(target, 400))
    check_statuses(ask_all(scene.at.root.ask, target), expected(target, 400))
    check_statuses(ask_all(scene.at.caller(), target), expected(target, 401))
    scene.check()


@pytest.mark.parametrize("target", NO_ROUTES)
def test_what_is_no_route_leads_nowhere(scene: Scene, target: str) -> None:
    for who in (scene.stranger.ask, scene.at.root.ask, scene.at.caller()):
        assert set(ask_all(who, target).values()) == {404}
    scene.check()


@pytest.mark.parametrize(("target", "key"), OTHER_KEYS.items())
def test_another_key_is_another_key(scene: Scene, target: str, key: str) -> None:
    caller = scene.stranger.ask
    assert caller.get(target).status == 404
    assert caller.send("PUT", target, b'"other"').status == 201
    scene.check(key)
    assert caller.get(target).json["data"] == "other"
    if "metadata " not in key and not key.endswith("Metadata"):
        assert caller.call("PUT", f"{target}/metadata", {"permissions": 0xFFF}).status == 200
    scene.check(key)
    assert caller.delete(target).status == 204
    scene.check()


@pytest.mark.parametrize("count", [8_500, 10_000])
def test_a_target_that_is_too_long_is_refused(scene: Scene, count: int) -> None:
    for target in (f"/kv/{'a/' * count}k", f"/kv/team-a/{'../' * count}team-b/k", f"/kv/{SECRET}?{'x' * 2 * count}"):
        for method in METHODS[:4]:
            assert scene.stranger.ask.send(method, target).status == 400
    scene.check()


@pytest.mark.parametrize("target", ["*", "kvs.test:80", "team-b/k", "kv/team-b/k", "\\kv\\team-b\\k", "?x", "#x"])
def test_what_is_no_path_is_refused(scene: Scene, target: str) -> None:
    for method in (*METHODS, "CONNECT", "BREW"):
        reply = scene.stranger.ask.send(method, target)
        assert reply.status in (400, 404, 405)
        assert b"team b" not in reply.body
    scene.check()


@pytest.mark.parametrize(
    "name",
    [
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Uri",
        "X-Forwarded-Path",
        "X-Forwarded-Prefix",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-User",
        "X-Remote-User",
        "X-KVS-User",
        "X-Cluster-Secret",
        "X-Node-ID",
        "Forwarded",
        "Host",
        "Referer",
        "Cookie",
        "Proxy-Authorization",
    ],
)
def test_no_other_field_says_who_asks_for_what(scene: Scene, name: str) -> None:
    token = scene.owner.ask.authorization
    for value in (f"/kv/{SECRET}", "127.0.0.1", scene.owner.uuid, token, f"token={token}", ""):
        assert scene.stranger.ask.send("GET", "/kv/team-a/k", headers={name: value}).json["data"] == "own"
        assert scene.stranger.ask.send("GET", f"/kv/{SECRET}", headers={name: value}).status == 403
        assert scene.at.caller().send("GET", f"/kv/{SECRET}", headers={name: value}).status == 401
    scene.check()


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_no_field_overrides_the_method(scene: Scene, name: str) -> None:
    for method, status in (("POST", 405), ("GET", 200)):
        for wanted in ("DELETE", "PUT"):
            reply = scene.stranger.ask.send(method, "/kv/team-a/k?_method=DELETE", headers={name: wanted})
            assert reply.status == status
    scene.check()


def test_a_token_is_taken_from_one_place_only(scene: Scene) -> None:
    token = scene.owner.ask.authorization.removeprefix("Bearer ")
    nobody = scene.at.caller()
    for name in ("access_token", "token", "authorization", "Authorization"):
        assert nobody.get(f"/kv/{SECRET}?{name}={token}").status == 401
        assert nobody.send("GET", f"/kv/{SECRET}", headers={"Cookie": f"{name}={token}"}).status == 401
    nobody.write(
        f"GET /kv/{SECRET} HTTP/1.1\r\nHost: kvs.test\r\nAuthorization: {scene.stranger.ask.authorization}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    assert nobody.read().status in (400, 401)


def test_metadata_and_values_are_never_each_other(scene: Scene) -> None:
    caller, document = scene.stranger.ask, b'{"permissions":4095}'
    assert caller.put("/kv/team-a/k/metadata", document).status == 200
    scene.check()
    assert caller.put("/kv/team-a/k/x", document).status == 201
    for target in ("/kv/team-a/k/x/metadata", "/kv/team-a%2Fk%2Fx/metadata"):
        assert caller.get(target).status == 404
    scene.check("team-a/k/x")
    for target in ("/kv/team-a/k%2Fmetadata", "/kv/team-a/k/%6detadata"):
        for method in METHODS[:4]:
            assert caller.send(method, target, document if method == "PUT" else None).status == 400
    assert caller.delete("/kv/team-a/k/metadata").status == 405
    assert caller.get("/kv/team-a/k").json["data"] == "own"
    assert caller.delete("/kv/team-a/k/x").status == 204


def bulk(person: Person, *items: str) -> list[int]:
    reply: Reply = person.ask.post("/kv/_bulk", "\n".join(items).encode())
    assert reply.status == 200, reply
    assert b"team b" not in reply.body
    return [result["status"] for result in reply.json["results"]]


def test_the_paths_of_bulk_items_are_keys_as_they_stand(scene: Scene) -> None:
    refused = ["team-b/k", "team-b\\u002fk", "\\u0074eam-b/k", "team-b\\/k"]
    no_keys = ["team-a/../team-b/k", "./team-b/k", "/team-b/k", "team-b//k", "team-b/k/", "", "team-b/k\\u0000"]
    no_keys += ["_meta:team-b/k", "_ts:x", "team-b/k/metadata", "\\ud800", "metadata"]
    others = {"team-b%2Fk": "team-b%2Fk", "team-b\\\\k": "team-b\\k", "Team-b/k": "Team-b/k", "user/root": "user/root"}
    for op, rest in (("put", ',"data":"forced"'), ("delete", "")):
        items = {path: f'{{"op":"{op}","path":"{path}"{rest}}}' for path in (*refused, *no_keys)}
        found = dict(zip(items, bulk(scene.stranger, *items.values()), strict=True))
        assert found == {**dict.fromkeys(refused, 403), **dict.fromkeys(no_keys, 400)}
        scene.check()
    twice = [
        '{"op":"put","path":"team-a/k","path":"team-b/k","data":"forced"}',
        '{"op":"put","path":"team-b/k","path":"team-a/k","data":"own"}',
        '{"op":"delete","path":"team-a/k","path":"team-b/k"}',
    ]
    assert set(bulk(scene.stranger, *twice)) <= {200, 400, 403}
    scene.check()
    made = bulk(scene.stranger, *(f'{{"op":"put","path":"{path}","data":"other"}}' for path in others))
    assert set(made) == {201}
    scene.check(*others.values())
    gone = bulk(scene.stranger, *(f'{{"op":"delete","path":"{path}"}}' for path in others))
    assert set(gone) == {204}
    scene.check()


@pytest.mark.parametrize(
    "query",
    [
        "prefix=",
        "prefix=team-",
        "prefix=team-b",
        "prefix=team-b/k",
        "prefix=team-b%2Fk",
        "prefix=team-*",
        "prefix=_",
        "prefix=%00",
        "prefix=%01",
        "prefix=metadata/",
        "prefix=user/",
        "prefix=s",
        "prefix=../",
        "start_key=team-a/k&end_key=team-b/z",
        "start_key=team-b/k",
        "start_key=%00&end_key=%7f",
        "start_key=team-b/k&end_key=team-b/k",
        "start_key=z&end_key=a",
        "end_key=zzz",
        "delimiter=team",
        "delimiter=-b",
        "depth=512",
        "limit=1",
        "keys_only=true",
    ],
)
def test_no_list_shows_the_key_or_a_record_of_kvs(scene: Scene, query: str) -> None:
    for route, name in (("_range", "pairs"), ("_list", "entries")):
        for who, most in ((scene.stranger, {"team-a/k"}), (scene.at.root, {"team-a/k", SECRET})):
            found = who.ask.pages(f"/kv/{route}?{query}", name)
            paths = {item["path"] for item in found if item.get("type") != "prefix"}
            assert paths <= most
            folders = {item["path"] for item in found if item.get("type") == "prefix"}
            assert all(any(path.startswith(folder) for path in most) for folder in folders)


def test_what_a_client_says_of_itself_is_data(scene: Scene) -> None:
    """Members that look like fields of a record or of metadata change nobody's rights."""
    caller, uuid = scene.stranger.ask, scene.owner.uuid
    claim = {
        "owner": uuid,
        "owner_uuid": uuid,
        "permissions": 0,
        "version": 9,
        "timestamp": 1,
        "uuid": uuid,
        "node": "x",
    }
    assert caller.call("PUT", "/kv/team-a/claim", claim).status == 201
    assert caller.get("/kv/team-a/claim").json["data"] == claim
    assert caller.get("/kv/team-a/claim/metadata?effective").json["owner_uuid"] == scene.stranger.uuid
    ignored = {"acl": [], "version": 9, "created_by": uuid, "node": "x", "created_at": 1, "updated_at": 1, "ttl": 1}
    document = caller.call("PUT", "/kv/team-a/claim/metadata", ignored).json
    assert document["owner_uuid"] == scene.stranger.uuid
    assert (document["permissions"], document["ttl"]) == (3889, 0)
    assert document["created_at"] == document["updated_at"] == scene.at.clock.now_ms
    items = [{"op": "put", "path": "team-a/claim", "data": 1, "owner": uuid, "owner_uuid": uuid, "uuid": uuid}]
    (result,) = caller.call("POST", "/kv/_bulk", items).json["results"]
    assert (result["status"], result["uuid"] != uuid) == (200, True)
    assert caller.delete("/kv/team-a/claim").status == 204
