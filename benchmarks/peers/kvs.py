"""KVS itself and the bare handlers, in the shape of the others."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks.load import DOCUMENT, GET_PATH, GETS, GETS_IN_TURN, KEYS, PUTS, Outcome, run_wrk
from benchmarks.processes import Running
from kvs import __version__


class Local:
    """One of this project's servers, asked with wrk."""

    hint = ""

    def __init__(self, name: str, told: str, start: Callable[[Path], AbstractContextManager[Running]]) -> None:
        self.name, self.told = name, told
        self._start = start
        self._server = Running("", 0, 0)

    def version(self) -> str:
        return __version__

    @contextmanager
    def started(self, folder: Path) -> Iterator["Local"]:
        with self._start(folder) as self._server:
            status, _ = self._server.request("PUT", GET_PATH, DOCUMENT)
            if status not in (200, 201):
                raise RuntimeError(f"{self.name}: PUT answers {status}")
            yield self

    def fill(self) -> None:
        """Write what GETS_IN_TURN asks for. (The bare handlers need nothing.)"""
        item = b'{"op":"put","path":"bench/%d","data":' + DOCUMENT + b"}"
        items = b",".join(item % number for number in range(1, KEYS + 1))
        if not self._server.write_many(b"[" + items + b"]") <= {200, 201}:
            raise RuntimeError(f"{self.name} does not take all keys")

    def run(self, method: str, seconds: int, folder: Path, pause_ms: float = 0.0) -> Outcome:
        requests = {"GET": GETS, "PUT": PUTS, "GET in turn": GETS_IN_TURN}[method]
        return run_wrk(self._server.url, self._server.headers, seconds, requests, folder, pause_ms=pause_ms)
