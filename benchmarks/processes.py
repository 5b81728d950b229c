"""The servers that are measured, each in a process and a folder of its own, on a free port of 127.0.0.1."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

_SETTINGS = "auth_enabled: false\nclustering_enabled: false\nrate_limiting_enabled: false\nport: 0\n"
"""Everything else at its default."""
_STOP_TIMEOUT_S = 60


@dataclass(frozen=True)
class Running:
    """A server that answers. `started_s` is the time from the start of its process to its first answer."""

    url: str
    pid: int
    started_s: float

    def resident_mb(self) -> float:
        """Memory of its own, in MB of 10^6 bytes, mapped files counted."""
        return float(psutil.Process(self.pid).memory_info().rss) / 1e6

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextmanager
def bare(folder: Path) -> Iterator[Running]:
    with _run(["benchmarks.bare", str(folder / "bare")], "/kv/ready", folder) as server:
        yield server


@contextmanager
def node(folder: Path) -> Iterator[Running]:
    """A KVS node; its data stay in `folder` for the next one."""
    config = folder / "node.yaml"
    config.write_text(_SETTINGS)
    with _run(["kvs", str(config)], "/ready", folder) as server:
        yield server


@contextmanager
def _run(module: Sequence[str], ready_path: str, folder: Path) -> Iterator[Running]:
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
        url = _url(process)
        server = Running(url, process.pid, 0)
        status, _ = server.request("GET", ready_path)
        if status != 200:
            raise RuntimeError(f"{url}{ready_path} answers {status}")
        yield Running(url, process.pid, time.perf_counter() - begin)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_STOP_TIMEOUT_S)


def _url(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{") and (url := json.loads(line).get("url")):
            return str(url)
    raise RuntimeError(f"the server ended with {process.wait()} before it served")
