"""A daemon with authentication on, and the commands that manage its accounts."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.process.cli import Cli, Result
from tests.process.daemon import Answer, Client

STRICT = "port: 0\nclustering_enabled: false\ndata_dir: ./data\nlog_format: json\n"
_NAME = "site"


class Site:
    """The daemon of `site.yaml` in the folder of a Cli."""

    def __init__(self, kvs: Cli, text: str = "") -> None:
        self.kvs = kvs
        path = kvs.folder / f"{_NAME}.yaml"
        path.write_text(STRICT + text)
        path.chmod(0o600)
        self.url = ""

    def start(self) -> None:
        started = self.kvs.run("start", _NAME)
        assert started.code == 0, started
        self.url = started.out.split()[-1]

    def stop(self) -> None:
        assert self.kvs.run("stop", _NAME).code == 0

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def log(self) -> str:
        return self.kvs.log_file(_NAME).read_text()

    def local(self, *words: str, given: str = "") -> Result:
        """A command as the operator on the node's host."""
        return self.kvs.run(*words, "--local", f"{_NAME}.yaml", given=given)

    def local_json(self, *words: str) -> Any:
        result = self.local(*words, "--json")
        assert result.code == 0, result
        return json.loads(result.out)

    def remote(self, token: str, *words: str) -> Result:
        """A command as somebody elsewhere with a token."""
        return self.kvs.run(*words, environ={"KVS_URL": self.url, "KVS_TOKEN": token})

    def ask(self, method: str, target: str, token: str = "", body: bytes | None = None) -> Answer:
        client = Client(self.url)
        try:
            return client.request(method, target, body, {"Authorization": f"Bearer {token}"} if token else {})
        finally:
            client.close()

    def manage(self, method: str, target: str, document: object = None) -> Any:
        """A request with the token that the daemon showed at its first start."""
        body = None if document is None else json.dumps(document).encode()
        answer = self.ask(method, target, self._shown("Token"), body)
        assert answer.status < 300, answer
        return answer.json() if answer.body else None

    @property
    def root(self) -> str:
        """The uuid of the user that the daemon made."""
        return self._shown("User UUID")

    def _shown(self, label: str) -> str:
        found = re.search(rf"^{label}: (\S+)$", self.log, re.MULTILINE)
        assert found is not None
        return found[1]

    def statuses(self, *tokens: str) -> list[int]:
        """For each token, what a GET of a key that is not there answers: 404 if the token is good for reading."""
        return [self.ask("GET", "/kv/absent", token).status for token in tokens]


@contextmanager
def everyday(folder: Path, text: str = "") -> Iterator[Cli]:
    """Commands that ask a daemon of their own, which asks nobody for a token."""
    cli = Cli(folder)
    try:
        site = Site(cli, f"auth_enabled: false\n{text}")
        site.start()
        assert cli.run("context", "add", "here", "--url", site.url).code == 0
        yield cli
    finally:
        cli.kill_all()
