"""`/api/audit`: what is in the audit log of a node, and how it is found there."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from kvs.actions import ACTIONS
from kvs.auth import secrets
from kvs.auth.principal import LOCAL_ACTOR
from kvs.auth.tokens import derive_key, issue_local
from kvs.client import Client as NodeClient
from kvs.cluster.audit_check import Report, check
from kvs.daemon.audit_sources import of_node
from kvs.storage.backup import encode_rows
from kvs.storage.backup_files import name_of
from kvs.storage.keyspace import AUDIT_TIP, audit_row
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.store import Batch
from tests.api.accounts import Caller, Place
from tests.api.client import Client
from tests.api.running import RunningNode
from tests.api.test_backup_routes import merge, rows_of
from tests.auditing import HOUR_MS, START_MS, entries_in, heads_of, make_log
from tests.process.eventually import eventually

SECRET = b"not-to-be-seen"


def entries(at: Place, query: str = "") -> list[dict[str, Any]]:
    """All of them, oldest first."""
    found: list[dict[str, Any]] = at.root.ask.pages(f"/api/audit?order=asc&{query}", "entries")
    return found


def acts(at: Place, query: str = "") -> list[tuple[str, str, str]]:
    return [(each["action"], each["user_uuid"], each["resource"]) for each in entries(at, query)]


@pytest.fixture
def audited(make_place: Callable[..., Place]) -> Place:
    """A node that logs everything; what its start logged is checked on its own."""
    return make_place(tamper_log_actions=ACTIONS)


def new(at: Place, before: int) -> list[tuple[str, str, str]]:
    """Those behind so many. Notes are on the disk when a write is that comes after them."""
    at.root.ask.put("/kv/behind-them", b"1")
    return [act for act in acts(at)[before:] if act[2] != "behind-them"]


def local(at: Place) -> Caller:
    """The operator on the node's host."""
    key = derive_key(secrets.load(at.folder), "local")
    caller = at.caller()
    caller.authorization = f"KVS-Local {issue_local(key, jti='1', now_ms=at.clock.now_ms)}"
    return caller


def test_the_first_start_is_in_it(audited: Place) -> None:
    shown = acts(audited)
    assert [(action, user) for action, user, _ in shown[:3]] == [
        ("user_create", "node"),
        ("group_create", "node"),
        ("token_create", "node"),
    ]
    assert shown[0][2] == f"/user/{audited.root.uuid}"
    assert shown[2][2].startswith(f"/user/{audited.root.uuid}/token/")


def test_values_are_in_it_with_their_writers_and_never_what_they_hold(audited: Place) -> None:
    ada, bob = audited.user(), audited.user()
    before = len(acts(audited))
    key = "site/%C3%A9 x".replace(" ", "%20")
    assert ada.ask.put(f"/kv/{key}", b'"%b"' % SECRET).status == 201
    assert ada.ask.put(f"/kv/{key}/metadata", b'{"permissions": 4095}').status == 200
    assert bob.ask.put(f"/kv/{key}", b'"%b"' % SECRET).status == 200
    assert bob.ask.delete(f"/kv/{key}").status == 204
    assert bob.ask.delete(f"/kv/{key}").status == 404
    assert ada.ask.post(f"/api/data/{key}/history/2/restore").status == 200
    assert new(audited, before) == [
        ("data_write", ada.uuid, "site/é x"),
        ("metadata_update", ada.uuid, "site/é x"),
        ("data_write", bob.uuid, "site/é x"),
        ("data_delete", bob.uuid, "site/é x"),
        ("data_write", ada.uuid, "site/é x"),
    ]
    assert SECRET not in audited.root.ask.get("/api/audit?limit=1000").body


def test_each_item_of_a_bulk_request_is_in_it_once(audited: Place) -> None:
    ada = audited.user()
    before = len(acts(audited))
    items = [
        {"op": "put", "path": "a", "data": 1},
        {"op": "delete", "path": "absent"},
        {"op": "put", "path": "a", "data": 2},
        {"op": "delete", "path": "a"},
        {"op": "put", "path": "_no", "data": 1},
    ]
    assert ada.ask.call("POST", "/kv/_bulk", items).status == 200
    assert new(audited, before) == [
        ("data_write", ada.uuid, "a"),
        ("data_write", ada.uuid, "a"),
        ("data_delete", ada.uuid, "a"),
    ]


