"""Daemons that die, hang or are not who they say."""

import json
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from tests.process.cli import Cli, next_event
from tests.process.fakes import install


def test_a_daemon_that_dies_while_it_starts(kvs: Cli) -> None:
    kvs.config()
    start = "os.write(2, b'last words\\n'); os.kill(os.getpid(), 9)"
    died = kvs.run("start", "node1", environ=install(kvs.folder / "fake", start=start))
    assert died.code == 1
    expected = f"node1: was killed by signal 9 before it served; its log {kvs.log_file()} ends with:\n  last words\n"
    assert died.err == expected
    assert not kvs.pid_file().exists()


def test_a_daemon_that_crashes_shows_its_log(kvs: Cli) -> None:
    kvs.config()
    environ = kvs.environment(install(kvs.folder / "fake", start="raise RuntimeError('a bug')"))
    command = [sys.executable, "-m", "kvs", "start", "node1"]
    died = subprocess.run(command, cwd=kvs.folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert died.returncode == 1
    assert "ended with exit code 1 before it served" in died.stderr
    assert "RuntimeError: a bug" in died.stderr
    crash = json.loads(kvs.log_file().read_text().splitlines()[-1])
    assert (crash["event"], crash["level"]) == ("Crashed", "error")
    assert not kvs.pid_file().exists()


def test_a_daemon_that_does_not_get_ready(kvs: Cli) -> None:
    kvs.config()
    late = kvs.run(
        "start", "node1", "--timeout", "1.5", environ=install(kvs.folder / "fake", start="await asyncio.Event().wait()")
    )
    assert late.code == 1
    assert late.err.startswith("node1: not ready after 1.5 s, so it was ended")
    assert kvs.run("status", "node1").code == 3
    assert not kvs.pid_file().exists()


class _Foreign(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"node_id": "somebody else"}')

    def log_message(self, *_: object) -> None:
        pass


def test_a_port_on_which_something_else_answers(kvs: Cli) -> None:
    kvs.config()
    with HTTPServer(("127.0.0.1", 0), _Foreign) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        fake = install(kvs.folder / "fake", start=f"self.url = {url!r}")
        foreign = kvs.run("start", "node1", environ=fake)
        server.shutdown()
    assert foreign.code == 1
    assert foreign.err == f"node1: it says that it serves {url}, but /health there does not answer as this node\n"
    assert not kvs.pid_file().exists()


def test_a_daemon_that_does_not_stop(kvs: Cli) -> None:
    kvs.config()
    fake = install(kvs.folder / "fake", start="self.url = 'http://127.0.0.1:1'", stop="await asyncio.Event().wait()")
    with kvs.popen("node1.yaml", environ=fake) as process:
        next_event(process, "Started")
        assert kvs.status("node1")["mode"] == "no answer"
        late = kvs.run("stop", "node1", "--timeout", "0.2")
        assert late.code == 1
        assert "still running 0.2 s after SIGTERM" in late.err
        assert process.poll() is None
        process.send_signal(signal.SIGINT)  # the second signal: at once
        assert process.wait(30) == -signal.SIGINT
    assert kvs.run("status", "node1").code == 3


def test_killing_a_daemon_that_does_not_stop(kvs: Cli) -> None:
    kvs.config()
    fake = install(kvs.folder / "fake", stop="await asyncio.Event().wait()")
    with kvs.popen("node1.yaml", environ=fake) as process:
        next_event(process, "Started")
        killed = kvs.run("stop", "node1", "--timeout", "0.2", "--force")
        assert killed.code == 0
        assert killed.out == f"node1: killed (pid {process.pid}): it did not end within 0.2 s\n"
        assert process.wait(30) == -signal.SIGKILL
    assert not kvs.pid_file().exists()


def test_a_daemon_that_ends_uncleanly_when_asked(kvs: Cli) -> None:
    kvs.config()
    fake = install(kvs.folder / "fake", stop="import os; os._exit(1)")
    with kvs.popen("node1.yaml", environ=fake) as process:
        next_event(process, "Started")
        stopped = kvs.run("stop", "node1")
    assert stopped.code == 1
    assert "but not cleanly" in stopped.err
    assert not kvs.pid_file().exists()
