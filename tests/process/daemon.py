"""A real node in a process of its own, for tests that kill it and spoil its disk."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 20.0
_REPOSITORY = Path(__file__).parents[2]
_ALONE = {
    "auth_enabled": False,
    "clustering_enabled": False,
    "rate_limiting_enabled": False,
    "log_format": "json",
}


class Answer(NamedTuple):
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class NotStarted(AssertionError):
    """The node ended before it served."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        super().__init__(f"the node ended with {code}:\n{output}\n{errors}")
        self.code = code
        self.output = output
        self.errors = errors


class Client:
    """One keep-alive connection. Connects when it is first used, and again after a failure."""

    def __init__(self, url: str, timeout_s: float = REQUEST_TIMEOUT_S, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=timeout_s, context=tls
            )
        else:
            self._connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Raises OSError or http.client.HTTPException when there is no whole answer: the outcome is then unknown."""
        try:
            self._connection.request(method, path, body, dict(headers or {}))
            response = self._connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except BaseException:
            self._connection.close()
            raise

    def get(self, key: str) -> Answer:
        return self.request("GET", kv_path(key))

    def put(self, key: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("PUT", kv_path(key), body, headers or {"Content-Type": "application/json"})

    def delete(self, key: str) -> Answer:
        return self.request("DELETE", kv_path(key))

    def close(self) -> None:
        self._connection.close()


def kv_path(key: str) -> str:
    return f"/kv/{quote(key)}"


class Daemon:
    """`python -m kvs CONFIG` in a folder of its own. It listens on any free port, so `url` changes with each start.

    `log` holds what the node wrote on standard output, line by line, over all its starts; `output.log` and
    `errors.log` in the folder hold the same and standard error.
    """

    def __init__(
        self,
        folder: Path,
        *,
        data_dir: Path | None = None,
        prefix: Sequence[str] = (),
        name: str = "node",
        settings: Mapping[str, object] = MappingProxyType({}),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`prefix` stands before the command, to run it elsewhere (in other namespaces, say); `settings` are those of
        the configuration that are not as for a lone node that anybody may use; `tls` is for asking a node on HTTPS."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.url = ""
        self.log: list[str] = []
        self.environment: dict[str, str] = {}
        """Of every start, beside what that start names."""
        self._prefix = list(prefix)
        self._config = folder / f"{name}.yaml"
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._told = threading.Event()
        self._client: Client | None = None
        self.tls = tls
        self._settings: dict[str, object] = {"node_id": name, "port": 0, "data_dir": str(self.data_dir), **_ALONE}
        self.configure(settings)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process lives. One that ended by itself is still to be waited for."""
        return self._process is not None and self._process.poll() is None

    @property
    def client(self) -> Client:
        """A connection for the test's own requests."""
        if self._client is None:
            self._client = Client(self.url, tls=self.tls)
        return self._client

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`kvs words… CONFIG` on the node's own host, to its end."""
        environment = {**os.environ, "KVS_HOME": str(self.folder / "home")}
        command = [sys.executable, "-m", "kvs", *words, str(self._config)]
        return subprocess.run(
            command, cwd=_REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def configure(self, settings: Mapping[str, object]) -> None:
        """Change settings, from the next start on."""
        self._settings.update(settings)
        self._config.touch(mode=0o600)
        self._config.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in self._settings.items()))

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Returns when the node serves. Raises NotStarted when it ends before."""
        self.begin(environment)
        self.wait_until_it_serves()

    def begin(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it and do not wait; `wait_until_it_serves` follows."""
        assert self._process is None
        self._told.clear()
        self.url = ""
        own = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")}
        own |= {"KVS_HOME": str(self.folder / "home"), "PYTHONUNBUFFERED": "1"}
        own |= {**self.environment, **(environment or {})}
        with (self.folder / "errors.log").open("a") as errors:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", "kvs", str(self._config)],
                cwd=_REPOSITORY,
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
            )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def wait_until_it_serves(self) -> None:
        """Raises NotStarted when it ends before."""
        if not self._told.wait(START_TIMEOUT_S):
            self.kill()
            raise AssertionError(f"the node did not start within {START_TIMEOUT_S} s")
        if not self.url:
            code = self.wait()
            raise NotStarted(code, "\n".join(self.log), self.errors())

    def kill(self) -> None:
        """SIGKILL, as by the kernel: nothing of the process's own runs any more. No matter if it ended before."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    def stop(self) -> None:
        """SIGTERM, and it must end well and soon."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self.wait(STOP_TIMEOUT_S)
        assert code == 0, f"SIGTERM ended the node with {code}: {self.errors()}"

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """The exit code of a process that ends by itself, within `timeout_s`."""
        assert self._process is not None
        assert self._reader is not None
        code = self._process.wait(timeout_s)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        if self._client is not None:
            self._client.close()
            self._client = None
        return code

    def errors(self) -> str:
        """All it ever wrote on standard error."""
        return (self.folder / "errors.log").read_text(errors="replace")

    def logged(self, level: str) -> list[str]:
        """The events logged at this level."""
        lines = [json.loads(line) for line in self.log if line.startswith("{")]
        return [str(line.get("event")) for line in lines if line.get("level") == level]

    def assert_no_traceback(self) -> None:
        text = "\n".join((*self.log, self.errors()))
        assert "Traceback" not in text, text[-4000:]

    def _read_log(self) -> None:
        """Follow standard output: the line that names the URL says that the node serves, the end that it never will."""
        assert self._process is not None
        assert self._process.stdout is not None
        with (self.folder / "output.log").open("a") as file:
            for line in self._process.stdout:
                file.write(line)
                self.log.append(line.rstrip("\n"))
                if not self.url and '"url"' in line:
                    self.url = str(json.loads(line)["url"])
                    self._told.set()
        self._told.set()
