"""Nodes that run inside the test process, each on its own thread and event loop, as the daemon runs them."""

import asyncio
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

import uvloop

from kvs.config import Config
from kvs.server.server import Server, unix_ms
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.store import Store

_START_TIMEOUT_S = 30.0
_GIVEN: dict[str, Any] = {
    "node_id": "node1",
    "port": 0,
    "auth_enabled": False,
    "clustering_enabled": False,
    "rate_limit_requests": 1_000_000_000,
}


class Clock:
    """A clock that stands still unless it is told."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now_ms


class RunningNode:
    """A node on a free port; `settings` are those of the configuration. Its disk is not forced: nobody cuts power."""

    def __init__(
        self, folder: Path, *, clock: Clock | None = None, store: Store | None = None, **settings: Any
    ) -> None:
        backups = folder.with_name(f"{folder.name}-backups")
        config = Config(data_dir=folder, **{**_GIVEN, "backup_path": backups, **settings})
        self._server = Server(config, store or LevelDBStore(folder, sync=False))
        self._loop = uvloop.new_event_loop()
        self._stop_asked = asyncio.Event()
        self._address: Future[tuple[str, int]] = Future()
        self._thread = Thread(target=self._run, daemon=True)
        with patch("kvs.server.server.unix_ms", clock or unix_ms):
            self._thread.start()
            self.address = self._address.result(_START_TIMEOUT_S)

    @property
    def first_account(self) -> dict[str, str]:
        """What the node shows once, by its labels; empty when it made no account."""
        lines = (line.partition(": ") for line in self._server.first_account.splitlines())
        return {label: value for label, separator, value in lines if separator}

    def reload_certificates(self) -> None:
        """As SIGHUP does. Raises StartError."""

        async def reload() -> None:
            assert self._server.reload_certificates()

        asyncio.run_coroutine_threadsafe(reload(), self._loop).result(_START_TIMEOUT_S)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop_asked.set)
        self._thread.join(_START_TIMEOUT_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._server.start()
        except BaseException as error:
            self._address.set_exception(error)
            return
        host, _, port = self._server.url.partition("://")[2].rpartition(":")
        self._address.set_result((host, int(port)))
        await self._stop_asked.wait()
        await self._server.stop()
