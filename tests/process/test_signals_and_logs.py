"""Signals to a running node, and its log."""

import os
import pty
import signal
from pathlib import Path

import pytest

from tests.process.cli import Cli, mode, next_event
from tests.process.fakes import install

CANARY = "canary-5d1e-secret-value"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_foreground_run_ends_cleanly(kvs: Cli, number: signal.Signals) -> None:
    kvs.config()
    with kvs.popen("node1.yaml") as process:
        next_event(process, "Started")
        process.send_signal(number)
        assert next_event(process, "Stopping")["signal"] == number.name
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert not kvs.pid_file().exists()


def test_a_signal_while_it_starts(kvs: Cli) -> None:
    kvs.config()
    fake = install(kvs.folder / "fake", start="print('waiting', flush=True); await asyncio.Event().wait()")
    with kvs.popen("node1.yaml", environ=fake) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        assert kvs.status("node1")["mode"] == "starting"
        process.send_signal(signal.SIGTERM)
        next_event(process, "Stopped before it served")
        assert process.wait(30) == 0


def test_hangup_reopens_the_log_and_reloads_the_configuration(kvs: Cli) -> None:
    path = kvs.config()
    assert kvs.run("start", "node1").code == 0
    pid = kvs.status("node1")["pid"]
    with kvs.popen("logs", "-f", "node1") as follower:
        next_event(follower, "Started")
        kvs.log_file().rename(kvs.log_file().with_suffix(".1"))
        path.write_text(path.read_text() + "log_level: debug\nread_only: true\n")
        os.kill(pid, signal.SIGHUP)
        next_event(follower, "Log reopened")
        reloaded = next_event(follower, "Configuration reloaded")
        assert (reloaded["changed"], reloaded["needs_restart"]) == (["log_level"], ["read_only"])
        path.write_text(path.read_text() + "prot: 1\n")
        os.kill(pid, signal.SIGHUP)
        kept = next_event(follower, "Configuration not reloaded, the old one stays in effect")
        assert kept["problems"] == [f"{path}:7: prot is not a setting; did you mean port?"]
        follower.terminate()
        follower.communicate()
    assert mode(kvs.log_file()) == 0o600
    assert "Started" not in kvs.log_file().read_text()
    assert kvs.run("status", "node1").code == 0


def test_logs(kvs: Cli) -> None:
    kvs.config()
    missing = kvs.run("logs", "node1")
    assert (missing.code, missing.err) == (3, f"kvs: no log yet: {kvs.log_file()}\n")
    kvs.log_file().parent.mkdir(parents=True)
    kvs.log_file().write_text("".join(f"line {number}\n" for number in range(200)))
    assert kvs.run("logs", "node1").out.splitlines()[0] == "line 100"
    assert kvs.run("logs", "node1", "-n", "2").out == "line 198\nline 199\n"
    assert kvs.run("logs", "node1", "-n", "0").out == ""
    with kvs.popen("logs", "node1", "-n", "200") as process:
        assert process.stdout is not None
        process.stdout.close()  # as `kvs logs node1 | true` does
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_terminal_gets_the_console_format(kvs: Cli) -> None:
    kvs.config()
    terminal, its_end = pty.openpty()
    with (
        kvs.popen("node1.yaml", stdout=its_end, environ={"NO_COLOR": "1"}) as process,
        os.fdopen(terminal, "rb", 0) as reader,
    ):
        os.close(its_end)
        line = b""
        while b"Started" not in line:
            line = reader.readline()
        assert b" info    Started  node_id=" in line
        process.terminate()
        assert process.wait(30) == 0


def test_secrets_never_show(kvs: Cli) -> None:
    kvs.config(text=f"cluster_secret: {CANARY}\nlog_level: debug\n")
    environ = {"KVS_CLUSTER_SECRET_PREVIOUS": CANARY}
    shown = [
        kvs.run(*words, environ=environ) for words in (["start", "node1"], ["config", "show", "node1.yaml"], ["status"])
    ]
    assert [result.code for result in shown] == [0, 0, 0]
    row = kvs.status("node1")
    command = Path(f"/proc/{row['pid']}/cmdline").read_text()
    kvs.run("stop", "node1")
    for text in (*(result.all for result in shown), str(row), command, kvs.log_file().read_text()):
        assert CANARY not in text
    assert "********" in kvs.log_file().read_text()
