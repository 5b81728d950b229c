"""Nodes on HTTPS as their operators meet them: commands, signals, and files that would not do."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

from tests.certificates import DAY_MS, Authority, Files, now_ms
from tests.process.cli import Cli, next_event
from tests.process.test_quickstart import quickstart
from tests.process.test_refusals import refused


@pytest.fixture
def authority(kvs: Cli) -> Authority:
    return Authority(kvs.folder / "certs")


@pytest.fixture
def files(authority: Authority) -> Files:
    """Of the node that `secure` configures."""
    return authority.issue("node1")


def secure(kvs: Cli, name: str = "node1.yaml", text: str = "") -> Path:
    """A configuration of a node with accounts, on HTTPS."""
    tls = "tls_cert_file: ./certs/node1.pem\ntls_key_file: ./certs/node1.key\nlog_format: json\n"
    path = kvs.config(name, tls + text)
    path.write_text(path.read_text().replace("auth_enabled: false\n", ""))
    return path


def shown(url: str) -> bytes:
    """The certificate that a node shows; DER."""
    parts = urlsplit(url)
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((parts.hostname or "", parts.port or 0)))


def der(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text())


# --- commands ---


@pytest.mark.usefixtures("files")
def test_commands_on_the_same_host_know_the_node_without_an_authority(kvs: Cli) -> None:
    secure(kvs)
    assert kvs.run("config", "check", "node1.yaml").code == 0
    started = kvs.run("start", "node1")
    assert started.code == 0, started
    row = kvs.status("node1")
    assert (row["url"][:8], row["mode"]) == ("https://", "normal")
    assert json.loads(kvs.pid_file().read_text())["certificate"] == sha256(shown(row["url"])).hexdigest()
    made = kvs.run("user", "create", "ada", "--local", "node1.yaml")
    assert made.code == 0, made
    assert kvs.run("token", "create", "--local", "node1.yaml").code == 0
    restarted = kvs.run("restart", "node1")
    assert restarted.code == 0, restarted
    assert kvs.run("stop", "node1").code == 0


def test_commands_verify_a_node_elsewhere(kvs: Cli, authority: Authority, files: Files) -> None:
    secure(kvs)
    assert kvs.run("start", "node1").code == 0
    url = kvs.status("node1")["url"]
    token = kvs.run("token", "create", "--scopes", "all", "--local", "node1.yaml").out.strip()
    ask = ("user", "list", "--url", url)
    environ = {"KVS_TOKEN": token}
    assert kvs.run(*ask, "--ca-file", authority.file, environ=environ).code == 0
    assert kvs.run(*ask, environ={**environ, "KVS_CA_FILE": str(authority.file)}).code == 0
    stranger = Authority(kvs.folder / "stranger").file
    for more, environment in (((), {}), (("--ca-file", stranger), {}), ((), {"KVS_CA_FILE": str(stranger)})):
        failed = kvs.run(*ask, *more, environ={**environ, **environment})
        assert failed.code == 6
        assert "CERTIFICATE_VERIFY_FAILED" in failed.err
    for wrong in (kvs.folder / "nowhere.pem", files.key):
        failed = kvs.run(*ask, "--ca-file", wrong, environ=environ)
        assert (failed.code, failed.err.count("\n")) == (1, 1)
        assert str(wrong) in failed.err
    port = urlsplit(url).port
    authority.issue("node1", ("10.0.0.1",))
    os.kill(kvs.status("node1")["pid"], signal.SIGHUP)
    with kvs.popen("logs", "-f", "node1") as follower:
        next_event(follower, "Certificates reloaded")
        follower.terminate()
        follower.communicate()
    failed = kvs.run("user", "list", "--url", f"https://127.0.0.1:{port}", "--ca-file", authority.file, environ=environ)
    assert failed.code == 6
    assert "IP address mismatch" in failed.err


@pytest.mark.usefixtures("files")
def test_a_command_tells_nothing_to_a_node_with_another_certificate(kvs: Cli, authority: Authority) -> None:
    """Though it is one of the same authority, for the same address."""
    secure(kvs)
    assert kvs.run("start", "node1").code == 0
    line = json.loads(kvs.pid_file().read_text())
    impostor = Impostor(authority.issue("impostor"))
    line["url"] = impostor.url
    with kvs.pid_file().open("r+") as file:  # the node holds its lock on this very file
        file.write(json.dumps(line) + "\n")
        file.truncate()
    failed = kvs.run("token", "create", "--local", "node1.yaml")
    assert failed.code == 6
    assert "another certificate" in failed.err
    assert kvs.status("node1")["mode"] == "no answer"
    impostor.close()
    assert impostor.heard == b""


class Impostor:
    """Speaks TLS, and writes down what it is told."""

    def __init__(self, files: Files) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._tls = context
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}"
        self.heard = b""
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            with suppress(OSError), self._tls.wrap_socket(plain, server_side=True) as connection:
                while chunk := connection.recv(65536):
                    self.heard += chunk

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the printed commands need curl")
def test_make_run_works_with_a_certificate(kvs: Cli) -> None:
    authority = Authority(kvs.folder / "run" / "certs")
    authority.issue("node1")
    path = kvs.folder / "run" / "kvs.yaml"
    path.write_text("data_dir: ./data\ntls_cert_file: certs/node1.pem\ntls_key_file: certs/node1.key\n")
    first = quickstart(kvs, "run/kvs.yaml")
    assert (first.returncode, first.stderr) == (0, "")
    commands = [line.strip() for line in first.stdout.splitlines() if line.startswith("  curl ")]
    for command in commands:
        done = subprocess.run(["sh", "-c", command], cwd=kvs.folder, capture_output=True, check=True, timeout=30)
        assert json.loads(done.stdout)["uuid"]


# --- SIGHUP ---


def test_hangup_takes_new_certificates_and_keeps_old_ones_when_they_would_not_do(
    kvs: Cli, authority: Authority, files: Files
) -> None:
    secure(kvs)
    assert kvs.run("start", "node1").code == 0
    row = kvs.status("node1")
    first = shown(row["url"])
    with kvs.popen("logs", "-f", "node1") as follower:
        next_event(follower, "Started")
        authority.issue("node1", days=20)
        os.kill(row["pid"], signal.SIGHUP)
        assert next_event(follower, "A certificate expires soon")["days_left"] == 19
        reloaded = next_event(follower, "Certificates reloaded")
        second = shown(row["url"])
        assert second == der(files.certificate) != first
        assert reloaded["fingerprint"] == sha256(second).hexdigest()
        assert kvs.status("node1")["mode"] == "normal"
        files.key.chmod(0o644)
        os.kill(row["pid"], signal.SIGHUP)
        kept = next_event(follower, "Certificates not reloaded, the old ones stay in use")
        assert (kept["level"], "may be read by others" in kept["reason"]) == ("error", True)
        assert shown(row["url"]) == second
        assert kvs.status("node1")["mode"] == "normal"
        refused_restart = kvs.run("restart", "node1")
        assert refused_restart.code == 2
        assert "may be read by others (mode 0644)" in refused_restart.err
        assert kvs.status("node1")["pid"] == row["pid"], "the running node was not stopped"
        follower.terminate()
        follower.communicate()


# --- what keeps a node from starting ---


def mismatch(authority: Authority, files: Files) -> None:
    files.key.write_bytes(authority.issue("other").key.read_bytes())


BROKEN: dict[str, tuple[Callable[[Authority, Files], object], str]] = {
    "missing": (lambda _, files: files.key.unlink(), "cannot read the key {key}: No such file or directory"),
    "readable": (
        lambda _, files: files.key.chmod(0o640),
        "the key {key} may be read by others (mode 0640); chmod it to 0600",
    ),
    "mismatch": (mismatch, "the certificate {certificate} and the key {key} do not belong together"),
    "expired": (
        lambda authority, _: authority.issue("node1", at_ms=now_ms() - 20 * DAY_MS, days=10),
        "the certificate {certificate} expired at ",
    ),
    "garbage": (lambda _, files: files.certificate.write_text("x"), "the certificate {certificate} is not one in PEM"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_certificates_that_would_not_do(kvs: Cli, authority: Authority, files: Files, how: str) -> None:
    spoil, expected = BROKEN[how]
    spoil(authority, files)
    path = secure(kvs)
    code, line = refused(kvs, path)
    assert code == 2
    expected = expected.format(key=files.key, certificate=files.certificate)
    assert re.match(rf"{re.escape(str(path))}:\d+: tls_(cert|key)_file: {re.escape(expected)}", line), line
    assert not (kvs.folder / "data-node1").exists(), "nothing was opened or made"
    checked = kvs.run("config", "check", path)
    assert (checked.code, checked.err) == (2, f"kvs: {line}\n")


def test_bad_certificates_are_told_with_all_else_that_is_wrong(kvs: Cli, files: Files) -> None:
    files.certificate.write_text("x")
    files.key.unlink()
    path = secure(kvs, text="max_revisions: many\n")
    checked = kvs.run("config", "check", "node1.yaml")
    assert checked.code == 2
    names = [line.split(": ")[2] for line in checked.err.splitlines()]
    lines = [
        path.read_text().splitlines().index(f"{name}: {value}") + 1
        for name, value in (
            ("tls_cert_file", "./certs/node1.pem"),
            ("tls_key_file", "./certs/node1.key"),
            ("max_revisions", "many"),
        )
    ]
    assert names == ["tls_cert_file", "tls_key_file", "max_revisions"]
    assert [line.split(": ")[1] for line in checked.err.splitlines()] == [f"node1.yaml:{number}" for number in lines]
    assert kvs.run("start", "node1").code == kvs.run("restart", "node1").code == 2


def test_who_does_not_verify_peers_is_warned_at_every_start(kvs: Cli, files: Files) -> None:
    del files
    secure(kvs, text="cluster_tls_enabled: true\ncluster_tls_skip_verify: true\n")
    started = kvs.run("start", "node1")
    assert started.code == 0
    assert "warning: cluster_tls_skip_verify: peers are not verified" in started.err
    assert "cluster_tls_skip_verify: peers are not verified" in kvs.log_file().read_text()


@pytest.mark.usefixtures("files")
def test_unfinished_handshakes_do_not_hold_up_the_end(kvs: Cli) -> None:
    secure(kvs)
    assert kvs.run("start", "node1").code == 0
    parts = urlsplit(kvs.status("node1")["url"])
    silent = [socket.create_connection((parts.hostname, parts.port)) for _ in range(20)]
    stopped = kvs.run("stop", "node1", "--timeout", "5")
    for connection in silent:
        connection.close()
    assert stopped.code == 0, stopped
    assert "Traceback" not in kvs.log_file().read_text()
