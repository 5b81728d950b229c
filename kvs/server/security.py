"""The keys of a node and what is built from them: the gate, the signing of tokens, the sealing of cursors."""

from collections.abc import Callable
from typing import NamedTuple

from kvs.auth import secrets
from kvs.auth.tokens import SigningKey, derive_key
from kvs.config import Config
from kvs.errors import StartError
from kvs.server.authentication import Gate, OpenGate, PeerGate, TokenGate
from kvs.server.cursor import Cursors
from kvs.storage.store import Store


class Security(NamedTuple):
    """`token_key` is None when authentication is switched off."""

    gate: Gate
    token_key: SigningKey | None
    cursors: Cursors


def build_security(config: Config, store: Store, now_ms: Callable[[], int]) -> Security:
    """Raises StartError when the data directory's key cannot be made or read."""
    if not config.auth_enabled:
        return Security(_for_peers(OpenGate(), config), None, Cursors())
    try:
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"cannot use the data directory {config.data_dir}: {error.strerror}") from None
    own = secrets.load_or_make(config.data_dir)
    shared = cluster_secrets(config) or [own]
    keys = [derive_key(secret, "tokens") for secret in shared]
    gate = TokenGate(
        store,
        keys,
        derive_key(own, "local"),
        now_ms,
        anonymous=[name for name in ("allow_anonymous_read", "allow_anonymous_write") if getattr(config, name)],
    )
    return Security(_for_peers(gate, config), keys[0], Cursors(derive_key(shared[0], "cursors").key))


def _for_peers(gate: Gate, config: Config) -> Gate:
    if not config.clustering_enabled:
        return gate
    return PeerGate(gate, cluster_secrets(config), wants_certificate=config.cluster_tls_mutual)


def cluster_secrets(config: Config) -> list[bytes]:
    """What all nodes of the cluster share: the secret in use, then the one before it. None for a lone node."""
    if not config.clustering_enabled:
        return []
    return [secret.encode() for secret in (config.cluster_secret, config.cluster_secret_previous) if secret]
