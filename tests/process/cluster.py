"""Several real daemons on this machine, each behind a proxy of its own, and what a test does to them and asks of them.

Processes are started, stopped, killed, held and let go on by their ids only. Nodes are named n1, n2, …
"""

import json
import os
import shutil
import signal
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from tests.process.daemon import Answer, Client, Daemon
from tests.process.eventually import eventually
from tests.process.links import Network

SECRET = "What-0nly-the-nodes-of-this-cluster-know"
TYPE = {"Content-Type": "application/json"}
_NONE: Mapping[str, object] = MappingProxyType({})


def allowed(promise_s: float) -> float:
    """What a promise of time comes to on a machine that others use too: longer by how many processes wait for one
    of its processors."""
    return 1.5 * promise_s * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Node:
    """One daemon. `address` is where its peers reach it, `client` asks it past its proxy."""

    def __init__(self, cluster: "Cluster", folder: Path, name: str, settings: Mapping[str, object]) -> None:
        self.name = name
        self._proxy = cluster.network.proxy(name)
        self.address = self._proxy.address
        own = {
            "clustering_enabled": True,
            "cluster_secret": SECRET,
            "advertise_address": self.address,
            "seed_nodes": [node.address for node in cluster.nodes],
        }
        data_dir = settings.get("data_dir")
        self.daemon = Daemon(
            folder,
            name=name,
            settings={**own, **settings},
            data_dir=Path(str(data_dir)) if data_dir else None,
            tls=cluster.tls,
        )
        self.is_up = False

    @property
    def client(self) -> Client:
        return self.daemon.client

    def begin(self) -> None:
        self.daemon.begin()

    def wait_until_it_serves(self) -> None:
        self.daemon.wait_until_it_serves()
        self._proxy.lead_to(int(urlsplit(self.daemon.url).port or 0))
        self.is_up = True

    def start(self) -> None:
        self.begin()
        self.wait_until_it_serves()

    def stop(self) -> None:
        """As `kvs stop` does it."""
        self.is_up = False
        self.daemon.stop()
        self._proxy.close()

    def kill(self) -> None:
        self.is_up = False
        self.daemon.kill()
        self._proxy.close()

    def hold(self) -> None:
        """SIGSTOP: it neither runs nor ends, and its connections stay."""
        os.kill(self.daemon.pid, signal.SIGSTOP)

    def let_go_on(self) -> None:
        os.kill(self.daemon.pid, signal.SIGCONT)

    def wipe(self) -> None:
        shutil.rmtree(self.daemon.data_dir)

    # --- what it knows ---

    def ask(self, method: str, path: str, document: object = None, token: str = "") -> Answer:
        body = None if document is None else json.dumps(document).encode()
        headers = {**TYPE, "Authorization": f"Bearer {token}"} if token else TYPE
        return self.client.request(method, path, body, headers)

    def bulk(self, lines: Iterable[Mapping[str, object]]) -> None:
        """Many writes in one request, all of which must succeed."""
        body = "\n".join(map(json.dumps, lines)).encode()
        results = self.client.request("POST", "/kv/_bulk", body, TYPE).json()["results"]
        assert all(result["status"] < 300 for result in results), results[:3]

    def put(self, key: str, value: object, query: str = "") -> Answer:
        return self.ask("PUT", f"/kv/{key}{query}", value)

    def value(self, key: str) -> Any:
        """None when there is none."""
        answer = self.client.get(key)
        return answer.json()["data"] if answer.status == 200 else None

    def members(self) -> dict[str, str]:
        """Status by name."""
        return {member["id"]: member["status"] for member in self.ask("GET", "/members/").json()}

    def root(self) -> str:
        headers = {"X-Cluster-Secret": SECRET, "X-Node-ID": "test"}
        return str(self.client.request("GET", "/merkle_tree/root", headers=headers).json()["root"]["hash"])

    def contents(self) -> dict[str, Any]:
        """Every key with all that is shown of its value."""
        found: dict[str, Any] = {}
        cursor = ""
        while True:
            page = self.client.request("GET", f"/kv/_range?limit=1000{cursor}").json()
            found |= {pair["path"]: pair["stored_value"] for pair in page["pairs"]}
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def mode(self) -> str:
        return str(self.ask("GET", "/health").json()["mode"])

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of its log with this event."""
        lines = (json.loads(line) for line in list(self.daemon.log) if line.startswith("{"))
        return [line for line in lines if line.get("event") == name]

    def logged(self, name: str, timeout_s: float) -> bool:
        """Whether it logs this event in time."""
        return eventually(lambda: self.events(name), timeout_s)


class Cluster:
    def __init__(self, folder: Path, settings: Mapping[str, object] = _NONE, tls: ssl.SSLContext | None = None) -> None:
        """`settings` are those of all nodes; `tls` is for asking them on HTTPS."""
        self.tls = tls
        self.network = Network()
        self.nodes: list[Node] = []
        self.first_sight_s = 0.0
        """How long it took until all saw each other."""
        self._folder = folder
        self._settings = settings

    def add(self, name: str = "", **settings: object) -> Node:
        """A new node, not started, whose seeds are the nodes before it."""
        number = len(self.nodes) + 1
        folder = self._folder / f"node{number}"
        self.nodes.append(Node(self, folder, name or f"n{number}", {**self._settings, **settings}))
        return self.nodes[-1]

    def forget(self, node: Node) -> None:
        """A node that was added for one test goes for good."""
        node.kill()
        self.nodes.remove(node)

    def start(self, *nodes: Node) -> None:
        """All at once, or those that are named."""
        for node in nodes or self.nodes:
            node.begin()
        for node in nodes or self.nodes:
            node.wait_until_it_serves()

    @property
    def up(self) -> list[Node]:
        return [node for node in self.nodes if node.is_up]

    # --- the network ---

    def part(self, one: Iterable[Node], other: Iterable[Node]) -> None:
        """Nothing passes between the two."""
        for a, b in product(one, other):
            self.network.link(a.name, b.name).cut()
            self.network.link(b.name, a.name).cut()

    def heal(self) -> None:
        for link in self.network.links():
            link.mend()

    # --- what holds for all ---

    def all_see(self, **statuses: str) -> bool:
        """Whether every node that is up sees exactly these members (without any named: all that are up, alive)."""
        expected = statuses or dict.fromkeys((node.name for node in self.up), "alive")
        return all(node.members() == expected for node in self.up)

    def roots(self) -> list[str]:
        return [node.root() for node in self.up]

    def are_equal(self) -> bool:
        """Whether all nodes that are up hold the same, by their roots and then by what they show."""
        if len(set(self.roots())) != 1:
            return False
        first, *others = (node.contents() for node in self.up)
        return all(other == first for other in others)

    def is_whole(self) -> bool:
        return self.all_see() and self.are_equal() and all(node.mode() == "normal" for node in self.up)

    def check_logs(self) -> None:
        """Nothing that nobody foresaw."""
        for node in self.nodes:
            node.daemon.assert_no_traceback()

    def close(self) -> None:
        for node in self.nodes:
            if node.is_up:
                with suppress(ProcessLookupError):
                    node.let_go_on()
            node.daemon.kill()
        self.network.close()


def seconds_until(condition: Callable[[], object], timeout_s: float) -> float:
    """How long it took until `condition` came true; fails when it did not in time."""
    start = time.monotonic()

    def holds() -> bool:
        with suppress(OSError, HTTPException):
            return bool(condition())
        return False

    assert eventually(holds, timeout_s), f"it did not come true within {timeout_s:.1f} s"
    return time.monotonic() - start


def three(folder: Path, **settings: object) -> Iterator[Cluster]:
    """Three nodes that are about to find each other."""
    cluster = Cluster(folder, settings)
    for _ in range(3):
        cluster.add()
    try:
        cluster.start()
        yield cluster
        cluster.check_logs()
    finally:
        cluster.close()
