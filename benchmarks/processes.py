"""The servers that are measured, each in a process and a folder of its own, on a free port of 127.0.0.1."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil

_SETTINGS = "clustering_enabled: false\nrate_limiting_enabled: false\nlog_format: json\nport: 0\n"
"""Everything else at its default."""
SECRET = "the-nodes-of-a-benchmark-share-this"
_MEMBER_SETTINGS = (
    "auth_enabled: false\nrate_limiting_enabled: false\nlog_format: json\nport: 0\n"
    f"cluster_secret: {SECRET}\nthrottle_delay_ms: 0\nfetch_delay_ms: 0\n"
)
"""Of a node in a cluster, which is not to wait when it copies from others."""
_STOP_TIMEOUT_S = 60
_READY_TIMEOUT_S = 600
_POLL_S = 0.02


@dataclass(frozen=True)
class Running:
    """A server that answers. `started_s` is the time from the start of its process to its first answer. `headers` are
    what its clients have to send."""

    url: str
    pid: int
    started_s: float
    headers: Mapping[str, str] = field(default_factory=dict)

    def resident_mb(self) -> float:
        """Memory of its own, in MB of 10^6 bytes, mapped files counted."""
        return float(psutil.Process(self.pid).memory_info().rss) / 1e6

    def wait_until_ready(self) -> None:
        """Raises TimeoutError."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while json.loads(self.request("GET", "/health")[1])["mode"] != "normal":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.url} is not ready")
            time.sleep(_POLL_S)

    def write_many(self, items: bytes) -> set[int]:
        """Send a bulk request; the statuses of its items."""
        status, answer = self.request("POST", "/kv/_bulk", items)
        if status != 200:
            raise RuntimeError(f"_bulk answers {status}: {answer[:200]!r}")
        return {result["status"] for result in json.loads(answer)["results"]}

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        try:
            connection.request(method, path, body, {**self.headers, "Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextmanager
def bare(folder: Path, loop: str = "uvloop") -> Iterator[Running]:
    with _run(["benchmarks.bare", loop, str(folder / "bare")], "/kv/ready", folder) as (server, _):
        yield server


@contextmanager
def node(folder: Path) -> Iterator[Running]:
    """A KVS node asked by a user with a token; its data stay in `folder` for the next one."""
    with _node(folder, _SETTINGS) as (server, lines):
        kept = folder / "token"
        root = next((line.removeprefix("Token: ") for line in lines if line.startswith("Token: ")), None)
        if root is not None:
            kept.write_text(_user_token(replace(server, headers={"Authorization": f"Bearer {root}"})))
        yield replace(server, headers={"Authorization": f"Bearer {kept.read_text()}"})


@contextmanager
def open_node(folder: Path) -> Iterator[Running]:
    """A KVS node whose authentication is switched off."""
    with _node(folder, f"{_SETTINGS}auth_enabled: false\n") as (server, _):
        yield server


@contextmanager
def member(folder: Path, seed: Running | None = None) -> Iterator[Running]:
    """A KVS node in a cluster, without authentication. It answers, but takes no writes before it has
    what `seed` has: see `wait_until_ready`."""
    seeds = "" if seed is None else f"seed_nodes: [{urlsplit(seed.url).netloc}]\n"
    config = folder / "node.yaml"
    config.touch(mode=0o600)
    config.write_text(f"{_MEMBER_SETTINGS}node_id: {folder.name}\n{seeds}")
    with _run(["kvs", str(config)], "/health", folder) as (server, _):
        yield server


@contextmanager
def _node(folder: Path, settings: str) -> Iterator[tuple[Running, list[str]]]:
    config = folder / "node.yaml"
    config.write_text(settings)
    with _run(["kvs", str(config)], "/ready", folder) as started:
        yield started


def _user_token(root: Running) -> str:
    """A token of a user whom permissions apply to."""
    _, made = root.request("POST", "/api/users", b'{"nickname":"bench"}')
    wanted = {"user_uuid": json.loads(made)["uuid"], "scopes": ["read", "write", "delete"], "expires_in": "1d"}
    _, token = root.request("POST", "/api/tokens", json.dumps(wanted).encode())
    return str(json.loads(token)["token"])


@contextmanager
def _run(module: Sequence[str], ready_path: str, folder: Path) -> Iterator[tuple[Running, list[str]]]:
    """The server, and the lines that it printed before its URL."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        env={**environment, "KVS_HOME": str(folder / "home")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        lines, url = _lines_and_url(process)
        server = Running(url, process.pid, 0)
        status, _ = server.request("GET", ready_path)
        if status != 200:
            raise RuntimeError(f"{url}{ready_path} answers {status}")
        yield Running(url, process.pid, time.perf_counter() - begin), lines
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_STOP_TIMEOUT_S)


def _lines_and_url(process: "subprocess.Popen[str]") -> tuple[list[str], str]:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        if line.startswith("{") and (url := json.loads(line).get("url")):
            return lines, str(url)
        lines.append(line.rstrip("\n"))
    raise RuntimeError(f"the server ended with {process.wait()} before it served")
