"""No token, key, password or hash of a password comes out of a node anywhere but where it is meant to."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.process.canary import Canaries
from tests.process.cli import Cli, mode, next_event

_MALFORMED = b"HTTP/1.1 400 "


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    """A node that has been through everything below."""
    kvs = Cli(tmp_path_factory.mktemp("canaries"))
    made = Canaries(kvs)
    try:
        made.start()
        _accounts(made)
        _wrong_logins(made)
        _broken_bodies(made)
        _wrong_tokens(made)
        _broken_requests(made)
        _bugs(made)
        _reload(made)
        _backup(made)
        assert made.ask("GET", "/metrics").status == 200
        yield made
    finally:
        kvs.kill_all()


def _accounts(at: Canaries) -> None:
    password = at.password("password of ann")
    ann = at.made("POST", "/api/users", {"nickname": "ann the canary", "password": password})["uuid"]
    login = at.ask("POST", "/api/login", {"nickname": "ann the canary", "password": password})
    at.answers.pop()
    at.token("token of a login", login.json()["token"])
    new = at.password("new password of ann")
    assert at.as_root("PUT", f"/api/users/{ann}", {"password": new}).status == 200
    wanted = {"user_uuid": ann, "scopes": ["read"]}
    revoked = at.made("POST", "/api/tokens", wanted)
    at.token("revoked token", revoked["token"])
    assert at.as_root("DELETE", f"/api/tokens/{revoked['token_id']}").status == 204
    assert at.ask("GET", "/kv/a", token=revoked["token"]).status == 401
    reader = at.token("token of a reader", at.made("POST", "/api/tokens", wanted)["token"])
    assert at.ask("PUT", "/kv/a", b"1", reader).status == 403
    local = at.kvs.run("token", "create", "--local", "node1.yaml", "--json")
    assert local.code == 0, local
    at.token("token of the command line", json.loads(local.out)["token"])
    for target in ("users", f"users/{ann}", "users?nickname=ann+the+canary", "groups", "tokens"):
        assert at.as_root("GET", f"/api/{target}").status == 200


def _wrong_logins(at: Canaries) -> None:
    for nickname in ("ann the canary", "nobody"):
        wrong = {"nickname": nickname, "password": at.password(f"wrong password for {nickname}")}
        assert at.ask("POST", "/api/login", wrong).status == 401


def _broken_bodies(at: Canaries) -> None:
    def word() -> str:
        return at.password(f"password in broken body {len(at.answers)}")

    bodies: list[bytes] = [
        b'{"nickname": "ann the canary", "password": "%b' % word().encode(),
        b'{"nickname": "ann the canary", "password": "%b"} %b' % (word().encode(), word().encode()),
        b'{"nickname": 5, "password": "%b"}' % word().encode(),
        b'{"nickname": ["%b"], "password": {"%b": 1}}' % (word().encode(), word().encode()),
        b'{"nickname": "\n", "password": "%b\xff"}' % word().encode(),
        b'{"nickname": "x", "password": "%b", "n": NaN}' % word().encode(),
        b'"%b"' % word().encode(),
        b"%b" % word().encode(),
    ]
    for body in bodies:
        assert at.ask("POST", "/api/login", body).status == 400
        assert at.as_root("POST", "/api/users", body).status == 400
    refused: list[tuple[int, dict[str, object]]] = [
        (400, {"nickname": "", "password": word()}),
        (400, {"nickname": "long", "password": word() + "x" * 1100}),
        (400, {"nickname": "x", "password": word(), "groups": ["5"]}),
        (400, {"nickname": "x", "password": word(), "scopes": ["all"]}),
        (409, {"nickname": "ann the canary", "password": word()}),
    ]
    for status, document in refused:
        assert at.as_root("POST", "/api/users", document).status == status
    assert at.ask("POST", "/api/users", {"nickname": "x", "password": word()}).status == 401
    assert at.ask("POST", "/api/login", b"", headers={"Content-Encoding": word()}).status == 415
    assert at.ask("PUT", "/api/login", {"nickname": "x", "password": word()}).status == 405
    assert at.ask("POST", "/api/logins", {"nickname": "x", "password": word()}).status == 404


def _wrong_tokens(at: Canaries) -> None:
    unknown = at.root_token[:-6] + "AAAAAA"
    at.found_as["unknown token"] = unknown.rpartition(".")[2]
    made_up = at.password("made up token")
    for token in (unknown, made_up, f"{made_up}.{made_up}.{made_up}", made_up * 200):
        for method, target in (("GET", "/kv/a"), ("PUT", "/kv/a"), ("GET", "/api/users"), ("DELETE", "/api/tokens/x")):
            assert at.ask(method, target, b"1", token).status == 401
    for field in ("Basic", "KVS-Local", "Bearer Bearer", "Token"):
        assert at.ask("GET", "/kv/a", headers={"Authorization": f"{field} {made_up}"}).status == 401
    in_query = at.password("token in a query")
    for token in (in_query, at.root_token):
        assert at.ask("GET", f"/kv/a?token={token}&access_token={token}").status == 401
        assert at.ask("GET", "/kv/a", headers={"Cookie": f"token={token}"}).status == 401
    assert at.as_root("GET", f"/kv/_range?limit=x&token={in_query}").status == 400
    assert at.as_root("GET", "/kv/a").status == 404
    failed = at.kvs.run("user", "list", "--url", at.url, environ={"KVS_TOKEN": made_up})
    assert failed.code != 0
    assert made_up not in failed.all


def _broken_requests(at: Canaries) -> None:
    word = at.password("token in a broken request").encode()
    bearer = b"Host: kvs\r\nAuthorization: Bearer %b" % word
    for request in (
        b"GET /kv/a?token=%b HTTP/9.9\r\n\r\n" % word,
        b"%b\r\n\r\n" % word,
        b"GET /kv/a HTTP/1.1\r\n%b\0\r\n\r\n" % bearer,
        b"GET /kv/a HTTP/1.1\r\n%b%b\r\n\r\n" % (bearer, b"x" * 20_000),
        b"GET /kv/a HTTP/1.1\r\n%b\r\nContent-Length: %b\r\n\r\n" % (bearer, word),
        b"GET /kv/a HTTP/1.1\r\nAuthorization Bearer %b\r\n\r\n" % word,
        b"POST /api/login HTTP/1.1\r\n%b\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n" % (bearer, word),
    ):
        answer = at.raw(request)
        assert answer.startswith(_MALFORMED), (request, answer)
        assert word not in answer


def _bugs(at: Canaries) -> None:
    password = "breaks" + at.password("password in a bug")
    assert at.ask("POST", "/api/login", {"nickname": "ann the canary", "password": password}).status == 500
    users = at.as_root("GET", "/api/users").json()["users"]
    wanted = {"user_uuid": users[0]["uuid"], "scopes": ["admin:audit"]}
    token = at.token("token in a bug", at.made("POST", "/api/tokens", wanted)["token"])
    assert at.ask("GET", "/api/users", token=token).status == 500


def _reload(at: Canaries) -> None:
    """With other secrets, and with a mistake."""
    config = at.kvs.folder / "node1.yaml"
    good = config.read_text()
    pid = at.kvs.status("node1")["pid"]
    with at.kvs.popen("logs", "-f", "-n", "10000", "node1") as follower:
        next_event(follower, "Started")
        for text, event in (
            (good + f"cluster_secret_previous: {at.password('secret before')}\n", "Configuration reloaded"),
            (
                f"{good}cluster_secret_previous: [{at.password('secret in a list')}]\n",
                "Configuration not reloaded, the old one stays in effect",
            ),
        ):
            config.write_text(text)
            os.kill(pid, signal.SIGHUP)
            next_event(follower, event)
        follower.terminate()
        follower.communicate()
    config.write_text(good)


def _backup(at: Canaries) -> None:
    wanted = {"user_uuid": at.as_root("GET", "/api/users").json()["users"][0]["uuid"], "scopes": ["admin:backup"]}
    asking = at.token("token of a backup", at.made("POST", "/api/tokens", wanted)["token"])
    assert at.ask("GET", "/api/backup/status", token=asking).status in (200, 403)
    assert at.ask("POST", "/api/backup", token=at.password("wrong token of a backup")).status == 401
    made = at.kvs.run("backup", "create", "--local", "node1.yaml")
    assert made.code == 0, made
    assert at.as_root("GET", "/api/backup/status").status == 200


# --- where they could be seen ---


def test_the_canaries_would_be_found(canaries: Canaries) -> None:
    kinds = list(canaries.found_as)
    assert len(kinds) > 50
    assert all(len(secret) >= 20 for secret in canaries.found_as.values())
    assert canaries.seen_in(" ".join(canaries.found_as.values())) == kinds
    assert {answer.status for _, answer in canaries.answers} >= {200, 204, 400, 401, 403, 404, 405, 409, 500}


def test_the_log_tells_the_root_token_once_and_nothing_else(canaries: Canaries) -> None:
    before, token, after = canaries.log.partition(f"Token: {canaries.root_token}\n")
    assert token
    assert before.endswith("\n")
    assert canaries.seen_in(before + after) == []
    assert "argon2" not in canaries.log
    events = [json.loads(line) for line in canaries.log.splitlines() if line.startswith("{")]
    assert {"Login refused", "A handler failed", "Request"} <= {event["event"] for event in events}
    bugs = [event["exception"] for event in events if "exception" in event]
    assert ["a bug in a handler" in bugs[0], "a bug in the gate" in bugs[1], len(bugs)] == [True, True, 2]


def test_answers_tell_nothing(canaries: Canaries) -> None:
    for asked, answer in canaries.answers:
        text = f"{answer.headers}\n{answer.body.decode(errors='replace')}"
        assert canaries.seen_in(text) == [], (asked, text)
        assert "argon2" not in text, asked
        assert "Traceback" not in text, asked


def test_every_refusal_of_a_token_is_the_same(canaries: Canaries) -> None:
    refused = [answer for _, answer in canaries.answers if answer.status == 401]
    bodies = [answer.json() for answer in refused]
    assert len(bodies) > 20
    for body in bodies:
        del body["request_id"]
    assert all(body == bodies[0] for body in bodies)
    assert {answer.headers["WWW-Authenticate"] for answer in refused} == {"Bearer"}


def test_the_command_line_tells_nothing(canaries: Canaries) -> None:
    commands = (
        ("status",),
        ("status", "--json"),
        ("status", "--json", "node1"),
        ("config", "show", "node1.yaml"),
        ("config", "check", "node1.yaml"),
        ("user", "list", "--json", "--local", "node1.yaml"),
        ("token", "list", "--json", "--local", "node1.yaml"),
        ("backup", "list", "--json", "node1.yaml"),
    )
    for words in commands:
        done = canaries.kvs.run(*words)
        assert done.code == 0, done
        assert canaries.seen_in(done.all) == [], words
        assert "argon2" not in done.all, words


def test_other_users_of_the_host_see_nothing(canaries: Canaries) -> None:
    process = Path(f"/proc/{canaries.kvs.status('node1')['pid']}")
    for name in ("cmdline", "comm", "environ"):
        assert canaries.seen_in((process / name).read_text()) == [], name


def test_a_backup_holds_hashes_and_nothing_else(canaries: Canaries) -> None:
    (path,) = (canaries.kvs.folder / "backups").glob("*.zst")
    with zstandard.ZstdDecompressor().stream_reader(path.read_bytes()) as reader:
        content = reader.read().decode("latin-1")
    seen = canaries.seen_in(content)
    assert "root token, hash" in seen
    assert [kind for kind in seen if not kind.endswith(", hash")] == []


def test_secrets_stand_in_few_files_and_nobody_else_reads_them(canaries: Canaries) -> None:
    """Passwords and tokens in none but the log, which shows the root's."""
    folder = canaries.kvs.folder
    files = [path for path in folder.rglob("*") if path.is_file() and "bugs" not in path.parts]
    seen = {path.relative_to(folder).as_posix(): canaries.seen_in(path.read_text("latin-1")) for path in files}
    database = {kind for name, kinds in seen.items() if "/0" in name for kind in kinds}
    # Without + and / both kinds of base64 are the same.
    signing_key = [
        kind for kind, secret in canaries.found_as.items() if secret == canaries.found_as["signing key, base64"]
    ]
    assert "root token, hash" in database
    assert [kind for kind in database if not kind.endswith(", hash")] == []
    assert {name: kinds for name, kinds in seen.items() if kinds and "/0" not in name} == {
        "node1.yaml": ["cluster secret"],
        "data/signing.key": signing_key,
        canaries.kvs.log_file().relative_to(folder).as_posix(): ["root token", "root token, payload"],
    }
    assert not any("ann the canary" in path.read_text("latin-1") for path in files)
    assert {path: f"{mode(path):o}" for path in files if mode(path) != 0o600} == {}
    folders = [path for path in folder.rglob("*") if path.is_dir() and "bugs" not in path.parts]
    assert {path: f"{mode(path):o}" for path in folders if mode(path) != 0o700} == {}