def test_accounts_are_in_it(audited: Place) -> None:
    root = audited.root
    before = len(acts(audited))
    user = root.ask.call("POST", "/api/users", {"nickname": "ada", "password": "correct horse"}).json["uuid"]
    group = root.ask.call("POST", "/api/groups", {"groupname": "lab"}).json["uuid"]
    assert root.ask.call("POST", "/api/users", {"nickname": "ada"}).status == 409
    root.ask.call("PUT", f"/api/users/{user}", {"groups": [group]})
    root.ask.call("PUT", f"/api/groups/{group}", {"members": []})
    token = root.ask.call("POST", "/api/tokens", {"user_uuid": user, "scopes": ["read"]}).json["token_id"]
    login = audited.caller().call("POST", "/api/login", {"nickname": "ada", "password": "correct horse"}).json
    root.ask.delete(f"/api/tokens/{token}")
    root.ask.delete(f"/api/groups/{group}")
    root.ask.delete(f"/api/users/{user}")
    assert root.ask.delete(f"/api/users/{user}").status == 404
    assert new(audited, before) == [
        ("user_create", root.uuid, f"/user/{user}"),
        ("group_create", root.uuid, f"/group/{group}"),
        ("user_update", root.uuid, f"/user/{user}"),
        ("group_update", root.uuid, f"/group/{group}"),
        ("token_create", root.uuid, f"/user/{user}/token/{token}"),
        ("token_create", user, f"/user/{user}/token/{login['token_id']}"),
        ("token_revoke", root.uuid, f"/user/{user}/token/{token}"),
        ("group_delete", root.uuid, f"/group/{group}"),
        ("user_delete", root.uuid, f"/user/{user}"),
    ]
    body = root.ask.get("/api/audit?limit=1000").body
    assert not any(each in body for each in (b"correct horse", login["token"].encode(), b'"ada"', b"lab"))


def test_who_is_refused_is_in_it(audited: Place) -> None:
    ada, reader = audited.user(), audited.user("read")
    nobody = audited.caller()
    ada.ask.put("/kv/hers", b"1")
    audited.root.ask.call("POST", "/api/users", {"nickname": "bob", "password": "correct horse"})
    bob = audited.root.ask.get("/api/users?nickname=bob").json["users"][0]["uuid"]
    before = len(acts(audited))
    assert nobody.get("/kv/hers?token=x").status == 401
    assert nobody.get("/kv/other").status == 401
    assert reader.ask.put("/kv/hers", b"1").status == 403
    assert audited.user().ask.put("/kv/hers", b"1").status == 403
    login = {"nickname": "bob", "password": "wrong horse"}
    assert nobody.call("POST", "/api/login", login).status == 401
    audited.clock.now_ms += 300_000
    assert reader.ask.get("/api/users").status == 403
    shown = [each for each in new(audited, before) if each[0] in ("auth_failure", "permission_denied")]
    assert shown[0] == ("auth_failure", "", "127.0.0.1 GET /kv/hers")
    assert shown[1] == ("permission_denied", reader.uuid, "127.0.0.1 PUT /kv/hers")
    assert shown[2][2] == "127.0.0.1 PUT /kv/hers"
    assert shown[3] == ("auth_failure", bob, "127.0.0.1 POST /api/login")


def test_items_of_a_bulk_request_that_are_refused_are_counted(audited: Place) -> None:
    ada, bob = audited.user(), audited.user()
    ada.ask.put("/kv/hers", b"1")
    before = len(acts(audited))
    items = [{"op": "put", "path": "hers", "data": 1}] * 20
    bob.ask.call("POST", "/kv/_bulk", items)
    assert new(audited, before) == [("permission_denied", bob.uuid, "127.0.0.1 POST /kv/_bulk hers")]


def test_a_flood_of_bad_tokens_is_a_few_entries(audited: Place) -> None:
    before = len(acts(audited))
    nobody = audited.caller("rubbish")
    for number in range(500):
        assert nobody.get(f"/kv/{number}").status == 401
    assert len(new(audited, before)) == 1


def backed_up(at: Place) -> tuple[str, list[tuple[bytes, bytes]]]:
    """A new backup that root asked for: its name, and the rows that are merged."""
    made = at.root.ask.call("POST", "/api/backup?timeout=1m")
    assert made.status == 201, made
    name = str(made.json["name"])
    return name, rows_of((at.folder.with_name(f"{at.folder.name}-backups") / name).read_bytes())


