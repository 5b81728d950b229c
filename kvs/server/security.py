"""The keys of a node and what is built from them: the gate, the signing of tokens, the sealing of cursors."""

from collections.abc import Callable
from typing import NamedTuple

from kvs.auth import secrets
from kvs.auth.tokens import SigningKey, derive_key
from kvs.cluster.audit_heads import HeadKey
from kvs.config import Config
from kvs.disk import make_private
from kvs.errors import StartError
from kvs.server.authentication import Gate, OpenGate, PeerGate, TokenGate
from kvs.server.browsers import browsers_of
from kvs.server.cursor import Cursors
from kvs.storage.store import Store


class AuditKeys(NamedTuple):
    """`signing` signs the heads of the audit log, `trusted` are the public keys that may have signed them, `config` is
    for the digests of settings."""

    signing: HeadKey
    trusted: frozenset[str]
    config: bytes


class Security(NamedTuple):
    """`token_key` is None when authentication is switched off."""

    gate: Gate
    token_key: SigningKey | None
    cursors: Cursors


def build_security(
    config: Config, store: Store, now_ms: Callable[[], int], is_unproven: Callable[[], bool] = lambda: False
) -> Security:
    """`is_unproven` is that of TokenGate. Raises StartError when the data directory's key cannot be made or read."""
    browsers = browsers_of(config)
    if not config.auth_enabled:
        return Security(_for_peers(OpenGate(browsers), config), None, Cursors())
    own = _own_secret(config)
    shared = cluster_secrets(config) or [own]
    keys = [derive_key(secret, "tokens") for secret in shared]
    gate = TokenGate(
        store,
        keys,
        derive_key(own, "local"),
        now_ms,
        browsers,
        anonymous=[name for name in ("allow_anonymous_read", "allow_anonymous_write") if getattr(config, name)],
        is_unproven=is_unproven,
    )
    return Security(_for_peers(gate, config), keys[0], Cursors(derive_key(shared[0], "cursors").key))


def build_audit_keys(config: Config) -> AuditKeys:
    """Raises StartError when the data directory's key cannot be made or read."""
    return audit_keys(config, _own_secret(config))


def audit_keys(config: Config, own: bytes) -> AuditKeys:
    """The same of a data directory whose secret is `own`."""
    keys = [HeadKey(derive_key(secret, "audit").key) for secret in (*cluster_secrets(config), own)]
    return AuditKeys(keys[0], frozenset(key.public for key in keys), derive_key(own, "audit").key)


def _own_secret(config: Config) -> bytes:
    try:
        make_private(config.data_dir)
    except OSError as error:
        raise StartError(f"cannot use the data directory {config.data_dir}: {error.strerror}") from None
    return secrets.load_or_make(config.data_dir)


def _for_peers(gate: Gate, config: Config) -> Gate:
    if not config.clustering_enabled:
        return gate
    return PeerGate(gate, cluster_secrets(config), wants_certificate=config.cluster_tls_mutual)


def cluster_secrets(config: Config) -> list[bytes]:
    """What all nodes of the cluster share: the secret in use, then the one before it. None for a lone node."""
    if not config.clustering_enabled:
        return []
    return [secret.encode() for secret in (config.cluster_secret, config.cluster_secret_previous) if secret]
