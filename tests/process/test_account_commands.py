"""`kvs token`, `kvs user` and `kvs group` against a real daemon."""

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import ClassVar
from uuid import UUID, uuid4

import pytest

from kvs.auth.scopes import ALL
from tests.process.cli import Cli
from tests.process.eventually import eventually
from tests.process.site import Site

PASSWORD = "correct horse"
GONE_S = 10.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    kvs = Cli(tmp_path_factory.mktemp("site"))
    made = Site(kvs)
    made.start()
    yield made
    kvs.kill_all()


def test_a_token_is_printed_and_works(site: Site) -> None:
    made = site.local("token", "create", "--expires-in", "2h")
    token = made.out.rstrip("\n")
    assert made.code == 0
    note = re.fullmatch(r"token id ([0-9a-f]{32}), good until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", made.err)
    assert note is not None, made
    assert site.ask("PUT", "/kv/printed", token, b"1").status in (200, 201)
    assert site.ask("DELETE", "/kv/printed", token).status == 204
    assert site.ask("GET", "/api/users", token).status == 403

    listed = site.local("token", "list")
    assert listed.code == 0
    assert listed.out.split()[:2] == ["TOKEN", "ID"]
    assert f"{note[1]}  " in listed.out
    assert token not in listed.out
    revoked = site.local("token", "revoke", note[1])
    assert (revoked.code, revoked.out, revoked.err) == (0, "", f"revoked {note[1]}\n")
    assert site.statuses(token) == [401]
    assert note[1] not in site.local("token", "list").out
    again = site.local("token", "revoke", note[1])
    assert (again.code, again.err) == (3, "kvs: there is no such token (404 not_found)\n")


def test_a_token_in_json(site: Site) -> None:
    uuid = site.manage("POST", "/api/users", {"nickname": "json user"})["uuid"]
    made = site.local_json("token", "create", "--user", "json user", "--scopes", "read, admin:users:read")
    assert set(made) == {"token", "token_id", "expires_at"}
    (listed,) = site.local_json("token", "list", "--user", uuid)
    assert (listed["token_id"], listed["scopes"]) == (made["token_id"], ["read", "admin:users:read"])
    assert site.local_json("token", "revoke", made["token_id"]) == {"revoked": made["token_id"]}
    assert site.local_json("token", "list", "--user", "json user") == []


def test_users(site: Site) -> None:
    made = site.local("user", "create", "ada", "--password", "--scopes", "read,write", given=f"{PASSWORD}\nmore\n")
    uuid = made.out.strip()
    assert (made.code, made.err, str(UUID(uuid))) == (0, "", uuid)
    login = json.dumps({"nickname": "ada", "password": PASSWORD}).encode()
    token = site.ask("POST", "/api/login", body=login).json()["token"]
    assert site.statuses(token) == [404]

    shown = site.local("user", "show", "ada")
    fields = dict(re.split(r":\s+", line, maxsplit=1) for line in shown.out.splitlines())
    assert (fields["uuid"], fields["scopes"], fields["has_password"]) == (uuid, "read, write", "True")
    assert f"{uuid}  0       yes       read,write" in site.local("user", "list").out
    changed = site.local_json("user", "update", "ada", "--nickname", "countess", "--no-password", "--scopes", "read")
    assert (changed["scopes"], changed["has_password"]) == (["read"], False)
    assert site.ask("POST", "/api/login", body=login).status == 401
    set_again = site.local("user", "update", "countess", "--password", given="another horse")
    assert "has_password:   True" in set_again.out

    deleted = site.local("user", "delete", "countess")
    assert (deleted.code, deleted.out, deleted.err) == (0, "", f"deleted {uuid}\n")
    assert site.statuses(token) == [401]
    assert uuid not in site.local("user", "list").out


