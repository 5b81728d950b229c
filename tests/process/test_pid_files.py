"""PID files that are not what they seem."""

import json
import os
import signal
import subprocess

import pytest

from tests.process.cli import Cli, next_event


def test_a_killed_daemon_is_stale(kvs: Cli) -> None:
    kvs.config()
    with kvs.popen("node1.yaml") as process:
        next_event(process, "Started")
        process.kill()
    row = kvs.status("node1")
    assert (row["state"], row["pid"], row["mode"]) == ("STALE", process.pid, None)
    assert row["url"] is row["address"] is None
    assert kvs.run("status", "node1").code == 3
    remark = f"removed a stale PID file (process {process.pid} is gone)"
    stale = kvs.pid_file().read_text()
    stopped = kvs.run("stop", "node1")
    assert (stopped.code, stopped.err) == (1, f"node1: not running; {remark}\n")
    assert kvs.status("node1")["state"] == "STOPPED"
    kvs.pid_file().write_text(stale)
    started = kvs.run("start", "node1")
    assert (started.code, started.err) == (0, f"node1: {remark}\n")


def test_a_zombie_is_stale(kvs: Cli) -> None:
    """A container whose first process takes no interest in its children leaves zombies behind."""
    kvs.config()
    process = kvs.popen("node1.yaml")
    next_event(process, "Started")
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert kvs.status("node1")["state"] == "STALE"
    process.communicate()


def test_a_used_again_pid_is_not_signalled(kvs: Cli) -> None:
    path = kvs.config()
    with subprocess.Popen(["sleep", "600"]) as victim:
        kvs.pid_file().parent.mkdir(parents=True, mode=0o700)
        kvs.home.chmod(0o700)
        info = {"pid": victim.pid, "config": str(path), "started": 1.5, "url": ""}
        kvs.pid_file().write_text(json.dumps(info) + "\n")
        stopped = kvs.run("stop", "node1", "--force", "--timeout", "0")
        assert (stopped.code, victim.poll()) == (1, None)
        assert "not running" in stopped.err
        victim.kill()


@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_a_symlinked_pid_file(kvs: Cli, target: str) -> None:
    path = kvs.config()
    (kvs.folder / "victim").write_text("precious")
    kvs.pid_file().parent.mkdir(parents=True, mode=0o700)
    kvs.pid_file().symlink_to(kvs.folder / target)
    line = f"cannot use {kvs.pid_file()}: it is a symbolic link\n"
    for words in (["start", path], ["stop", path], [path], ["status", path], ["status"]):
        result = kvs.run(*words)
        assert result.code == 1, words
        assert result.err.endswith(line), words
    assert (kvs.folder / "victim").read_text() == "precious"
    assert not (kvs.folder / "nowhere").exists()
    assert kvs.pid_file().is_symlink()


def test_a_symlinked_log(kvs: Cli) -> None:
    kvs.config()
    (kvs.folder / "victim").write_text("precious")
    kvs.log_file().parent.mkdir(parents=True, mode=0o700)
    kvs.log_file().symlink_to(kvs.folder / "victim")
    for words in (["start", "node1"], ["logs", "node1"], ["logs", "-f", "node1"]):
        result = kvs.run(*words)
        assert (result.code, result.err.endswith("it is a symbolic link\n")) == (1, True)
    assert (kvs.folder / "victim").read_text() == "precious"