def test_backups_and_restores_are_in_it(audited: Place) -> None:
    root, keeper = audited.root, audited.user("admin:backup")
    for number in range(250):
        root.ask.put(f"/kv/site/{number}", b"1")
    before = len(acts(audited))
    name, rows = backed_up(audited)
    told = f"?as_of={audited.clock.now_ms}&created_at={audited.clock.now_ms}"
    assert name == name_of(audited.clock.now_ms)
    for start in range(0, len(rows), 50):
        assert merge(root.ask, rows[start : start + 50], told).status == 200
    values = [row for row in rows if row[0].startswith(b"d")]
    for query in ("", "?forgotten=true", "?created_at=1"):  # whoever leaves it out, or lies
        assert merge(keeper.ask, values[:120], query).json["known"] == 120
    assert merge(keeper.ask, rows, "").code == "scope_exceeded"
    assert merge(keeper.ask, [], "").status == 200
    assert local(audited).send("POST", "/api/backup/restore", encode_rows(values[:1])).status == 200
    audited.clock.now_ms += 1
    assert (other := local(audited).post("/api/backup?timeout=1m")).status == 201
    shown = new(audited, before)
    refused = ("permission_denied", keeper.uuid, "127.0.0.1 POST /api/backup/restore")
    assert refused in shown  # by its own time
    assert [act for act in shown if act != refused] == [
        ("backup", root.uuid, f"/backup/{name}"),
        ("restore", root.uuid, f"/backup/{name}"),
        ("restore", keeper.uuid, "/backup"),
        ("restore", keeper.uuid, f"/backup/{name_of(1)}"),
        ("restore", "local", "/backup"),
        ("backup", "local", f"/backup/{other.json['name']}"),
    ]
    before = len(acts(audited))
    audited.restart()
    assert set(new(audited, before)) == {
        ("restore", root.uuid, f"/backup/{name} {len(rows) - 50} more"),
        ("restore", keeper.uuid, "/backup 140 more"),
        ("restore", keeper.uuid, f"/backup/{name_of(1)} 20 more"),
    }


def test_a_backup_of_the_schedule_is_in_it_as_of_the_node(audited: Place) -> None:
    before = len(acts(audited))
    audited.clock.now_ms = START_MS + 3 * 24 * HOUR_MS  # some were due since
    with patch("kvs.server.scheduler.BACKUP_MISSED_DELAY_S", 0):
        audited.restart()
    audited.root = audited.root._replace(ask=local(audited))  # her token is over
    while not (status := audited.root.ask.get("/api/backup/status").json)["succeeded"]:
        assert not status["failed"]

    def shown() -> list[tuple[str, str, str]]:
        return [act for act in acts(audited)[before:] if act[0] == "backup"]

    assert eventually(lambda: bool(shown()), 20.0), "it is told when the backup is made, and that it was a little later"
    assert shown() == [("backup", "node", f"/backup/{Path(status['last_backup_path']).name}")]


def test_a_backup_that_fails_is_not_in_it(audited: Place) -> None:
    audited.folder.with_name(f"{audited.folder.name}-backups").touch()
    before = len(acts(audited))
    assert audited.root.ask.post("/api/backup").code == "backup_failed"
    assert new(audited, before) == []


def test_every_action_that_can_be_asked_for_is_written(audited: Place) -> None:
    root, ada = audited.root, audited.user()
    ada.ask.put("/kv/hers", b"1")
    _, rows = backed_up(audited)
    user = root.ask.call("POST", "/api/users", {"nickname": "bob", "password": "correct horse"}).json["uuid"]
    group = root.ask.call("POST", "/api/groups", {"groupname": "lab"}).json["uuid"]
    token = root.ask.call("POST", "/api/tokens", {"user_uuid": user, "scopes": ["read"]}).json["token_id"]
    for reply in (
        root.ask.call("PUT", f"/api/users/{user}", {"groups": [group]}),
        root.ask.call("PUT", f"/api/groups/{group}", {"members": []}),
        root.ask.delete(f"/api/tokens/{token}"),
        root.ask.delete(f"/api/groups/{group}"),
        root.ask.delete(f"/api/users/{user}"),
        ada.ask.put("/kv/hers/metadata", b'{"permissions": 4095}'),
        ada.ask.delete("/kv/hers"),
        merge(root.ask, rows),
    ):
        assert reply.status in (200, 204), reply
    assert audited.caller("rubbish").get("/kv/hers").status == 401
    assert ada.ask.get("/api/users").status == 403
    audited.restart(max_revisions=7)
    audited.root.ask.put("/kv/behind-them", b"1")
    assert {action for action, _, _ in acts(audited)} == set(ACTIONS)


