"""The credential of the operator on the node's own host: made from the key in the data directory."""

import os
import time
from pathlib import Path
from uuid import uuid4

from kvs.daemon.failure import NOT_FOUND, Failed


def local_credential(config_word: str) -> tuple[str, str]:
    """The URL of the running node of a configuration, and an `Authorization` field that lets manage its accounts for a
    minute. Raises Failed, ConfigError, StartError."""
    from kvs.auth import secrets
    from kvs.auth.tokens import LOCAL_SCHEME, derive_key, issue_local
    from kvs.config import load
    from kvs.daemon.home import Home
    from kvs.daemon.instances import config_of, inspect

    home = Home.of(os.environ)
    path: Path = config_of(config_word, home)
    config = load(path, os.environ)
    if not config.auth_enabled:
        raise Failed(f"{path}: with auth_enabled: false the node asks nobody for a token, and has no accounts")
    running = inspect(home, path).running
    if running is None or not running.url:
        raise Failed(f"the node of {path} does not run; start it first: kvs start {config_word}", NOT_FOUND)
    key = derive_key(secrets.load(config.data_dir), "local")
    token = issue_local(key, jti=str(uuid4()), now_ms=time.time_ns() // 1_000_000)
    return running.url, f"{LOCAL_SCHEME} {token}"
