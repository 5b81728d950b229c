"""Throw-away nodes for the tests of programs that use KVS: real daemons on free ports of this host.

    with Node() as node:
        node.client().put("a", 1)

    with Cluster(3) as cluster:
        kvs = cluster.client()
        cluster.nodes[0].kill()

They keep what they hold in temporary folders, and ask nobody for a token, unless `auth_enabled=True` is among their
settings. `kvs.client.pytest_plugin` has fixtures.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kvs.client.async_client import AsyncClient
from kvs.client.errors import ClientError
from kvs.client.sync_client import Client

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_LOOK_AGAIN_S = 0.05


class NodeFailed(Exception):
    """A node did not start; the message holds what it said."""


class Node:
    """One daemon. `settings` are those of its configuration. It is started by `start` or as a context manager; what it
    keeps outlives `stop` and `kill`, and goes with `remove` or the end of the block."""

    def __init__(self, folder: Path | None = None, **settings: Any) -> None:
        """In a folder that exists, or one of its own."""
        self._is_own = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="kvs-"))
        self._settings = {
            "node_id": "node1",
            "port": 0,
            "data_dir": "data",
            "auth_enabled": False,
            "clustering_enabled": False,
            "rate_limiting_enabled": False,
            "log_format": "json",
            **settings,
        }
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._told = threading.Event()
        self._serves = False
        self._clients: list[Client] = []
        self.url = ""
        self.token = ""
        """Of the root user, with every scope, after the first start with `auth_enabled=True`."""
        self.log: list[str] = []
        """What it wrote on its output, line by line, over all its starts."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.remove()

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Returns when it serves. It keeps its port over later starts. Raises NodeFailed."""
        if self._process is not None:
            return
        config = self._folder / "node.yaml"
        config.touch(mode=0o600)
        config.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in self._settings.items()))
        own = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")}
        self._told.clear()
        self._serves = False
        self._process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "kvs", str(config)],
            env={**own, "KVS_HOME": str(self._folder / "home"), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        begun = len(self.log)
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if not self._told.wait(_START_TIMEOUT_S) or not self._serves:
            self.kill()
            raise NodeFailed("the node did not start:\n" + "\n".join(self.log[begun:]))
        self._settings["port"] = int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        """As an operator stops it."""
        if self._process is not None:
            self._process.terminate()
            self._end()

    def kill(self) -> None:
        """As a crash does."""
        if self._process is not None:
            self._process.kill()
            self._end()

    def remove(self) -> None:
        """Stop it, close the clients that it gave out, and delete a folder of its own."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.kill()
        if self._is_own:
            shutil.rmtree(self._folder, ignore_errors=True)

    def client(self, **options: Any) -> Client:
        """A client of this node, which ends with it; `options` as of `Client`."""
        made = Client(self.url, **{"token": self.token, **options})
        self._clients.append(made)
        return made

    def async_client(self, **options: Any) -> AsyncClient:
        """A client of this node, to be closed by whoever asked for it."""
        return AsyncClient(self.url, **{"token": self.token, **options})

    def _end(self) -> None:
        assert self._process is not None
        assert self._reader is not None
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.log.append(line.rstrip("\n"))
            label, _, rest = line.strip().partition(": ")
            if label == "Token":
                self.token = rest
            if '"url"' in line and not self._told.is_set():
                self.url = str(json.loads(line)["url"])
                self._serves = True
                self._told.set()
        self._told.set()


class Cluster:
    """Several nodes that keep the same records."""

    def __init__(self, size: int = 3, folder: Path | None = None, **settings: Any) -> None:
        self._is_own = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="kvs-"))
        self._clients: list[Client] = []
        secret = secrets.token_urlsafe(32)
        self.nodes: list[Node] = []
        for number in range(1, size + 1):
            own = self._folder / f"n{number}"
            own.mkdir()
            shared = {"node_id": f"n{number}", "clustering_enabled": True, "cluster_secret": secret}
            self.nodes.append(Node(own, **{**shared, **settings}))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.remove()

    @property
    def urls(self) -> list[str]:
        """Of all nodes, running or not."""
        return [node.url for node in self.nodes]

    def start(self) -> None:
        """Returns when all nodes see each other and take writes. Raises NodeFailed."""
        first, *others = self.nodes
        first.start()
        for node in others:
            node._settings["seed_nodes"] = [first.url.removeprefix("http://")]
            node.start()
        self.wait_until_whole()

    def wait_until_whole(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Until all nodes that run see each other and take writes. Raises NodeFailed."""
        running = [node for node in self.nodes if node.is_running]
        deadline_s = time.monotonic() + timeout_s
        while not all(_sees(node, len(running)) for node in running):
            if time.monotonic() > deadline_s:
                raise NodeFailed(f"the nodes did not find each other within {timeout_s:.0f} s")
            time.sleep(_LOOK_AGAIN_S)

    def remove(self) -> None:
        """Stop all, close the clients that were given out, and delete a folder of its own."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        for node in self.nodes:
            node.remove()
        if self._is_own:
            shutil.rmtree(self._folder, ignore_errors=True)

    def client(self, **options: Any) -> Client:
        """A client of all nodes, which ends with them; `options` as of `Client`."""
        made = Client(*self.urls, **{"token": self.nodes[0].token, **options})
        self._clients.append(made)
        return made

    def async_client(self, **options: Any) -> AsyncClient:
        """A client of all nodes, to be closed by whoever asked for it."""
        return AsyncClient(*self.urls, **{"token": self.nodes[0].token, **options})


def _sees(node: Node, count: int) -> bool:
    try:
        with _asking(node) as client:
            return client.health()["member_count"] == count and client.ready()
    except ClientError:
        return False


@contextmanager
def _asking(node: Node) -> Iterator[Client]:
    with Client(node.url, retry_s=0) as client:
        yield client