def test_by_default_few_actions_are_in_it(at: Place) -> None:
    ada = at.user()
    ada.ask.put("/kv/a", b"1")
    ada.ask.delete("/kv/a")
    at.caller().get("/kv/a")
    assert {action for action, _, _ in new(at, 0)} == {"user_create", "data_write", "auth_failure"}


def test_a_node_that_keeps_none_has_an_empty_one(make_client: Callable[..., Client]) -> None:
    client = make_client(tamper_logging_enabled=False)
    client.put("/kv/a", b"1")
    assert client.get("/api/audit").json == {"entries": [], "next_cursor": None}
    assert client.get("/api/audit/heads").json["heads"] == []
    assert client.get("/api/audit/kept").json == {"nodes": {}}


def test_without_authentication_writers_have_no_names(make_client: Callable[..., Client]) -> None:
    client = make_client()
    client.put("/kv/a", b"1")
    (entry,) = client.get("/api/audit").json["entries"]
    assert (entry["user_uuid"], entry["resource"]) == ("", "a")


# --- finding entries ---


@contextmanager
def prepared(folder: Path, hours: int, signed: int, garbage: Batch) -> Iterator[Client]:
    """A node on data that hold a log of an entry every quarter of an hour, with heads up to one of them."""
    times = [START_MS + quarter * HOUR_MS // 4 for quarter in range(4 * hours)]
    node = RunningNode(folder, auth_enabled=False)
    node.stop()
    store = LevelDBStore(folder, sync=False)
    rows = make_log(times, signed=False)
    rows |= heads_of({row: raw for row, raw in rows.items() if row <= audit_row(signed)})
    store.commit({**rows, **garbage})
    store.close()
    node = RunningNode(folder, auth_enabled=False, tamper_logging_enabled=False)
    client = Client(node.address)
    yield client
    client.close()
    node.stop()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Two days, of which the last hours have no head yet."""
    with prepared(tmp_path_factory.mktemp("history") / "data", 48, 170, {}) as client:
        yield client


def numbers(client: Client, query: str) -> list[int]:
    """Of all pages."""
    found: list[int] = []
    cursor = ""
    while True:
        page = client.get(f"/api/audit?{query}{cursor}").json
        found += [entry["number"] for entry in page["entries"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


@pytest.mark.parametrize("limit", [1, 7, 100, 191, 192, 193, 1000])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_hold_every_entry_once(history: Client, limit: int, order: str) -> None:
    expected = list(range(1, 193))
    assert numbers(history, f"order={order}&limit={limit}") == expected[:: 1 if order == "asc" else -1]


def test_the_newest_come_first(history: Client) -> None:
    page = history.get("/api/audit").json
    assert [entry["number"] for entry in page["entries"]] == list(range(192, 92, -1))
    assert set(page["entries"][0]) == {"number", "timestamp", "action", "user_uuid", "resource", "signature"}


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [3, 1000])
@pytest.mark.parametrize(
    ("since", "until"), [(0, 48), (5, 6), (0, 1), (47, 48), (40, 45), (20, None), (None, 20), (30, 30), (60, 70)]
)
def test_times_bound_what_is_found(
    history: Client, order: str, limit: int, since: int | None, until: int | None
) -> None:
    bounds = {"since": since, "until": until}
    query = "&".join(f"{name}={START_MS + hour * HOUR_MS}" for name, hour in bounds.items() if hour is not None)
    first, stop = 4 * (since or 0) + 1, 193 if until is None else min(193, 4 * until + 1)
    expected = list(range(first, max(first, stop)))
    assert numbers(history, f"order={order}&limit={limit}&{query}") == expected[:: 1 if order == "asc" else -1]


@pytest.mark.parametrize("text", ["2023-11-14T23:13:20Z", "2023-11-14T23:13:20.000Z", "2023-11-15T00:13:20%2B01:00"])
def test_times_are_written_in_several_ways(history: Client, text: str) -> None:
    assert numbers(history, f"until={text}") == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("action=data_write", 192),
        ("action=user_create", 0),
        ("user_uuid=d34cdb10-90f0-4c06-ab8b-72a38fff0fff", 192),
        ("user_uuid=", 0),
        ("user_uuid=local", 0),
        ("resource=site/1", 104),
        ("resource=site/17&action=data_write", 11),
        ("resource=ite", 0),
    ],
)
def test_filters(history: Client, query: str, count: int) -> None:
    assert len(numbers(history, query)) == count


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("action=shopping", "action"),
        ("since=yesterday", "since"),
        ("until=2023-13-01", "until"),
        ("until=%C3%A9", "until"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("order=up", "order"),
        ("cursor=rubbish", "cursor"),
        (f"user_uuid={'x' * 300}", "user_uuid"),
        (f"resource={'x' * 1025}", "resource"),
    ],
)
def test_what_cannot_be_asked_is_refused(history: Client, query: str, field: str) -> None:
    reply = history.get(f"/api/audit?{query}")
    assert (reply.status, reply.json["field"]) == (400, field)


def test_a_cursor_opens_no_other_list(history: Client) -> None:
    history.put("/kv/secret", b"1")
    history.put("/kv/secret2", b"1")
    lists = ["/kv/_range?limit=1", "/api/audit?limit=1", "/api/audit/heads?limit=1"]
    cursors = [history.get(target).json["next_cursor"] for target in lists]
    for target in lists[1:]:
        for other, cursor in zip(lists, cursors, strict=True):
            reply = history.get(f"{target}&cursor={cursor}")
            assert reply.status == (200 if other == target else 400), (target, other)


def test_heads_are_shown_in_pages(history: Client) -> None:
    heads: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = history.get(f"/api/audit/heads?order=asc&limit=10{cursor}").json
        heads += page["heads"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [head["number"] for head in heads] == list(range(1, len(heads) + 1))
    assert heads[-1]["last"] == 170
    newest = history.get("/api/audit/heads?limit=1").json
    assert newest["heads"] == heads[-1:]
    assert newest["node_id"] == "node1"


def test_damaged_rows_are_shown_as_they_stand(tmp_path: Path) -> None:
    rows = make_log([START_MS, START_MS], signed=False)
    two = entries_in(rows)[1]
    garbage = {audit_row(9): b"garbage", audit_row(10): two, b"ae-": b"strange", b"ah-": b"no head"}
    with prepared(tmp_path / "data", 1, 4, garbage) as client:
        shown = client.get("/api/audit?order=asc").json["entries"]
        assert [each["number"] for each in shown] == [1, 2, 3, 4, 9, 10, None]
        damaged = (b"garbage", two, b"strange")
        assert [each["damaged"] for each in shown[4:]] == [b64encode(raw).decode() for raw in damaged]
        assert numbers(client, "action=data_write") == [4, 3, 2, 1]
        heads = client.get("/api/audit/heads").json["heads"]
        assert heads[0] == {"number": None, "damaged": b64encode(b"no head").decode()}


# --- verifying through the API ---


def verified(client: Client) -> Report:
    with NodeClient(f"http://{client.address[0]}:{client.address[1]}") as asked:
        source = of_node(asked, None)
        return check(source.log, source.entries, source.heads, source.tips)


def test_what_a_node_shows_can_be_verified_without_trust_in_it(make_client: Callable[..., Client]) -> None:
    client = make_client(tamper_log_actions=ACTIONS)
    for number in range(30):
        client.put(f"/kv/site/{number}/%C3%A9%22%5C%E2%80%A8", b"1")
    report = verified(client)
    assert (report.entries, report.findings) == (30, [])
    tip = client.get("/api/audit/heads").json["tip"]
    assert (tip["number"], tip["signature"]) == (30, report.chain)


@pytest.mark.parametrize("tip", [None, b"strange"])
def test_a_tip_that_is_none_is_null(tmp_path: Path, tip: bytes | None) -> None:
    with prepared(tmp_path / "data", 1, 4, {AUDIT_TIP: tip}) as client:
        assert client.get("/api/audit/heads").json["tip"] is None
        assert [finding.of for finding in verified(client).findings if finding.of == "log"] == ["log"]


def test_the_local_operator_may_read_it_and_is_named_in_it(audited: Place) -> None:
    assert audited.root.ask.get("/api/audit?user_uuid=local").json["entries"] == []
    operator = local(audited)
    made = operator.call("POST", "/api/users", {"nickname": "by hand"})
    assert made.status == 201
    assert acts(audited, "user_uuid=local") == [("user_create", LOCAL_ACTOR, f"/user/{made.json['uuid']}")]
    assert operator.get("/api/audit").status == 200
