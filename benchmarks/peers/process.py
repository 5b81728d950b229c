"""The process of another database: its own folder, a free port of 127.0.0.1, and its end."""

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
INSTALLED = ROOT / ".peers"
"""Where `make peers` puts what is in no distribution."""
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05


class Missing(Exception):
    """A peer cannot be compared with: it is not installed, or does not start. The text says which, and what helps."""


def program(name: str, hint: str, *more: Path) -> str:
    """Where a program is, on the PATH or in one of the folders. Raises Missing with the hint."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, more), "/usr/sbin"]))
    if found is None:
        raise Missing(f"{name} is not installed: {hint}")
    return found


def version(command: Sequence[str]) -> str:
    """The first line that a program prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_START_TIMEOUT_S)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def free_port() -> int:
    """Free a moment ago: programs that cannot choose one by themselves are given it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], folder: Path, is_ready: Callable[[], bool], environ: Mapping[str, str] | None = None
) -> Iterator[int]:
    """The process while it is wanted; its pid. What it prints goes to `output` in the folder. Raises Missing with its
    last lines when it does not get ready."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _asked(is_ready):
            if process.poll() is not None or time.monotonic() > deadline:
                said = (folder / "output").read_text(errors="replace").strip().splitlines()[-3:]
                ended = "does not get ready" if process.returncode is None else f"ended with {process.returncode}"
                raise Missing(f"{Path(command[0]).name} {ended}: {' | '.join(said)}")
            time.sleep(_POLL_S)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=_START_TIMEOUT_S) as answer:
        return bool(answer.status == 200)


def listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=_START_TIMEOUT_S):
        return True


def _asked(is_ready: Callable[[], bool]) -> bool:
    with suppress(OSError, urllib.error.URLError):
        return is_ready()
    return False
