"""Running `kvs` as a user does: real processes, an own KVS_HOME, free ports."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
ALONE = "auth_enabled: false\nclustering_enabled: false\n"
RUN_TIMEOUT_S = 60
Environ = Mapping[str, str]


@dataclass
class Result:
    """How a command ended, and its standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


@dataclass
class Cli:
    """Commands run in `folder`. Daemons that are left at the end are killed by `kill_all`."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self, extra: Environ) -> dict[str, str]:
        """This process's, without its KVS variables, and with `extra`."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KVS_")}
        return {**clean, "PYTHONPATH": str(ROOT), "KVS_HOME": str(self.home), **extra}

    def run(
        self, *words: str | Path, cwd: Path | None = None, environ: Environ | None = None, given: str = ""
    ) -> Result:
        """`kvs words…` to its end, with `given` on standard input; no traceback may come out of it."""
        done = subprocess.run(
            [sys.executable, "-m", "kvs", *map(str, words)],
            cwd=cwd or self.folder,
            env=self.environment(environ or {}),
            input=given,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in result.all, result.all
        return result

    def pipe(self, *words: str | Path, given: bytes = b"", environ: Environ | None = None) -> tuple[int, bytes, str]:
        """The same with bytes on standard input and output: (code, output, errors)."""
        done = subprocess.run(
            [sys.executable, "-m", "kvs", *map(str, words)],
            cwd=self.folder,
            env=self.environment(environ or {}),
            input=given,
            capture_output=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
        errors = done.stderr.decode()
        assert "Traceback" not in errors, errors
        return done.returncode, done.stdout, errors

    def popen(
        self, *words: str | Path, stdout: int = subprocess.PIPE, environ: Environ | None = None
    ) -> "subprocess.Popen[str]":
        return _Process(
            [sys.executable, "-m", "kvs", *map(str, words)],
            cwd=self.folder,
            env=self.environment(environ or {}),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_interrupts,
        )

    def config(self, name: str = "node1.yaml", text: str = "", *, folder: str = ".", port: int = 0) -> Path:
        """A configuration of a node with a data folder and a port of its own."""
        path = self.folder / folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        data = "" if "data_dir:" in text else f"data_dir: ./data-{path.stem}\n"
        path.write_text(f"{ALONE}port: {port}\n{data}{text}")
        path.chmod(0o600)
        return path

    def status(self, *words: str | Path) -> Any:
        return json.loads(self.run("status", "--json", *words).out)

    def pid_file(self, name: str = "node1") -> Path:
        return self.home / "pids" / f"{name}.pid"

    def log_file(self, name: str = "node1") -> Path:
        return self.home / "logs" / f"{self.folder.name}_{name}.yaml.log"

    def kill_all(self) -> None:
        """Kill what this object's PID files name, if it is a daemon of this object's configurations."""
        for path in (self.home / "pids").glob("*.pid"):
            try:
                data = json.loads(path.read_text())
                command = Path(f"/proc/{data['pid']}/cmdline").read_bytes()
            except (OSError, ValueError, KeyError):
                continue
            if str(data["config"]).encode() in command and str(self.folder) in data["config"]:
                os.kill(data["pid"], signal.SIGKILL)


def free_port() -> int:
    """One that was free a moment ago, for nodes that are to keep it through a restart."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def next_event(process: "subprocess.Popen[str]", event: str) -> dict[str, Any]:
    """The next line of the process's log with that event; waits for it."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        data = json.loads(line) if line.startswith("{") else {}
        if data.get("event") == event:
            assert isinstance(data, dict)
            return data
    raise AssertionError(f"the log ended without {event!r}: {''.join(seen)}")


class _Process(subprocess.Popen[str]):
    """One that does not outlive the block of a test that fails."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, at)


def _heed_interrupts() -> None:
    """A shell has what it starts in the background ignore them, and all that is started there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
