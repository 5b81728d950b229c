"""The cluster's secret and the keys of certificates come out of nodes and commands nowhere, whatever goes wrong."""

import base64
import json
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import MappingProxyType

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from kvs.auth.tokens import derive_key
from tests.certificates import Authority, Files
from tests.process.cli import Cli, Result, next_event
from tests.process.daemon import Answer, Client
from tests.process.eventually import eventually

_BUGS = """
import kvs.auth.peers, kvs.cluster.transport

_is_peer, _call, _calls = kvs.auth.peers.is_peer, kvs.cluster.transport.Transport.call, []

def is_peer(given, secrets):
    if any("breaks" in each for each in given):
        raise RuntimeError("a bug in the gate of peers")
    return _is_peer(given, secrets)

async def call(self, *arguments, **more):
    _calls.append(1)
    if len(_calls) == 5:
        raise RuntimeError("a bug in asking a peer")
    return await _call(self, *arguments, **more)

kvs.auth.peers.is_peer, kvs.cluster.transport.Transport.call = is_peer, call
"""
"""Make nodes fail with the secret in their hands."""
SOON_S = 30.0
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass
class Site:
    """Two nodes of one cluster, with all logs at debug. `found_as` holds what must not be seen, by its kind."""

    kvs: Cli
    authority: Authority
    keys: dict[str, Files] = field(default_factory=dict)
    found_as: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[str, Answer]] = field(default_factory=list)
    outputs: list[tuple[str, Result]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def secret(self, kind: str, text: str) -> str:
        """In the spellings in which it could slip out."""
        self.found_as |= {
            kind: text,
            f"{kind}, base64": base64.b64encode(text.encode()).decode().rstrip("="),
            f"{kind}, hex": text.encode().hex(),
        }
        return text

    def key(self, kind: str, path: Path) -> None:
        key = load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        number = key.private_numbers().private_value
        lines = path.read_text().splitlines()[1:3]  # behind them is the public half only
        self.found_as |= {f"{kind}, line {index}": line for index, line in enumerate(lines)}
        self.found_as |= {f"{kind}, decimal": str(number), f"{kind}, hexadecimal": f"{number:x}"}

    def seen_in(self, text: str) -> list[str]:
        return [kind for kind, secret in self.found_as.items() if secret in text]

    def ask(self, target: str, headers: Mapping[str, str] = _NONE, shown: Files | None = None) -> Answer | None:
        """The answer, which is kept; None without a connection."""
        client = Client(self.urls[0], tls=self.authority.client(shown))
        try:
            answer = client.request("GET", target, headers=headers)
        except (OSError, HTTPException):
            return None
        finally:
            client.close()
        self.answers.append((target.partition("?")[0], answer))
        return answer

    def run(self, *words: str | Path) -> Result:
        done = self.kvs.run(*words)
        self.outputs.append((" ".join(map(str, words)), done))
        return done

    @property
    def logs(self) -> dict[str, str]:
        return {name: self.kvs.log_file(name).read_text() for name in ("n1", "n2")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Nodes that have been through everything below."""
    kvs = Cli(tmp_path_factory.mktemp("canaries"))
    made = Site(kvs, Authority(kvs.folder / "certs"))
    try:
        _start(made)
        _wrong_peers(made)
        _bugs(made)
        _commands(made)
        _reloads(made)
        yield made
    finally:
        kvs.kill_all()


def _start(site: Site) -> None:
    kvs = site.kvs
    secret = site.secret("cluster secret", f"canary-{os.urandom(16).hex()}")
    previous = site.secret("secret before", f"canary-{os.urandom(16).hex()}")
    for purpose in ("tokens", "cursors"):
        derived = derive_key(secret.encode(), purpose).key
        site.found_as |= {f"{purpose} key": base64.b64encode(derived).decode(), f"{purpose} key, hex": derived.hex()}
    site.key("key of the authority", site.authority.file.with_suffix(".key"))
    bugs = kvs.folder / "bugs"
    bugs.mkdir()
    (bugs / "sitecustomize.py").write_text(_BUGS)
    path = kvs.environment({})["PYTHONPATH"]
    seeds: list[str] = []
    for name in ("n1", "n2"):
        site.keys[name] = site.authority.issue(name)
        site.key(f"key of {name}", site.keys[name].key)
        settings = {
            **site.authority.settings(site.keys[name], mutual=True),
            "node_id": name,
            "cluster_secret": secret,
            "cluster_secret_previous": previous,
            "seed_nodes": seeds,
            "log_level": "debug",
            "log_format": "json",
            "auth_enabled": True,
            "clustering_enabled": True,
        }
        config = kvs.config(f"{name}.yaml")
        lines = [line for line in config.read_text().splitlines() if line.partition(":")[0] not in settings]
        config.write_text(
            "\n".join([*lines, *(f"{key}: {json.dumps(value)}" for key, value in settings.items())]) + "\n"
        )
        started = kvs.run("start", name, environ={"PYTHONPATH": f"{path}:{bugs}"})
        assert started.code == 0, started
        site.outputs.append((f"start {name}", started))
        site.urls.append(kvs.status(name)["url"])
        seeds = [site.urls[0].removeprefix("https://")]
    assert eventually(lambda: "Member is up" in site.logs["n1"], SOON_S)


def _wrong_peers(site: Site) -> None:
    secret = site.found_as["cluster secret"]
    wrong = site.secret("wrong secret", f"canary-{os.urandom(16).hex()}")
    peer = site.keys["n2"]
    for given in (wrong, secret[:-1], secret + "x", f"{secret}, {secret}"):
        answer = site.ask("/merkle_tree/root", {"X-Cluster-Secret": given, "X-Node-ID": "nx"}, peer)
        assert answer is not None
        assert answer.status == 401
    requests: list[tuple[str, Mapping[str, str]]] = [
        ("/merkle_tree/root", {"X-Cluster-Secret": secret}),
        (f"/merkle_tree/root?secret={wrong}", {}),
        ("/kv/a", {"X-Cluster-Secret": secret}),
        ("/kv/a", {"Authorization": f"Bearer {secret}"}),
        ("/kv/a", {"Authorization": f"Bearer {wrong}"}),
        ("/kv/a", {"Cookie": f"secret={wrong}"}),
    ]
    for target, headers in requests:
        answer = site.ask(target, headers)
        assert answer is not None
        assert answer.status == 401, target
    stranger = Authority(site.kvs.folder / "stranger").issue("nx")
    site.key("key of a stranger", stranger.key)
    assert site.ask("/merkle_tree/root", {"X-Cluster-Secret": secret}, stranger) is None
    for target in ("/health", "/ready", "/members/", "/metrics", "/openapi.json", "/nowhere"):
        assert site.ask(target) is not None


def _bugs(site: Site) -> None:
    breaks = site.secret("secret in a bug", f"breaks-canary-{os.urandom(16).hex()}")
    answer = site.ask("/merkle_tree/root", {"X-Cluster-Secret": breaks, "X-Node-ID": "nx"}, site.keys["n2"])
    assert answer is not None
    assert answer.status == 500
    assert eventually(lambda: all("a bug in asking a peer" in log for log in site.logs.values()), SOON_S)


def _commands(site: Site) -> None:
    for words in (
        ("status",),
        ("status", "--json"),
        ("config", "check", "n1.yaml"),
        ("config", "show", "n1.yaml"),
        ("cluster", "status", "--local", "n1.yaml"),
        ("cluster", "status", "--json", "--local", "n2.yaml"),
        ("user", "list", "--local", "n1.yaml"),
        ("cert", "init", "certs", "n3=127.0.0.1"),
    ):
        assert site.run(*words).code == 0, words
    site.key("key of n3", site.kvs.folder / "certs" / "n3.key")
    assert site.run("cluster", "remove", "nobody", "--local", "n1.yaml").code == 3
    assert site.run("cert", "init", "certs", "n1=10.0.0.9").code == 1
    site.run("user", "list", "--url", site.urls[0], "--token", "wrong", "--ca-file", site.keys["n1"].key)


def _reloads(site: Site) -> None:
    """With a key that does not belong to its certificate, one that is garbage, and another secret."""
    config, key = site.kvs.folder / "n1.yaml", site.keys["n1"].key
    good_config, good_key = config.read_text(), key.read_bytes()
    pid = site.kvs.status("n1")["pid"]
    garbage = site.secret("garbage in the place of a key", f"canary-{os.urandom(16).hex()}")
    with site.kvs.popen("logs", "-f", "-n", "100000", "n1") as follower:
        next_event(follower, "Started")
        for text in (site.keys["n2"].key.read_bytes(), f"-----BEGIN PRIVATE KEY-----\n{garbage}\n".encode()):
            key.write_bytes(text)
            assert site.run("config", "check", "n1.yaml").code == 2
            os.kill(pid, signal.SIGHUP)
            next_event(follower, "Certificates not reloaded, the old ones stay in use")
        key.write_bytes(good_key)
        new = site.secret("next secret", f"canary-{os.urandom(16).hex()}")
        config.write_text(good_config.replace(site.found_as["cluster secret"], new))
        os.kill(pid, signal.SIGHUP)
        next_event(follower, "Configuration reloaded")
        follower.terminate()
        follower.communicate()
    config.write_text(good_config)


# --- where they could be seen ---


def test_the_canaries_would_be_found(site: Site) -> None:
    assert len(site.found_as) > 40
    assert all(len(secret) >= 20 for secret in site.found_as.values())
    assert site.seen_in(" ".join(site.found_as.values())) == list(site.found_as)


def test_logs_tell_nothing(site: Site) -> None:
    for name, log in site.logs.items():
        assert site.seen_in(log) == [], name
        assert "a bug in asking a peer" in log
    assert "a bug in the gate of peers" in site.logs["n1"]
    events = {json.loads(line)["event"] for line in site.logs["n1"].splitlines() if line.startswith("{")}
    assert {"A peer was refused: wrong or missing secret", "A peer was refused: no certificate", "Request"} <= events
    assert "TLS handshakes failed" in events


def test_answers_tell_nothing(site: Site) -> None:
    for asked, answer in site.answers:
        assert site.seen_in(f"{answer.headers}\n{answer.body.decode(errors='replace')}") == [], asked
        assert b"Traceback" not in answer.body


def test_commands_tell_nothing(site: Site) -> None:
    assert len(site.outputs) > 10
    for command, output in site.outputs:
        assert site.seen_in(output.all) == [], command


def test_only_the_bootstrap_tells_the_secret(site: Site) -> None:
    token = site.kvs.run("token", "create", "--scopes", "all", "--local", "n1.yaml").out.strip()
    client = Client(site.urls[0], tls=site.authority.client())
    told = client.request("GET", "/auth/cluster-bootstrap", headers={"Authorization": f"Bearer {token}"})
    client.close()
    assert site.seen_in(told.body.decode()) == ["cluster secret"]


def test_other_users_of_the_host_see_nothing(site: Site) -> None:
    for name in ("n1", "n2"):
        process = Path(f"/proc/{site.kvs.status(name)['pid']}")
        for file in ("cmdline", "comm", "environ"):
            assert site.seen_in((process / file).read_text()) == [], file


def test_they_stand_in_the_files_that_are_meant_for_them(site: Site) -> None:
    folder = site.kvs.folder
    seen: dict[str, set[str]] = {}
    for path in folder.rglob("*"):
        if path.is_file() and "bugs" not in path.parts:
            kinds = {re.sub(", line .*", "", kind) for kind in site.seen_in(path.read_text("latin-1"))}
            if kinds:
                seen[path.relative_to(folder).as_posix()] = kinds
    assert seen == {
        "n1.yaml": {"cluster secret", "secret before"},
        "n2.yaml": {"cluster secret", "secret before"},
        "certs/ca.key": {"key of the authority"},
        "certs/n1.key": {"key of n1"},
        "certs/n2.key": {"key of n2"},
        "certs/n3.key": {"key of n3"},
        "stranger/nx.key": {"key of a stranger"},
    }
