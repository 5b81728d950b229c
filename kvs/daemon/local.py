"""The credentials of the operator on the node's own host: made from the key in the data directory, or from the
configuration."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from kvs.daemon.failure import FAILED, NOT_FOUND, Failed
from kvs.daemon.trust import Trust

if TYPE_CHECKING:
    from kvs.config import Config
    from kvs.tls.files import Identity


def local_credential(config_word: str, *, may_be_open: bool = False) -> tuple[str, str, Trust]:
    """The URL of the running node of a configuration, an `Authorization` field that lets manage its accounts for a
    minute, and how the node is known; with `may_be_open` the field is empty for a node that asks nobody. Raises Failed,
    ConfigError, StartError."""
    from kvs.auth import secrets
    from kvs.auth.tokens import LOCAL_SCHEME, derive_key, issue_local

    config = load_config(config_word)
    if not (config.auth_enabled or may_be_open):
        raise Failed(f"{config.path}: with auth_enabled: false the node asks nobody for a token, and has no accounts")
    url, fingerprint = _running(config, config_word)
    if not config.auth_enabled:
        return url, "", Trust(fingerprint=fingerprint)
    key = derive_key(secrets.load(config.data_dir), "local")
    token = issue_local(key, jti=str(uuid4()), now_ms=time.time_ns() // 1_000_000)
    return url, f"{LOCAL_SCHEME} {token}", Trust(fingerprint=fingerprint)


def local_peer(config_word: str) -> tuple[str, dict[str, str], Trust]:
    """The URL of the running node of a configuration, the header fields by which a member of its cluster is known, and
    how the node is known, with the certificate that it may want to see. Raises Failed, ConfigError, StartError."""
    config = load_config(config_word)
    if not config.clustering_enabled or not config.cluster_secret:
        raise Failed(f"{config.path}: it has no cluster: that takes clustering_enabled and a cluster_secret", FAILED)
    url, fingerprint = _running(config, config_word)
    headers = {"X-Cluster-Secret": config.cluster_secret, "X-Node-ID": config.node_id}
    return url, headers, Trust(fingerprint=fingerprint, identity=_identity(config))


def peer_access(config: "Config") -> tuple[str, dict[str, str], Trust]:
    """The scheme by which the node of a configuration asks the others of its cluster, the header fields by which it is
    known to them, and whom it believes. Raises StartError."""
    headers = {"X-Cluster-Secret": config.cluster_secret, "X-Node-ID": config.node_id}
    if not config.cluster_tls_enabled:
        return "http", headers, Trust()
    return "https", headers, Trust(config.cluster_tls_ca_file, identity=_identity(config))


def _identity(config: "Config") -> "Identity | None":
    if config.certificate_file is None or config.key_file is None:
        return None
    from kvs.tls.files import load_identity

    return load_identity(config.certificate_file, config.key_file, time.time_ns() // 1_000_000)


def local_node(config_word: str) -> tuple["Config", bool]:
    """A configuration, and whether its node runs. Raises Failed, ConfigError."""
    from kvs.daemon.home import Home
    from kvs.daemon.instances import inspect

    config = load_config(config_word)
    assert config.path is not None
    return config, inspect(Home.of(os.environ), config.path).running is not None


def load_config(config_word: str) -> "Config":
    """What this word of a command line names. Raises Failed, ConfigError."""
    from kvs.config import load
    from kvs.daemon.home import Home
    from kvs.daemon.instances import config_of

    return load(config_of(config_word, Home.of(os.environ)), os.environ)


def config_file(config_word: str) -> Path:
    """The file that this word of a command line names, as it is written. Raises Failed."""
    from kvs.daemon.home import Home
    from kvs.daemon.instances import named_config

    given = Path(config_word)
    # Where no home folder is known a file can be named nevertheless.
    return given if given.is_file() else named_config(config_word, Home.of(os.environ))


def _running(config: "Config", config_word: str) -> tuple[str, str]:
    """The URL of the node, and the fingerprint of its certificate."""
    from kvs.daemon.home import Home
    from kvs.daemon.instances import inspect

    assert config.path is not None
    running = inspect(Home.of(os.environ), config.path).running
    if running is None or not running.url:
        raise Failed(f"the node of {config.path} does not run; start it first: kvs start {config_word}", NOT_FOUND)
    return running.url, running.certificate
