"""`/api/backup` over HTTP: making backups, looking at them, merging what one holds; what clients may not do."""

import json
import os
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kvs.auth.scopes import ALL
from kvs.limits import BACKUP_ROWS_MAX
from kvs.storage.backup import ROWS_TYPE, encode_rows, portions, verify
from kvs.storage.codec import Stored, encode
from kvs.storage.keyspace import REVISIONS
from tests.api.accounts import Place
from tests.api.client import Client, Reply
from tests.api.running import Clock, RunningNode
from tests.records import record

Row = tuple[bytes, bytes]


class Site:
    """A node with a folder of backups, without authentication."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.backups = folder / "backups"
        self.clock = Clock()
        self._settings = settings
        self.begin()

    def begin(self) -> None:
        folder = self.folder / "data"
        self.node = RunningNode(folder, clock=self.clock, backup_path=self.backups, **self._settings)
        self.ask = Client(self.node.address)

    def end(self) -> None:
        self.ask.close()
        self.node.stop()

    def make(self) -> bytes:
        """A new backup's bytes."""
        made = self.ask.post("/api/backup?timeout=1m")
        assert made.status == 201, made
        return (self.backups / str(made.json["name"])).read_bytes()

    def status(self) -> dict[str, object]:
        found = self.ask.get("/api/backup/status").json
        assert isinstance(found, dict)
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.end()


def rows_of(backup: bytes) -> list[Row]:
    return [row for section, rows, _ in portions(BytesIO(backup)) if section != REVISIONS for row in rows]


def merge(ask: Client, rows: list[Row], query: str = "") -> Reply:
    return ask.send("POST", f"/api/backup/restore{query}", encode_rows(rows), {"Content-Type": ROWS_TYPE})


def row(key: bytes, value: bytes = b"1", timestamp: int = 1_700_000_000_000) -> Row:
    return key, encode(key, Stored(record(payload=value, timestamp=timestamp), 1, 1, 0))


# --- making and looking ---


def test_a_backup_is_made_and_told_of(site: Site) -> None:
    assert site.ask.get("/api/backup").json == {"backups": []}
    assert site.status() == {
        "last_backup_time": None,
        "last_backup_success": None,
        "last_backup_path": None,
        "last_backup_error": None,
        "next_backup_time": site.status()["next_backup_time"],
        "backups_running": 0,
        "rows_written": None,
        "succeeded": 0,
        "failed": 0,
    }
    site.ask.put("/kv/a", b"1")
    site.ask.put("/kv/a", b"2")
    site.ask.put("/kv/b", b"3")
    site.ask.delete("/kv/b")
    made = site.ask.post("/api/backup")
    assert (made.status, made.headers["location"]) == (201, "/api/backup/status")
    name = made.json["name"]
    path = site.backups / name
    assert made.json == {
        "state": "done",
        "name": name,
        "size_bytes": path.stat().st_size,
        "documents": 0,
        "records": 2,
        "revisions": 2,
        "tombstones": 1,
        "left_out": 0,
        "content_bytes": made.json["content_bytes"],
    }
    assert verify(BytesIO(path.read_bytes())).counts.rows == 4
    (listed,) = site.ask.get("/api/backup").json["backups"]
    told = {name: value for name, value in made.json.items() if name != "state"}
    assert listed == {**told, "readable": True, "created_at": site.clock.now_ms, "node_id": "node1", "version": "0.1.0"}
    status = site.status()
    assert (status["last_backup_time"], status["last_backup_success"]) == (site.clock.now_ms, True)
    assert status["last_backup_path"] == str(path)
    assert (status["backups_running"], status["succeeded"], status["failed"]) == (0, 1, 0)


def test_what_was_told_is_told_after_a_restart_too(site: Site) -> None:
    site.make()
    before = site.status()
    site.end()
    site.begin()
    after = site.status()
    for name in ("last_backup_time", "last_backup_success", "last_backup_path", "last_backup_error"):
        assert after[name] == before[name]
    assert after["succeeded"] == 0


def test_who_does_not_wait_is_told_that_it_runs(site: Site) -> None:
    made = site.ask.post("/api/backup?timeout=0")
    assert made.status in (201, 202)
    while site.status()["backups_running"]:
        pass
    assert site.status()["last_backup_success"] is True


@pytest.mark.parametrize("timeout", ["x", "-1s", "11m", ""])
def test_a_timeout_that_cannot_be_is_refused(site: Site, timeout: str) -> None:
    reply = site.ask.post(f"/api/backup?timeout={timeout}")
    assert (reply.status, reply.json["field"]) == (400, "timeout")
    assert site.status()["succeeded"] == 0


