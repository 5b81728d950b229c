"""The end of a node, also when a part of it fails to stop."""

from pathlib import Path
from unittest.mock import AsyncMock, patch

import pytest

from kvs.config import Config
from kvs.errors import StoreClosed
from kvs.server.server import Server
from kvs.storage.memory import MemoryStore


async def test_what_fails_to_stop_keeps_nothing_else_from_it(tmp_path: Path) -> None:
    store = MemoryStore()
    config = Config(node_id="node1", port=0, data_dir=tmp_path, auth_enabled=False, clustering_enabled=False)
    server = Server(config, store)
    await server.start()
    broken = AsyncMock(side_effect=RuntimeError("a bug"))
    with patch.object(server._backups, "stop", broken), pytest.raises(RuntimeError, match="a bug"):
        await server.stop()
    with pytest.raises(StoreClosed):
        store.check_open()
    assert server._backups is not None
    await server._backups.stop()
