"""The root account of a fresh daemon: shown once, and found as the README says."""

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.process.cli import Cli, mode
from tests.process.site import Site

BLOCK = re.compile(
    r"^User UUID: (?P<user>[0-9a-f-]{36})\nGroup UUID: (?P<group>[0-9a-f-]{36})\n"
    r"Token: (?P<token>[\w-]+\.[\w-]+\.[\w-]+)\nExpires: (?P<expires>\S+)$",
    re.MULTILINE,
)


def test_a_fresh_daemon_shows_its_root_account_once(kvs: Cli) -> None:
    site = Site(kvs)
    site.start()
    (block,) = BLOCK.finditer(site.log)
    log_file = kvs.log_file("site")
    assert mode(log_file) == 0o600
    found = subprocess.run(
        f"grep 'Token:' {log_file} | cut -d' ' -f2", shell=True, capture_output=True, text=True, check=True
    )
    token = found.stdout.strip()
    assert token == block["token"]
    left = datetime.fromisoformat(block["expires"]) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=58) < left <= timedelta(hours=24)

    refused = site.ask("GET", "/kv/absent")
    assert (refused.status, refused.json()["title"]) == (401, "Unauthorized")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert site.ask("PUT", "/kv/a", token, b'"kept"').status == 201
    assert site.ask("GET", f"/api/users/{block['user']}", token).json()["groups"] == [block["group"]]
    assert site.ask("GET", f"/auth/groups/{block['group']}", token).json()["members"] == [block["user"]]

    before = site.log
    site.restart()
    assert site.log.startswith(before)
    assert len(BLOCK.findall(site.log)) == 1
    assert site.log.count("root account") == 1
    assert site.ask("GET", "/kv/a", token).json()["data"] == "kept"
    assert len(site.ask("GET", "/api/users", token).json()["users"]) == 1
    shown = kvs.run("status", "--json").out + kvs.run("config", "show", "site.yaml").out
    assert token not in shown
    pid = kvs.status("site")["pid"]
    assert token.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert token.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_node_in_the_foreground_shows_it_on_its_output(kvs: Cli) -> None:
    Site(kvs)
    for expected in (1, 0):
        process = kvs.popen("site.yaml")
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if '"Started"' in line:
                process.terminate()
        assert process.wait(20) == 0
        assert len(BLOCK.findall("".join(lines))) == expected
        process.communicate()


@pytest.mark.parametrize("text", ["auth_enabled: false\n", 'seed_nodes: ["127.0.0.1:1"]\n'])
def test_a_node_without_authentication_or_with_seeds_makes_none(kvs: Cli, text: str) -> None:
    site = Site(kvs, text)
    site.start()
    assert "Token:" not in site.log
    assert site.ask("GET", "/kv/absent").status == (404 if "auth" in text else 401)


def test_a_start_that_fails_does_not_use_up_the_token(kvs: Cli) -> None:
    site = Site(kvs)
    site.start()
    port = site.url.rpartition(":")[2]
    other = kvs.folder / "other.yaml"
    other.write_text(f"port: {port}\nclustering_enabled: false\ndata_dir: ./data-other\n")
    other.chmod(0o600)
    failed = kvs.run("other.yaml")
    assert failed.code == 1
    assert "the port is taken" in failed.err
    assert "Token:" not in failed.all
    site.stop()
    assert kvs.run("start", "other").code == 0
    assert len(BLOCK.findall(kvs.log_file("other").read_text())) == 1