def test_a_failure_is_told_without_a_path(site: Site) -> None:
    site.backups.write_bytes(b"in the way")
    failed = site.ask.post("/api/backup")
    assert (failed.status, failed.code) == (503, "backup_failed")
    assert "retry-after" in failed.headers
    assert str(site.folder) not in failed.json["detail"]
    status = site.status()
    assert (status["last_backup_success"], status["last_backup_path"], status["failed"]) == (False, None, 1)
    assert str(site.folder) not in str(status["last_backup_error"])
    listed = site.ask.send("GET", "/api/backup")
    assert (listed.status, listed.code) == (503, "backup_failed")


@pytest.mark.parametrize("name", ["path", "name", "file", "folder", "config"])
def test_no_client_says_where_a_backup_goes(site: Site, name: str, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    body = json.dumps({name: str(target)}).encode()
    made = site.ask.post(f"/api/backup?{name}={target}", body, Content_Type="application/json")
    assert made.status == 201
    assert not target.exists()
    assert [path.name for path in site.backups.iterdir()] == [made.json["name"]]


@pytest.mark.parametrize(
    "target", ["/api/backup/..%2f..%2fetc%2fpasswd", "/api/backup/x", "/api/backup/", "/backups/x"]
)
def test_no_backup_is_handed_out(site: Site, target: str) -> None:
    site.make()
    for method in ("GET", "DELETE", "PUT"):
        reply = site.ask.send(method, target, None if method == "GET" else b"")
        assert reply.status == 404, (method, reply)


def test_backups_can_be_switched_off_but_for_those_asked_for(tmp_path: Path) -> None:
    site = Site(tmp_path, backup_enabled=False)
    assert site.status()["next_backup_time"] is None
    site.make()
    site.end()


def test_a_read_only_node_makes_them_and_takes_none(tmp_path: Path) -> None:
    site = Site(tmp_path, read_only=True)
    site.make()
    assert merge(site.ask, [row(b"da")]).code == "read_only"
    site.end()


# --- merging ---


def test_what_is_merged_is_there(site: Site) -> None:
    for key, value in (("a", b"1"), ("b", b'"two"'), ("c", b"3")):
        site.ask.put(f"/kv/{key}", value)
    site.ask.put("/kv/blob", os.urandom(300), Content_Type="image/png")
    site.ask.delete("/kv/c")
    before = {key: site.ask.get(f"/kv/{key}").body for key in ("a", "b", "blob")}
    backup = site.make()
    site.ask.put("/kv/b", b'"newer"')
    other = Site(site.folder / "other")
    reply = merge(other.ask, rows_of(backup), f"?as_of={site.clock.now_ms}")
    assert reply.json == {"taken": 4, "known": 0, "older": 0, "forgotten": 0, "refused": 0}
    assert {key: other.ask.get(f"/kv/{key}").body for key in before} == before
    assert other.ask.get("/kv/c").status == 404
    other.end()
    reply = merge(site.ask, rows_of(backup), f"?as_of={site.clock.now_ms}")
    assert reply.json == {"taken": 0, "known": 3, "older": 1, "forgotten": 0, "refused": 0}
    assert site.ask.get("/kv/b").json["data"] == "newer"


def test_what_may_have_been_deleted_is_left_out_unless_asked_for(site: Site) -> None:
    old = row(b"da", timestamp=site.clock.now_ms - 30 * 86_400_000)
    assert merge(site.ask, [old]).json["forgotten"] == 1
    assert merge(site.ask, [old], "?as_of=5").json["forgotten"] == 1
    assert site.ask.get("/kv/a").status == 404
    assert merge(site.ask, [old], f"?as_of={site.clock.now_ms}").json["taken"] == 1
    other = row(b"db", timestamp=site.clock.now_ms - 30 * 86_400_000)
    assert merge(site.ask, [other], "?forgotten=true").json["taken"] == 1
    assert site.ask.get("/kv/b").status == 200


def test_what_no_node_writes_is_refused_for_itself(site: Site) -> None:
    rows = [
        row(b"da"),
        row(b"da/../b"),
        row(b"d_system"),
        row(b"hda"),
        row(b"nidentity"),
        row(b"d"),
        row(b""),
        row(b"db", b"no json"),
        row(b"dc", timestamp=1 << 60),
    ]
    found = merge(site.ask, rows)
    assert (found.status, found.json["taken"], found.json["refused"]) == (200, 1, 8)
    assert site.ask.get("/kv/a").json["data"] == 1


BAD = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "json": b"[]",
    "a map": msgspec.msgpack.encode({"a": 1}),
    "text": msgspec.msgpack.encode([["da", "1"]]),
    "pairs that are none": msgspec.msgpack.encode([[b"da"]]),
    "a short row": msgspec.msgpack.encode([(b"da", b"1")]),
    "a row under a foreign key": msgspec.msgpack.encode([(b"db", row(b"da")[1])]),
    "a flipped bit": msgspec.msgpack.encode([(b"da", row(b"da")[1][:-1] + b"2")]),
    "too many": encode_rows([row(b"d%d" % number) for number in range(BACKUP_ROWS_MAX + 1)]),
    "nested": b"\x91" * 100_000,
    "a length that is none": b"\xdd\xff\xff\xff\xff",
}


