"""moat-kv, the nearest thing to KVS in Python. Its releases do not start with what PyPI has of the libraries that they
ask for, so a run only says what is wrong with the one that `make peers` installs."""

import subprocess

from benchmarks.peers.process import INSTALLED

NAME = "moat-kv"
_IMPORT_TIMEOUT_S = 60.0
_SERVER = "import moat.kv.server, moat.kv.backend.mqtt"


def why_not() -> str:
    """Why it is not compared with."""
    python = INSTALLED / "moat/bin/python"
    if not python.exists():
        return "not compared: moat-kv is not installed: make peers"
    done = subprocess.run(
        [str(python), "-c", _SERVER], capture_output=True, text=True, check=False, timeout=_IMPORT_TIMEOUT_S
    )
    if done.returncode == 0:
        return "not compared: its server can be imported, but its watch is not measured here"
    return f"not compared: its server does not start: {done.stderr.strip().splitlines()[-1]}"
