"""What `packaging/` holds works as far as that can be seen without systemd and Docker, and the service manager is told
how the node is."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.cli import ROOT, Cli, next_event

PACKAGING = ROOT / "packaging"
DOCKERFILE = (PACKAGING / "Dockerfile").read_text()
TIMEOUT_S = 30.0


# --- sd_notify ---


class Manager:
    """A service manager's socket."""

    def __init__(self, folder: Path, *, abstract: bool = False) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(TIMEOUT_S)
        name = f"kvs-test-{os.getpid()}-{folder.name}"
        self._socket.bind(f"\0{name}" if abstract else str(folder / "notify"))
        self.environ = {"NOTIFY_SOCKET": f"@{name}" if abstract else str(folder / "notify")}

    def told(self) -> dict[str, str]:
        """The fields of the next datagram; waits for it."""
        lines = self._socket.recv(65536).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=[False, True], ids=["path", "abstract"])
def manager(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Manager]:
    made = Manager(tmp_path, abstract=request.param)
    yield made
    made.close()


def test_the_service_manager_is_told_of_the_life_of_a_node(kvs: Cli, manager: Manager) -> None:
    kvs.config()
    with kvs.popen("node1.yaml", environ=manager.environ) as process:
        url = next_event(process, "Started")["url"]
        assert manager.told() == {"READY": "1", "STATUS": f"serves {url}"}
        process.send_signal(signal.SIGHUP)
        reloading = manager.told()
        assert (reloading.pop("RELOADING"), int(reloading.pop("MONOTONIC_USEC")) > 0, reloading) == ("1", True, {})
        assert manager.told()["READY"] == "1"
        process.send_signal(signal.SIGTERM)
        assert manager.told()["STOPPING"] == "1"
        assert process.wait(TIMEOUT_S) == 0


def test_it_is_told_why_a_node_does_not_start(kvs: Cli, tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        kvs.config(port=port)
        assert kvs.run("node1.yaml", environ=manager.environ).code == 1
    assert manager.told() == {"STATUS": f"cannot listen on 127.0.0.1:{port}: the port is taken"}
    manager.close()


@pytest.mark.parametrize("address", ["", "nowhere", "/nowhere/at/all", "@nobody-listens", "vsock:2:1234"])
def test_a_node_does_not_depend_on_who_watches_it(kvs: Cli, address: str) -> None:
    kvs.config()
    with kvs.popen("node1.yaml", environ={"NOTIFY_SOCKET": address}) as process:
        next_event(process, "Started")
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


# --- systemd ---


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="it needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """With a program that is there in the place of the one that will be installed."""
    unit = tmp_path / "kvs.service"
    unit.write_text((PACKAGING / "kvs.service").read_text().replace("/opt/kvs/bin/kvs", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "kvs" in line]
    assert ours == []


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or shutil.which("strace") is None, reason="it needs systemd and strace"
)
def test_the_unit_lets_through_what_a_node_does(kvs: Cli) -> None:
    allowed = system_calls("@system-service") - system_calls("@privileged")
    kvs.config()
    trace = kvs.folder / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace), sys.executable, "-m", "kvs", "node1.yaml"]
    with subprocess.Popen(
        command, cwd=kvs.folder, env=kvs.environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        next_event(process, "Started")
        pid = json.loads(kvs.pid_file().read_text())["pid"]
        os.kill(pid, signal.SIGHUP)
        next_event(process, "Configuration reloaded")
        os.kill(pid, signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    assert len(used) > 40
    assert used - allowed == set()


def system_calls(group: str) -> set[str]:
    """The members of one of systemd's groups."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    )
    found: set[str] = set()
    for word in re.findall(r"^ +([@\w-]+)$", done.stdout, re.MULTILINE):
        found |= system_calls(word) if word.startswith("@") else {word}
    return found


# --- Docker ---


def instructions() -> list[tuple[str, str]]:
    """(Instruction, arguments), lines that go on joined, comments left out."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def test_the_image_holds_what_it_needs_and_does_not_run_as_root() -> None:
    found = instructions()
    last_stage = found[max(index for index, (word, _) in enumerate(found) if word == "FROM") :]
    users = [rest for word, rest in last_stage if word == "USER"]
    assert users == ["10001:10001"]
    words = [word for word, _ in last_stage]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert ("VOLUME", "/var/lib/kvs") in last_stage
    assert ("STOPSIGNAL", "SIGTERM") in last_stage
    ignored = (PACKAGING / "Dockerfile.dockerignore").read_text().split()
    for word, rest in found:
        if word == "COPY" and not rest.startswith("--from"):
            *sources, _ = rest.split()
            for source in sources:
                assert (ROOT / source).exists()
                assert f"!{source}" in ignored


def test_the_health_check_tells_whether_the_node_is_well(kvs: Cli) -> None:
    (check,) = [rest.partition("CMD ")[2] for word, rest in instructions() if word == "HEALTHCHECK"]
    program = kvs.folder / "bin" / "kvs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kvs "$@"\n')
    program.chmod(0o755)
    environ = {**kvs.environment({}), "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def is_well() -> bool:
        done = subprocess.run(["sh", "-c", check], cwd=kvs.folder, env=environ, check=False, timeout=TIMEOUT_S)
        return done.returncode == 0

    kvs.config("kvs.yaml")
    assert not is_well()
    assert kvs.run("start", "kvs").code == 0
    assert is_well()
    pid = kvs.status("kvs")["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert not is_well()
    os.kill(pid, signal.SIGCONT)
    assert kvs.run("stop", "kvs").code == 0
    assert not is_well()
