"""The certificates of a running node: what its listener shows, what it shows its peers and whom it believes.

Handshakes are made with what was made of the files when they were read last, so that new ones count at once and
connections that stand are left alone.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import structlog

from kvs.config import Config
from kvs.limits import CERTIFICATE_WARNING_DAYS
from kvs.tls.contexts import client_context, server_context
from kvs.tls.files import Authority, Identity, load_authority, load_identity

log = structlog.get_logger()

_DAY_MS = 86_400_000


class _Read(NamedTuple):
    """What was made of the files when they were read last. `client` is None when peers are spoken to in the clear."""

    identity: Identity
    authority: Authority | None
    server: ssl.SSLContext
    client: ssl.SSLContext | None


class Tls:
    """For a node with a certificate."""

    def __init__(self, config: Config, now_ms: Callable[[], int]) -> None:
        """Raises StartError with one line for the operator."""
        self._config = config
        self._now_ms = now_ms
        self._read = self._read_files()

    @property
    def server(self) -> ssl.SSLContext:
        """For clients and peers that connect."""
        return self._read.server

    @property
    def client(self) -> ssl.SSLContext | None:
        """For asking peers; None when they are asked in the clear."""
        return self._read.client

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate that the listener shows, in hexadecimal."""
        return self._read.identity.fingerprint

    def reload(self) -> None:
        """Read the files anew. Raises StartError; then what was read before stays in use."""
        self._read = self._read_files()

    def check(self) -> None:
        """Tell of certificates that end soon."""
        self._warn_of_end(self._config.certificate_file, self._read.identity.ends_at)
        if self._read.authority is not None:
            self._warn_of_end(self._config.cluster_tls_ca_file, self._read.authority.ends_at)

    def check_address(self, address: str) -> None:
        """Tell when peers could not believe this node at `address` (host:port), where they reach it."""
        host = address.rpartition(":")[0].strip("[]")
        names = self._read.identity.names
        wildcard = f"*.{host.partition('.')[2]}"
        if self._read.client is not None and host not in names and wildcard not in names:
            log.warning(
                "The certificate is not made for the address at which peers reach this node",
                host=host,
                made_for=sorted(names),
            )

    def _read_files(self) -> _Read:
        config, now_ms = self._config, self._now_ms()
        certificate_file, key_file = config.certificate_file, config.key_file
        assert certificate_file is not None
        assert key_file is not None
        identity = load_identity(certificate_file, key_file, now_ms)
        authority = None
        if config.cluster_tls_enabled and config.cluster_tls_ca_file is not None:
            authority = load_authority(config.cluster_tls_ca_file, now_ms)
        client = None
        if config.cluster_tls_enabled:
            client = client_context(identity, None if config.cluster_tls_skip_verify else authority)
        server = server_context(identity, authority if config.cluster_tls_mutual else None)
        return _Read(identity, authority, server, client)

    def _warn_of_end(self, file: Path | None, ends_at: int) -> None:
        days = (ends_at - self._now_ms()) // _DAY_MS
        if days < 0:
            log.error("A certificate has expired", file=str(file))
        elif days < CERTIFICATE_WARNING_DAYS:
            log.warning("A certificate expires soon", file=str(file), days_left=days)


def check_files(config: Config, now_ms: int) -> None:
    """What a start would refuse. Raises StartError with one line for the operator."""
    if config.certificate_file is not None:
        Tls(config, lambda: now_ms)
