"""`kvs backup` as an operator uses it, beside a daemon and after its end."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.process.cli import Cli, mode
from tests.process.daemon import Client
from tests.process.site import Site

VALUES = {f"sites/{number}/limits": {"max_power_kw": number} for number in range(20)}


class Node:
    """A daemon that asks for tokens, with some values and a history."""

    def __init__(self, kvs: Cli, settings: str = "") -> None:
        self.kvs = kvs
        self.site = Site(kvs, f"cluster_secret: only-the-nodes-know-this-secret\n{settings}")
        self.site.start()
        self.token = self.new_token()
        for key, value in VALUES.items():
            self.put(key, {"max_power_kw": -1})
            self.put(key, value)
        self.ask("DELETE", "/kv/sites/0/limits")

    def new_token(self) -> str:
        return self.site.local("token", "create", "--scopes", "all").out.strip()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        answer = self.site.ask(method, path, self.token, None if body is None else json.dumps(body).encode())
        return answer.json() if answer.body else None

    def put(self, key: str, value: object) -> None:
        self.ask("PUT", f"/kv/{key}", value)

    def contents(self) -> object:
        """All values, and all histories."""
        pairs = self.ask("GET", "/kv/_range?limit=1000")
        return pairs, [self.ask("GET", f"/api/data/{key}/history") for key in VALUES]

    def acts(self) -> list[tuple[str, str, str]]:
        """(Action, user, resource) of the audit log."""
        shown = self.site.local_json("audit", "show", "-n", "9")
        return [(one["action"], one["user_uuid"], one["resource"]) for one in shown]

    def backup(self) -> Path:
        made = self.site.local("backup", "create")
        assert made.code == 0, made
        return Path(made.out.strip())


@pytest.fixture
def node(kvs: Cli) -> Node:
    return Node(kvs)


def test_from_a_backup_to_a_node_that_is_the_same(node: Node) -> None:
    before = node.contents()
    path = node.backup()
    assert path.parent == node.kvs.folder / "backups"
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    (listed,) = node.site.local_json("backup", "list")
    (offline,) = json.loads(node.kvs.run("backup", "list", "site", "--json").out)
    assert listed == offline
    assert listed["name"] == path.name
    verified = node.kvs.run("backup", "verify", path)
    assert (verified.code, verified.err) == (0, f"{path} is whole\n")
    told = json.loads(node.kvs.run("backup", "verify", path, "--json").out)
    assert {name: told[name] for name in ("records", "tombstones", "revisions")} == {
        "records": 20,
        "tombstones": 1,
        "revisions": 21,
    }
    node.site.stop()
    shutil.rmtree(node.kvs.folder / "data")
    restored = node.kvs.run("backup", "restore", path, "site.yaml")
    assert restored.code == 0, restored
    assert "records 20" in restored.err
    assert mode(node.kvs.folder / "data") == 0o700
    node.site.start()
    node.token = node.new_token()  # the key that tokens were signed with was in the folder, and is in no backup
    assert node.contents() == before
    assert node.site.log.count("Token:") == 1, "a restored node makes no root account"


def test_the_audit_log_tells_of_backups_and_restores(kvs: Cli) -> None:
    """The one that made it, the one that merged it, and the new log of the one that was made of it."""
    node = Node(kvs, "tamper_log_actions: [backup, restore]\n")
    path = node.backup()
    merged = node.site.local("backup", "restore", str(path))
    assert merged.code == 0, merged
    name = f"/backup/{path.name}"
    assert node.acts() == [("backup", "local", name), ("restore", "local", name)]
    node.site.stop()
    shutil.rmtree(kvs.folder / "data")
    moved = path.rename(path.with_name("any-name"))
    assert kvs.run("backup", "restore", moved, "site.yaml").code == 0
    node.site.start()
    assert node.acts() == [("restore", "local", name)]
    assert kvs.run("audit", "verify", "site.yaml").code == 0
    node.site.stop()
    verified = kvs.run("audit", "verify", "site.yaml")
    assert (verified.code, verified.out) == (0, "sound: 1 entry, 1 head up to entry 1\n")


def test_the_status_outlives_a_restart(node: Node) -> None:
    path = node.backup()
    node.site.restart()
    status = node.ask("GET", "/api/backup/status")
    assert (status["last_backup_path"], status["last_backup_success"], status["backups_running"]) == (
        str(path),
        True,
        0,
    )
    assert status["next_backup_time"] > status["last_backup_time"]


def test_what_stands_in_the_way_of_a_restore(node: Node) -> None:
    path, data = node.backup(), node.kvs.folder / "data"
    running = node.kvs.run("backup", "restore", path, "site")
    assert (running.code, running.err.count("\n")) == (1, 1)
    assert "runs; stop it first" in running.err
    node.site.stop()
    before = sorted(data.iterdir())
    full = node.kvs.run("backup", "restore", path, "site")
    assert full.code == 1
    assert f"{data} is not empty" in full.err
    assert sorted(data.iterdir()) == before
    assert not data.with_name("data.restoring").exists()
    for words, code in (
        (("backup", "restore", "missing.zst", "site"), 1),
        (("backup", "restore", path, "missing"), 2),
        (("backup", "restore", path, "site", "--forgotten"), 2),
        (("backup", "verify", node.kvs.folder), 1),
        (("backup", "list", "missing"), 2),
    ):
        refused = node.kvs.run(*words)
        assert (refused.code, refused.out) == (code, ""), refused
        assert refused.err


def test_what_is_no_file_of_a_backup_is_named(node: Node) -> None:
    folder = node.kvs.folder
    refused = node.kvs.run("backup", "verify", folder)
    assert (refused.code, refused.err) == (1, f"kvs: {folder}: Is a directory\n")


def test_a_damaged_backup_is_refused_before_anything_changes(node: Node) -> None:
    path = node.backup()
    whole = path.read_bytes()
    damaged = node.kvs.folder / "damaged.zst"
    before = node.contents()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
    for data in (b"", whole[:-1], flipped, b"not a backup" * 20):
        damaged.write_bytes(data)
        for words in (("verify", damaged), ("restore", damaged, "--local", "site.yaml"), ("restore", damaged, "other")):
            (node.kvs.folder / "other.yaml").write_text("data_dir: ./other-data\n")
            refused = node.kvs.run("backup", *words)
            assert refused.code == 1, refused
            assert f"{damaged} is not a whole backup" in refused.err
            assert refused.err.count("\n") == 1
    assert node.contents() == before
    assert not (node.kvs.folder / "other-data").exists()


def test_merging_into_a_node_that_runs(node: Node) -> None:
    path = node.backup()
    node.put("sites/1/limits", "newer")
    node.ask("DELETE", "/kv/sites/2/limits")
    merged = node.site.local("backup", "restore", str(path), "--json")
    assert merged.code == 0, merged
    counts = json.loads(merged.out)
    assert (counts["taken"], counts["refused"], counts["forgotten"]) == (0, 0, 0)
    assert counts["older"] >= 2
    assert node.ask("GET", "/kv/sites/1/limits")["data"] == "newer"
    assert node.ask("GET", "/kv/sites/2/limits")["status"] == 404
    # Into another node, which asks nobody for a token and has nothing.
    config = node.kvs.config("empty.yaml")
    assert node.kvs.run("start", config).code == 0
    merged = node.kvs.run("backup", "restore", path, "--local", config)
    assert merged.code == 0, merged
    assert "refused 0" in merged.err
    empty = Client(node.kvs.status(config)["url"])
    assert empty.get("sites/7/limits").json()["data"] == {"max_power_kw": 7}
    assert empty.get("sites/0/limits").status == 404
    empty.close()


def test_who_may(node: Node) -> None:
    path = node.backup()
    node.site.local("user", "create", "ada")

    def token(*scopes: str) -> str:
        return node.site.local("token", "create", "--user", "ada", "--scopes", ",".join(scopes)).out.strip()

    keeper, reader = token("admin:backup"), token("read", "write", "delete")
    assert node.site.remote(keeper, "backup", "create").code == 0
    assert len(json.loads(node.site.remote(keeper, "backup", "list", "--json").out)) == 2
    assert node.site.remote(node.token, "backup", "restore", str(path)).code == 0
    for words in (("create",), ("list",), ("restore", str(path))):
        for credential in (reader, "nonsense", ""):
            refused = node.site.remote(credential, "backup", *words)
            assert refused.code == 4, (words, refused)
    brings_accounts = node.site.remote(keeper, "backup", "restore", str(path))
    assert (brings_accounts.code, "scope_exceeded" in brings_accounts.err) == (4, True)


def test_progress_is_shown_on_a_terminal_only(node: Node) -> None:
    path = node.backup()
    command = [sys.executable, "-m", "kvs", "backup", "verify", str(path)]
    near, far = pty.openpty()
    environment = node.kvs.environment({"TERM": "xterm"})
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=far, timeout=60, check=True)
    os.close(far)
    shown = os.read(near, 100_000)
    os.close(near)
    assert b"Verifying" in shown
    assert b"Verifying" not in done.stdout
    assert "Verifying" not in node.kvs.run(*command[3:]).all
