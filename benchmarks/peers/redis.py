"""Redis, asked by redis-benchmark in its own protocol, which is less work than HTTP for both sides."""

import csv
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import CONNECTIONS, DOCUMENT, KEYS, Outcome
from benchmarks.peers.process import free_port, listens, program, running, version

_FIRST_GUESS_PER_S = 20_000.0


class Redis:
    """One server whose log is synced behind every write (`appendfsync always`)."""

    name = "redis"
    hint = "apt install redis-server redis-tools"
    told = "its own protocol, not HTTP; appendfsync always"

    def __init__(self) -> None:
        self._port = 0
        self._rates = {"GET": _FIRST_GUESS_PER_S, "PUT": _FIRST_GUESS_PER_S}

    def version(self) -> str:
        return version([program("redis-server", self.hint), "--version"])

    @contextmanager
    def started(self, folder: Path) -> Iterator["Redis"]:
        command = [program("redis-server", self.hint)]
        program("redis-benchmark", self.hint)
        self._port = free_port()
        command += ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(folder)]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with running(command, folder, lambda: listens(self._port)):
            self._benchmark("PUT", KEYS)
            yield self

    def run(self, method: str, seconds: int, folder: Path, pause_ms: float = 0.0) -> Outcome:
        """redis-benchmark counts requests, not time: as many as took the time before."""
        if pause_ms:
            raise NotImplementedError("redis-benchmark makes no pauses")
        outcome = self._benchmark(method, max(1, round(self._rates[method] * seconds)))
        self._rates[method] = outcome.rate
        return outcome

    def _benchmark(self, method: str, count: int) -> Outcome:
        command = [program("redis-benchmark", self.hint), "-h", "127.0.0.1", "-p", str(self._port), "--csv"]
        command += ["-c", str(CONNECTIONS), "-n", str(count), "-r", str(KEYS), "-d", str(len(DOCUMENT))]
        command += ["-t", "set" if method == "PUT" else "get"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (row,) = csv.DictReader(text[text.index('"test"') :].splitlines())
        return Outcome(float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))
