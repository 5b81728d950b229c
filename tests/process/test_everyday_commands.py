"""The commands for everyday use against a real daemon: what goes in comes out, and how they end."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kvs.auth.scopes import ALL
from tests.process.cli import Cli, Result, mode
from tests.process.eventually import eventually
from tests.process.site import Site

PATIENCE_S = 60.0
BLOB = bytes(range(256)) * 40
_numbers = count(1)


class Place:
    """A daemon, and commands that ask it through a context."""

    def __init__(self, kvs: Cli, site: Site, token: str) -> None:
        self.kvs = kvs
        self.site = site
        self.token = token

    def run(self, *words: str, given: str = "") -> Result:
        return self.kvs.run(*words, given=given)

    def json(self, *words: str) -> Any:
        result = self.run(*words, "--json")
        assert result.code == 0, result
        return json.loads(result.out)

    def lines(self, *words: str) -> list[str]:
        result = self.run(*words)
        assert result.code == 0, result
        return result.out.splitlines()

    def set(self, **values: str) -> None:
        for key, value in values.items():
            assert self.run("set", key.replace("_", "/"), value).code == 0


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    kvs = Cli(tmp_path_factory.mktemp("everyday"))
    site = Site(kvs)
    site.start()
    token = site.local("token", "create", "--scopes", ",".join(ALL)).out.strip()
    added = kvs.run("context", "add", "here", "--url", site.url, "--token-file", "-", given=token)
    assert added.code == 0, added
    yield Place(kvs, site, token)
    kvs.kill_all()


@pytest.fixture
def key() -> str:
    return f"test{next(_numbers)}"


# --- get and set ---


@pytest.mark.parametrize(
    "value",
    [
        BLOB,
        b"",
        b"\n",
        b"no end",
        b' {"a": [1, 2]}\r\n\n',
        b"42",
        b"\xef\xbb\xbf1",
        b'{"data": 1, "ttl": "1h"}',
        b"{}{}",
    ],
)
def test_what_goes_in_comes_out(at: Place, key: str, value: bytes) -> None:
    assert at.kvs.pipe("set", key, given=value)[0] == 0
    assert at.kvs.pipe("get", key) == (0, value, "")


def test_json_is_stored_as_json_and_anything_else_as_a_blob(at: Place, key: str) -> None:
    at.run("set", key, '{"a": 1}')
    answer = at.site.ask("GET", f"/kv/{key}", at.token)
    assert answer.json()["data"] == {"a": 1}
    at.run("set", key, "{a: 1}")
    answer = at.site.ask("GET", f"/kv/{key}", at.token)
    assert (answer.headers["Content-Type"], answer.body) == ("text/plain; charset=utf-8", b"{a: 1}")
    at.run("set", key, "1", "--content-type", "text/x-number")
    answer = at.site.ask("GET", f"/kv/{key}", at.token)
    assert (answer.headers["Content-Type"], answer.body) == ("text/x-number", b"1")


@pytest.mark.parametrize("number", ["-5", "-0.5", "-1.25e-3", "-12E5", "-0"])
def test_a_negative_number_is_a_value(at: Place, key: str, number: str) -> None:
    assert at.run("set", key, number, "--ttl", "1h").code == 0
    assert at.run("set", "--ttl", "1h", key, number).code == 0
    assert at.run("set", key, "--", number).code == 0
    assert at.json("get", key)["data"] == json.loads(number)
    assert at.kvs.pipe("get", key) == (0, number.encode(), "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tll", "5s"], "No such option '--tll'"),
        (["--tll", "-5"], "No such option '--tll'"),
        (["-5", "--tll"], "unexpected extra argument (--tll)"),
        (["-5", "-z"], "unexpected extra argument (-z)"),
        (["-5x"], "No such option '-5'"),
        (["-05"], "No such option '-0'"),
        (["-x"], "No such option '-x'"),
        (["1", "-5"], "unexpected extra argument (-5)"),
        (["1", "--wait", "-5"], "Invalid value for '-w' / '--wait'"),
    ],
)
def test_a_mistyped_option_is_no_value(at: Place, key: str, words: list[str], told: str) -> None:
    refused = at.run("set", key, *words)
    assert (refused.code, refused.out) == (2, "")
    assert told in refused.err
    assert at.run("get", key).code == 3


def test_a_mistyped_option_is_no_key(at: Place) -> None:
    for words in (["-5", "--tll"], ["-5"], ["--tll", "-5"]):
        assert at.run("set", *words).code == 2


def test_a_file_goes_in_with_its_type_and_out_into_one(at: Place, key: str) -> None:
    (at.kvs.folder / "photo.jpg").write_bytes(BLOB)
    assert at.run("set", key, "@photo.jpg").code == 0
    assert at.json("get", key)["content_type"] == "image/jpeg"
    assert at.run("get", key, "-o", "copy.jpg") == Result(0, "", "")
    assert (at.kvs.folder / "copy.jpg").read_bytes() == BLOB
    missing = at.run("set", key, "@nowhere")
    assert (missing.code, missing.err) == (1, "kvs: cannot read nowhere: No such file or directory\n")
    endless = at.run("set", key, "@/dev/zero")
    assert (endless.code, endless.err) == (1, "kvs: no node takes a value of more than 67108864 bytes\n")
    nameless = at.run("set", key, "@")
    assert nameless.code == 2
    assert "the name of a file is missing behind @" in nameless.err


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"a": 1} // why', "text/plain; charset=utf-8"),
        (b"", "text/plain; charset=utf-8"),
        (b'\xef\xbb\xbf{"a": 1}', "text/plain; charset=utf-8"),
        (b'{"a": "\xff"}', "application/octet-stream"),
        (b'"\0"', "application/octet-stream"),
        (b'{"a": 1}\n', "application/json"),
    ],
)
def test_a_file_that_is_named_as_json_is_stored_as_what_it_is(at: Place, key: str, raw: bytes, kind: str) -> None:
    folder = at.kvs.folder / key
    folder.mkdir()
    (folder / "file.json").write_bytes(raw)
    assert at.run("set", f"{key}/set", f"@{folder / 'file.json'}").code == 0
    assert at.kvs.pipe("set", f"{key}/stdin", given=raw)[0] == 0
    assert at.run("import", str(folder), "--prefix", f"{key}/").code == 0
    for name in ("set", "stdin", "file.json"):
        assert at.kvs.pipe("get", f"{key}/{name}") == (0, raw, "")
        assert at.json("get", f"{key}/{name}").get("content_type", "application/json") == kind


def test_a_value_in_json_is_what_the_api_shows(at: Place, key: str) -> None:
    made = at.json("set", key, '{"b":  2}', "--ttl", "1h")
    assert made["created"] is True
    shown = at.json("get", key)
    assert {name: shown[name] for name in ("path", "uuid", "timestamp", "data")} == {
        "path": key,
        "uuid": made["uuid"],
        "timestamp": made["timestamp"],
        "data": {"b": 2},
    }
    assert shown["expires_at"] > shown["timestamp"]
    assert at.json("set", key, "3")["created"] is False


def test_conditions(at: Place, key: str) -> None:
    first = at.json("set", key, "1", "--new")["uuid"]
    again = at.run("set", key, "2", "--new")
    assert (again.code, again.out) == (5, "")
    second = at.json("set", key, "2", "--if-match", first)["uuid"]
    assert at.run("set", key, "3", "--if-match", first).code == 5
    assert at.run("rm", key, "--if-match", first).code == 5
    assert at.run("rm", key, "--if-match", second).code == 0


def test_waiting_for_copies(at: Place, key: str) -> None:
    assert at.run("set", key, "1", "--wait", "1").code == 0
    refused = at.run("set", key, "1", "--wait", "2")
    assert refused.code == 1
    assert "400" in refused.err


# --- rm ---


def test_deleting(at: Place, key: str) -> None:
    at.set(**{key: "1"})
    assert at.run("rm", key) == Result(0, "", f"deleted {key}\n")
    assert at.run("rm", key) == Result(3, "", f"kvs: there is no value under {key}\n")
    assert at.run("rm", "-f", key).code == 0
    assert at.run("get", key).code == 3


def test_deleting_a_level_asks_and_leaves_its_neighbours(at: Place, key: str) -> None:
    at.set(**{key: "1", f"{key}_a": "1", f"{key}_b_c": "1", f"{key}x": "1"})
    asked = at.run("rm", "-r", key, given="n\n")
    assert asked.code == 1
    assert "Delete 3 keys?" in asked.err
    nobody = at.run("rm", "-r", key)
    assert (nobody.code, nobody.out) == (2, "")
    assert "nobody answers whether to delete 3 keys: --yes deletes them without asking" in nobody.err
    assert len(at.lines("ls", "-R", key)) == 3
    assert at.json("rm", "-r", key, "--yes") == {"deleted": [key, f"{key}/a", f"{key}/b/c"]}
    assert at.run("rm", "-r", key, "--yes").code == 3
    assert at.run("get", f"{key}x").code == 0


# --- ls and tree ---


def test_one_level_is_listed(at: Place, key: str) -> None:
    at.set(**{f"{key}_a": "1", f"{key}_b_c": "1", f"{key}_b_d": "1", f"{key}x": "1"})
    assert at.lines("ls", key) == [f"{key}/a", f"{key}/b/"]
    assert at.lines("ls", f"{key}/") == at.lines("ls", key)
    assert at.lines("ls", "-R", key) == [f"{key}/a", f"{key}/b/c", f"{key}/b/d"]
    assert f"{key}/" in at.lines("ls")
    assert at.lines("ls", f"{key}/a") == [f"{key}/a"]
    assert [entry["type"] for entry in at.json("ls", key)] == ["key", "prefix"]
    assert at.kvs.pipe("ls", "-0", key)[1] == f"{key}/a\0{key}/b/\0".encode()
    assert at.run("ls", f"{key}/nothing").code == 3


def test_a_tree_is_drawn(at: Place, key: str) -> None:
    at.set(**{f"{key}_a": "1", f"{key}_b_c": "1", f"{key}_b_d": "1"})
    drawn = at.run("tree", key)
    assert drawn.out == f"{key}/\n├── a\n└── b\n    ├── c\n    └── d\n"
    assert drawn.err == "3 keys\n"
    assert at.json("tree", key) == {"a": {}, "b": {"c": {}, "d": {}}}
    assert at.lines("tree", key, "--depth", "1") == [f"{key}/", "├── a", "└── b", "    └── …"]


# --- history, undo, meta ---


def test_history_and_undo(at: Place, key: str) -> None:
    assert at.run("history", key).code == 3
    at.set(**{key: "1"})
    at.set(**{key: "2"})
    assert [one["data"] for one in at.json("history", key)] == [2, 1]
    assert at.run("get", key, "--revision", "2").out == "1"
    assert at.run("undo", key).code == 0
    assert at.run("get", key).out == "1"
    at.run("rm", key)
    assert at.lines("history", key)[1].endswith("deleted")
    assert at.json("undo", key)["deleted"] is False
    assert at.run("get", key).out == "1"
    assert at.run("undo", f"{key}/none").code == 3


def test_metadata(at: Place, key: str) -> None:
    at.set(**{key: "1"})
    assert at.json("meta", key)["permissions"] == 0xF31
    uuid = at.site.manage("POST", "/api/users", {"nickname": key})["uuid"]
    changed = at.json("meta", key, "--owner", key, "--permissions", "owner=rwdc,group=rw")
    assert (changed["owner_uuid"], changed["permissions"]) == (uuid, 0xF30)
    assert "0xF30 owner=rwdc,group=rw,others=\n" in at.run("meta", key).out
    assert at.json("meta", key, "--owner", "none", "--permissions", "0xF00")["owner_uuid"] != uuid
    for wrong in ("0x1000", "me=r"):
        assert at.run("meta", key, "--permissions", wrong).code == 2


# --- who and where ---


def test_whoami_and_ping(at: Place) -> None:
    who = at.json("whoami")
    assert (who["accepted"], set(who["scopes"])) == (True, set(ALL))
    assert who["user_uuid"] in at.run("whoami").out
    (node,) = at.json("ping")
    assert (node["url"], node["mode"]) == (at.site.url, "normal")
    assert at.run("ping").out.startswith(at.site.url)
    missing = at.run("ping", "--url", f"{at.site.url},http://127.0.0.1:1")
    assert missing.code == 6
    assert missing.out.startswith(at.site.url)


def test_exit_codes(at: Place, key: str) -> None:
    nowhere = at.run("get", key, "--url", "http://127.0.0.1:1")
    assert nowhere.code == 6
    assert nowhere.err.startswith("kvs: no node answers at http://127.0.0.1:1")
    assert " ssl:" not in nowhere.err
    assert at.kvs.run("get", key, environ={"KVS_TOKEN": "worthless"}).code == 4
    for token in ("worthless", "a.b.c", "a.e30x.c", "a.eyJleHAiOiAxZTMwfQ.c"):
        whoami = at.kvs.run("whoami", environ={"KVS_TOKEN": token})
        assert (whoami.code, whoami.err) == (4, "kvs: this is no token of KVS\n")
    reader = at.site.local("token", "create", "--scopes", "read").out.strip()
    assert at.kvs.run("set", key, "1", environ={"KVS_TOKEN": reader}).code == 4
    assert at.run("get", "/").code == 1
    assert at.run("get").code == 2
    for url in ("zzz", "localhost:8080", "http://", "http://localhost:99999", "http://[::1"):
        wrong = at.run("get", key, "--url", url)
        assert (wrong.code, wrong.out) == (2, ""), url
        assert f"not a URL of a node: {url!r}" in wrong.err
    assert at.run("get", key).code == 3


# --- contexts ---


def test_contexts(at: Place, tmp_path: Path) -> None:
    kvs = Cli(tmp_path)
    assert kvs.run("context", "use", "a").code == 3
    assert kvs.run("context", "add", "a", "--url", "not a url").code == 2
    made = kvs.run("context", "add", "a", "--url", "http://127.0.0.1:1/", "--token", "t", "--json")
    assert json.loads(made.out) == {"added": "a", "current": True}
    assert kvs.run("context", "add", "a", "--url", "http://127.0.0.1:1", "--token", "no token").code == 1
    added = kvs.run("context", "add", "b", "--url", at.site.url, "--token-file", "-", given=f"{at.token}\n")
    assert added == Result(0, "", "added b\n")
    assert mode(kvs.home / "client.yaml") == 0o600
    listed = kvs.run("context", "list")
    assert at.token not in listed.all
    assert json.loads(kvs.run("context", "list", "--json").out) == [
        {"url": "http://127.0.0.1:1", "token": True, "ca_file": "", "name": "a", "current": True},
        {"url": at.site.url, "token": True, "ca_file": "", "name": "b", "current": False},
    ]
    assert kvs.run("whoami", "--context", "b").code == 0
    assert kvs.run("ping").code == 6
    assert kvs.run("context", "use", "b").code == 0
    assert kvs.run("ls").code == 0
    assert kvs.run("ping", environ={"KVS_CONTEXT": "a"}).code == 6
    assert kvs.run("ping", "--context", "c").code == 3
    assert json.loads(kvs.run("context", "remove", "b", "--json").out) == {"removed": "b"}
    assert at.token not in (kvs.home / "client.yaml").read_text()


def test_a_token_of_a_context_goes_to_its_own_nodes_only(at: Place) -> None:
    other = at.kvs.run("whoami", "--url", at.site.url.replace("127.0.0.1", "localhost"))
    assert other.err == "nobody: there is no token\n"


def test_a_node_may_stand_in_the_file_without_a_name(at: Place, key: str, tmp_path: Path) -> None:
    kvs = Cli(tmp_path)
    kvs.home.mkdir(mode=0o700)
    file = kvs.home / "client.yaml"
    file.write_text(f"url: {at.site.url}\ntoken: {at.token}\n")
    file.chmod(0o600)
    assert kvs.run("set", key, "1").code == 0
    other = kvs.run("whoami", "--url", at.site.url.replace("127.0.0.1", "localhost"))
    assert other.err == "nobody: there is no token\n"
    assert kvs.run("context", "add", "b", "--url", "http://127.0.0.1:1").code == 0
    assert kvs.run("get", key).code == 6
    assert kvs.run("context", "remove", "b").code == 0
    assert kvs.run("get", key).out.strip() == "1"


def test_a_spoilt_file_of_contexts_is_told(tmp_path: Path) -> None:
    kvs = Cli(tmp_path)
    kvs.home.mkdir(mode=0o700)
    file = kvs.home / "client.yaml"
    for text, told in (
        ("{", "it is no YAML"),
        ("[]", "it is no mapping"),
        ("contexts: {a: {}}", "the context 'a' has no url"),
        ("contexts: {a: {url: x, tokn: y}}", "the context 'a' has the unknown member 'tokn'"),
    ):
        file.write_text(text)
        file.chmod(0o600)
        assert kvs.run("ping") == Result(1, "", f"kvs: {file}: {told}\n")
    file.write_text("current: a\ncontexts: {a: {url: 'http://127.0.0.1:1'}}\n")
    file.chmod(0o644)
    assert "others can read" in kvs.run("ping").err


# --- completion, terminals ---


def completions(at: Place, typed: str) -> list[str]:
    words = {"_KVS_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    return at.kvs.run(environ=words).out.split()


def test_keys_are_completed(at: Place, key: str) -> None:
    at.set(**{f"{key}_a": "1", f"{key}_b_c": "1"})
    # A busy machine can be too slow for the little time that a completion has.
    assert eventually(lambda: completions(at, f"kvs get {key}") == [f"plain,{key}/"], PATIENCE_S)
    assert eventually(lambda: completions(at, f"kvs rm -r {key}/") == [f"plain,{key}/a", f"plain,{key}/b/"], PATIENCE_S)
    assert completions(at, f"kvs ls --url http://127.0.0.1:1 {key}/") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(at: Place, shell: str) -> None:
    script = at.run("completion", shell)
    assert script.code == 0
    if shell == "bash":
        checked = subprocess.run(["bash", "-n"], input=script.out, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
        assert "compopt -o nospace" in script.out


def on_a_terminal(kvs: Cli, *words: str, **environ: str) -> str:
    """What a command writes whose standard output is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kvs", *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=kvs.folder,
        env=kvs.environment({"TERM": "xterm", **environ}),
    )
    os.close(theirs)
    shown = b""
    try:
        while select.select([ours], [], [], 30)[0]:
            shown += os.read(ours, 65536)
    except OSError:
        pass  # its other end is closed
    process.wait()
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def test_colours_and_ends_of_lines_are_for_terminals(at: Place, key: str) -> None:
    at.set(**{f"{key}_a": "1", f"{key}_b_c": "1"})
    assert on_a_terminal(at.kvs, "ls", key) == f"{key}/a\n\x1b[34m{key}/b/\x1b[0m\n"
    assert on_a_terminal(at.kvs, "ls", key, NO_COLOR="1") == f"{key}/a\n{key}/b/\n"
    assert on_a_terminal(at.kvs, "get", f"{key}/a") == "1\n"
    at.kvs.pipe("set", f"{key}/blob", given=b"\x1b]0;gotcha\x07")
    shown = on_a_terminal(at.kvs, "get", f"{key}/blob")
    assert "\x1b" not in shown
    assert "not for a terminal" in shown