@pytest.mark.parametrize("what", BAD)
def test_bodies_that_cannot_be_are_refused_as_a_whole(site: Site, what: str) -> None:
    reply = site.ask.post("/api/backup/restore", BAD[what])
    assert (reply.status, reply.code) == (400, "bad_message")
    assert site.ask.get("/kv/_range").json["pairs"] == []


@pytest.mark.parametrize(
    "query",
    [
        "as_of=x",
        "as_of=-1",
        "as_of=99999999999999999",
        "created_at=x",
        "created_at=-1",
        "created_at=253402300800000",
        "forgotten=perhaps",
    ],
)
def test_parameters_that_cannot_be_are_refused(site: Site, query: str) -> None:
    reply = merge(site.ask, [row(b"da")], f"?{query}")
    assert (reply.status, reply.json["field"]) == (400, query.partition("=")[0])


# --- accounts ---


def test_backups_take_the_scope(make_place: Callable[..., Place]) -> None:
    at = make_place()
    keeper, other = at.user("admin:backup").ask, at.user(*(scope for scope in ALL if scope != "admin:backup")).ask
    calls = [
        ("GET", "/api/backup"),
        ("GET", "/api/backup/status"),
        ("POST", "/api/backup"),
        ("POST", "/api/backup/restore"),
    ]
    for method, target in calls:
        body = encode_rows([row(b"dkey")]) if target.endswith("restore") else None
        assert other.send(method, target, body).status == 403
        assert keeper.send(method, target, body).status in (200, 201)
    assert at.root.ask.get("/kv/key").json["data"] == 1


def test_who_lacks_a_scope_brings_no_accounts(make_place: Callable[..., Place]) -> None:
    """Or he could make himself one that has it."""
    at = make_place()
    almost = at.user(*(scope for scope in ALL if scope != "read")).ask
    made = at.user("read")
    folder = at.folder.with_name(f"{at.folder.name}-backups")
    name = at.root.ask.call("POST", "/api/backup").json["name"]
    rows = rows_of((folder / name).read_bytes())
    assert any(key.startswith(b"suser/") for key, _ in rows)
    for kind in (b"suser/", b"stoken/", b"sgroup/", b"snickname/"):
        some = [one for one in rows if one[0].startswith(kind)]
        reply = merge(almost, [row(b"dx"), *some])
        assert (reply.status, reply.code) == (403, "scope_exceeded"), kind
    assert at.root.ask.get("/kv/x").status == 404
    assert merge(at.root.ask, rows).json["taken"] == 0
    assert made.ask.get("/kv/x").status == 404


def test_revocations_and_deletions_since_the_backup_stay(make_place: Callable[..., Place]) -> None:
    at = make_place()
    stays, revoked, deleted = at.user(), at.user(), at.user()
    folder = at.folder.with_name(f"{at.folder.name}-backups")
    name = at.root.ask.call("POST", "/api/backup").json["name"]
    token_id = next(
        one["token_id"]
        for one in at.root.ask.call("GET", "/api/tokens").json["tokens"]
        if one["user_uuid"] == revoked.uuid
    )
    assert at.root.ask.delete(f"/api/tokens/{token_id}").status == 204
    assert at.root.ask.delete(f"/api/users/{deleted.uuid}").status == 204
    reply = merge(at.root.ask, rows_of((folder / name).read_bytes()), f"?as_of={at.clock.now_ms}")
    assert reply.json["refused"] == 0
    assert [person.ask.get("/kv/x").status for person in (stays, revoked, deleted)] == [404, 401, 401]
    at.restart()
    assert [at.again(person).ask.get("/kv/x").status for person in (stays, revoked, deleted)] == [404, 401, 401]
