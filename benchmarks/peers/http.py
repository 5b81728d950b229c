"""Those that speak HTTP, asked with wrk as KVS is."""

import base64
import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import DOCUMENT, KEYS, Outcome, Requests, run_wrk
from benchmarks.peers.process import INSTALLED, answers, free_port, program, running, version


class Etcd:
    """One member of etcd, through its JSON gateway. A put is acknowledged behind an fsync, as in KVS; a range is a
    serializable one, which no other member is asked for."""

    name = "etcd"
    hint = "apt install etcd-server"
    url = ""
    told = "puts behind an fsync; serializable ranges, through the JSON gateway"

    def version(self) -> str:
        return version([program("etcd", self.hint), "--version"])

    @contextmanager
    def started(self, folder: Path) -> Iterator["Etcd"]:
        client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        command = [program("etcd", self.hint), "--name", "bench", "--data-dir", str(folder / "data")]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"bench={peer}"]
        command += ["--log-level", "error", "--logger", "zap"]
        with running(command, folder, lambda: answers(f"{client}/health")):
            self.url = client
            _ask("POST", f"{client}/v3/kv/put", _put_body(1))
            yield self

    def run(self, method: str, seconds: int, folder: Path, pause_ms: float = 0.0) -> Outcome:
        if method == "GET":
            body = json.dumps({"key": _base64(b"bench/1"), "serializable": True}).encode()
            requests = Requests("POST", "/v3/kv/range", body)
        else:
            requests = Requests("POST", "/v3/kv/put", bodies=[_put_body(n) for n in range(KEYS)])
        return run_wrk(self.url, {}, seconds, requests, folder, pause_ms=pause_ms)


class Pouchdb:
    """pouchdb-server: CouchDB's API on LevelDB. Every PUT makes a new document, since a change of one would have to
    name the revision that it replaces."""

    name = "pouchdb-server"
    hint = "make peers"
    url = ""
    told = "PUT makes new documents, without fsync"

    def version(self) -> str:
        path = INSTALLED / "pouchdb/node_modules/pouchdb-server/package.json"
        return str(json.loads(path.read_text())["version"]) if path.exists() else "unknown"

    @contextmanager
    def started(self, folder: Path) -> Iterator["Pouchdb"]:
        found = program("pouchdb-server", self.hint, INSTALLED / "pouchdb/node_modules/.bin")
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [found, "--host", "127.0.0.1", "--port", str(port), "--dir", str(folder / "data"), "-n"]
        (folder / "data").mkdir()
        with running(command, folder, lambda: answers(url)):
            self.url = url
            _ask("PUT", f"{url}/bench", b"")
            _ask("PUT", f"{url}/bench/1", DOCUMENT)
            yield self

    def run(self, method: str, seconds: int, folder: Path, pause_ms: float = 0.0) -> Outcome:
        if method == "GET":
            requests = Requests("GET", "/bench/1")
        else:
            fresh = f"/bench/{time.monotonic_ns()}-"
            requests = Requests("PUT", fresh, DOCUMENT, count=2 * KEYS)  # more than it makes in the time
        return run_wrk(self.url, {}, seconds, requests, folder, pause_ms=pause_ms)


def _put_body(number: int) -> bytes:
    return json.dumps({"key": _base64(b"bench/%d" % number), "value": _base64(DOCUMENT)}).encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _ask(method: str, url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=30):
        pass