def test_all_stands_for_every_scope(site: Site) -> None:
    for words in (["user", "create", "mighty"], ["user", "update", "mighty"]):
        assert site.local(*words, "--scopes", "all").code == 0
        (shown,) = site.manage("GET", "/api/users?nickname=mighty")["users"]
        assert shown["scopes"] == list(ALL)
        assert site.local_json("user", "update", "mighty", "--scopes", "read")["scopes"] == ["read"]


def test_groups(site: Site) -> None:
    users = [site.manage("POST", "/api/users", {"nickname": name})["uuid"] for name in ("grace", "alan")]
    made = site.local("group", "create", "crew", "grace")
    group = made.out.strip()
    assert (made.code, str(UUID(group))) == (0, group)
    assert site.local_json("group", "add", "crew", users[1], "grace")["members"] == users
    assert f"{group}  2" in site.local("group", "list").out
    assert site.local_json("group", "remove", group, "grace")["members"] == users[1:]
    assert site.manage("GET", f"/api/users/{users[0]}")["groups"] == []
    assert f"members:        {users[1]}\n" in site.local("group", "show", "crew").out
    assert site.local("group", "delete", "crew").err == f"deleted {group}\n"
    assert site.manage("GET", f"/api/users/{users[1]}")["groups"] == []
    assert site.local("group", "show", "crew").code == 3


def test_a_token_from_elsewhere(site: Site) -> None:
    """`KVS_URL` and `KVS_TOKEN`, and the exit codes of what goes wrong."""
    mighty = site.local_json("token", "create", "--scopes", "all")["token"]
    weak = site.manage("POST", "/api/tokens", {"user_uuid": site.root, "scopes": ["read"]})["token"]
    made = site.remote(mighty, "user", "create", "remote")
    found = site.manage("GET", "/api/users?nickname=remote")["users"]
    assert (made.code, [user["uuid"] for user in found]) == (0, [made.out.strip()])
    taken = site.remote(mighty, "user", "create", "remote")
    assert (taken.code, taken.out, taken.err) == (5, "", "kvs: this nickname is taken (409 nickname_taken)\n")
    refused = site.remote(weak, "user", "list")
    assert (refused.code, refused.out, refused.err) == (4, "", "kvs: this is not permitted (403 forbidden)\n")
    worthless = site.remote(f"{weak}x", "token", "list")
    assert (worthless.code, worthless.err) == (4, "kvs: a valid token is needed (401 unauthorized)\n")
    missing = site.remote(mighty, "user", "delete", "nobody")
    assert (missing.code, missing.err) == (3, "kvs: there is no user 'nobody'\n")
    bad = site.remote(mighty, "token", "create", "--scopes", "raed")
    assert (bad.code, bad.err) == (1, "kvs: 'raed' is not a scope (400 bad_request)\n")
    without = site.remote("", "user", "list")
    assert (without.code, "a token is needed" in without.err) == (2, True)
    for wrong in (["token", "create", "more"], ["group", "add", "crew"]):
        assert site.remote(mighty, *wrong).code == 2, wrong
    nowhere = site.kvs.run("user", "list", "--url", "http://127.0.0.1:1", "--token", weak)
    assert nowhere.code == 6
    assert nowhere.err.startswith("kvs: no node answers at http://127.0.0.1:1: ")
    for result in (refused, worthless, bad, nowhere):
        assert weak not in result.all


