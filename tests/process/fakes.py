"""Servers that misbehave, put in the place of the real one in a daemon's process."""

from pathlib import Path

_MODULE = """
import sys, types

class Server:
    def __init__(self, config):
        self.config = config
        self.url = "http://127.0.0.1:1"
        self.first_account = ""
        self.fingerprint = ""
    async def start(self):
        import asyncio, os
        {start}
    async def failed(self):
        import asyncio
        await asyncio.Event().wait()
    async def stop(self):
        import asyncio
        {stop}

module = types.ModuleType("kvs.server.server")
module.Server = Server
sys.modules["kvs.server.server"] = module
"""


def install(folder: Path, *, start: str = "pass", stop: str = "pass") -> dict[str, str]:
    """Environment variables under which a daemon has the fake server with these statements."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_MODULE.format(start=start, stop=stop))
    return {"PYTHONPATH": f"{Path(__file__).parents[2]}:{folder}"}
