"""A node to which every kind of secret is given, well and badly formed, and what it says meanwhile."""

import base64
import json
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from kvs.auth.tokens import derive_key, token_hash
from tests.process.cli import Cli
from tests.process.daemon import Answer, Client

_CONFIG = """\
auth_enabled: true
clustering_enabled: false
port: 0
data_dir: ./data
log_level: debug
log_format: json
"""
_BUGS = """
import kvs.auth.passwords, kvs.auth.tokens

_check, _verify = kvs.auth.passwords.check_password, kvs.auth.tokens.verify

def check_password(stored, password):
    if password.startswith("breaks"):
        raise RuntimeError("a bug in a handler")
    return _check(stored, password)

def verify(token, keys, now_ms):
    claims = _verify(token, keys, now_ms)
    if claims.scopes == ["admin:audit"]:
        raise RuntimeError("a bug in the gate")
    return claims

kvs.auth.passwords.check_password, kvs.auth.tokens.verify = check_password, verify
"""
"""Makes a node fail with a password or a token in its hands."""
_RAW_TIMEOUT_S = 10.0


@dataclass
class Canaries:
    """What must not be seen, by the text in which it would be found. `kvs` runs the node of `node1.yaml`."""

    kvs: Cli
    found_as: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[str, Answer]] = field(default_factory=list)
    root_token: str = ""
    url: str = ""

    # --- secrets ---

    def password(self, kind: str) -> str:
        made = f"canary-{secrets.token_hex(12)}"
        self.found_as[kind] = made
        return made

    def token(self, kind: str, token: str) -> str:
        """Its payload and signature are looked for one by one, and its hash."""
        _, payload, signature = token.split(".")
        self.found_as |= {kind: signature, f"{kind}, payload": payload, f"{kind}, hash": token_hash(token)}
        return token

    def key(self, path: Path) -> None:
        """The signing key in the spellings in which it could slip out, and those that are made of it."""
        secret = base64.b64decode(path.read_bytes())
        keys = {"signing key": secret}
        keys |= {f"{purpose} key": derive_key(secret, purpose).key for purpose in ("tokens", "local", "cursors")}
        for kind, key in keys.items():
            self.found_as |= {
                f"{kind}, base64": base64.b64encode(key).decode().rstrip("="),
                f"{kind}, base64url": base64.urlsafe_b64encode(key).decode().rstrip("="),
                f"{kind}, hex": key.hex(),
                f"{kind}, repr": repr(key)[2:-1],
            }

    def seen_in(self, text: str) -> list[str]:
        """The kinds of the secrets that stand in a text."""
        return [kind for kind, secret in self.found_as.items() if secret in text]

    # --- the node ---

    @property
    def log(self) -> str:
        return self.kvs.log_file().read_text()

    def start(self) -> None:
        bugs = self.kvs.folder / "bugs"
        bugs.mkdir()
        (bugs / "sitecustomize.py").write_text(_BUGS)
        config = self.kvs.folder / "node1.yaml"
        config.write_text(f"{_CONFIG}cluster_secret: {self.password('cluster secret')}\n")
        config.chmod(0o600)
        path = self.kvs.environment({})["PYTHONPATH"]
        started = self.kvs.run("start", "node1", environ={"PYTHONPATH": f"{path}:{bugs}"})
        assert started.code == 0, started
        self.url = self.kvs.status("node1")["url"]
        self.key(self.kvs.folder / "data" / "signing.key")
        (line,) = [line for line in self.log.splitlines() if line.startswith("Token: ")]
        self.root_token = self.token("root token", line.removeprefix("Token: "))

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        token: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Answer:
        """One exchange; the answer is kept."""
        client = Client(self.url)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        answer = client.request(method, target, data, {**fields, **headers})
        client.close()
        self.answers.append((f"{method} {target.partition('?')[0]}", answer))
        return answer

    def as_root(self, method: str, target: str, body: object = None) -> Answer:
        return self.ask(method, target, body, self.root_token)

    def made(self, method: str, target: str, body: object) -> Any:
        """As root; the answer is meant to tell a secret, or is of no interest."""
        answer = self.as_root(method, target, body)
        self.answers.pop()
        assert answer.status in (200, 201), answer
        return answer.json()

    def raw(self, request: bytes) -> bytes:
        """What comes back for bytes that are no good request, until the node closes the connection."""
        parts = urlsplit(self.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=_RAW_TIMEOUT_S) as connection:
            connection.sendall(request)
            return b"".join(_chunks(connection))


def _chunks(connection: socket.socket) -> Iterator[bytes]:
    while chunk := connection.recv(65536):
        yield chunk