class _Busy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(429)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_node_that_is_busy(kvs: Cli) -> None:
    with HTTPServer(("127.0.0.1", 0), _Busy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        limited = kvs.run("user", "list", "--url", url, "--token", "any")
        server.shutdown()
    assert limited.code == 7
    assert limited.err.startswith("kvs: the node answered 429")


class _Contested(BaseHTTPRequestHandler):
    """A group that somebody else changes right after it was read, `rivals` times."""

    members: ClassVar[list[str]] = []
    rivals = 0

    def do_GET(self) -> None:
        group = {"uuid": self.path.rpartition("/")[2], "members": self.members}
        self._answer(200, group, ETag=f'"{len(self.members)}"')
        if type(self).rivals:
            type(self).rivals -= 1
            self.members.append(str(uuid4()))

    def do_PUT(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["If-Match"] != f'"{len(self.members)}"':
            self._answer(412, {"detail": "too late", "code": "precondition_failed"})
        else:
            self.members[:] = given["members"]
            self._answer(200, given)

    def _answer(self, status: int, document: object, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_a_change_of_a_group_loses_no_other_one(kvs: Cli) -> None:
    group, ada, bob = (str(uuid4()) for _ in range(3))
    with HTTPServer(("127.0.0.1", 0), _Contested) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        asked = ["--url", f"http://127.0.0.1:{server.server_port}", "--token", "any", "--json"]
        _Contested.rivals = 3
        added = kvs.run("group", "add", group, ada, bob, ada, *asked)
        assert (added.code, json.loads(added.out)["members"]) == (0, _Contested.members)
        assert (len(_Contested.members), _Contested.members[3:]) == (5, [ada, bob])
        _Contested.rivals = 2
        assert kvs.run("group", "remove", group, bob, *asked).code == 0
        assert (len(_Contested.members), bob in _Contested.members) == (6, False)
        _Contested.rivals = 1000
        given_up = kvs.run("group", "add", group, bob, *asked)
        server.shutdown()
    assert (given_up.code, given_up.out, given_up.err) == (5, "", "kvs: too late (412 precondition_failed)\n")
    assert 900 < _Contested.rivals < 1000


def test_what_ended_stays_ended_after_a_restart(kvs: Cli) -> None:
    site = Site(kvs)
    site.start()
    ada, bob = (site.manage("POST", "/api/users", {"nickname": name})["uuid"] for name in ("ada", "bob"))
    good, revoked, removed, short = (
        site.manage("POST", "/api/tokens", {"user_uuid": user, "scopes": ["read"], "expires_in": life})
        for user, life in ((ada, "1h"), (ada, "1h"), (bob, "1h"), (ada, "2s"))
    )
    tokens = [made["token"] for made in (good, revoked, removed, short)]
    assert site.statuses(*tokens[:3]) == [404, 404, 404]
    assert site.local("token", "revoke", revoked["token_id"]).code == 0
    assert site.statuses(*tokens[:3]) == [404, 401, 404]
    assert site.local("user", "delete", bob).code == 0
    assert site.statuses(*tokens[:3]) == [404, 401, 401]
    assert eventually(lambda: site.statuses(tokens[3]) == [401], GONE_S)
    site.restart()
    assert site.statuses(*tokens) == [404, 401, 401, 401]
    site.stop()
    stopped = site.local("token", "create")
    assert (stopped.code, stopped.out) == (3, "")
    assert "does not run" in stopped.err


def test_a_node_that_asks_nobody_has_no_operator(kvs: Cli) -> None:
    path = kvs.config("open.yaml")
    for start in ("", "start"):
        if start:
            assert kvs.run(start, path).code == 0
        refused = kvs.run("token", "create", "--local", "open.yaml")
        expected = f"kvs: {path}: with auth_enabled: false the node asks nobody for a token, and has no accounts\n"
        assert (refused.code, refused.out, refused.err) == (1, "", expected)


def test_who_cannot_read_the_data_directory_is_no_operator(site: Site, kvs: Cli) -> None:
    """The key of another data directory opens nothing, and one that others may read is not used."""
    other = Site(kvs)
    other.start()
    elsewhere = other.kvs.folder / "data" / "signing.key"
    own = site.kvs.folder / "data" / "signing.key"
    assert own.read_bytes() != elsewhere.read_bytes()
    kept = elsewhere.read_bytes()
    elsewhere.write_bytes(own.read_bytes())
    refused = other.local("token", "create")
    assert (refused.code, refused.out) == (4, "")
    elsewhere.write_bytes(kept)
    assert other.local("token", "create").code == 0
    elsewhere.chmod(0o640)
    wide = other.local("token", "create")
    assert (wide.code, "may be read by others" in wide.err) == (1, True)
