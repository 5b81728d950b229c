"""Authorities, certificates and keys for tests, as files, and contexts of clients."""

import ssl
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from kvs.tls.issuing import Issued, Issuer, issue, issue_authority

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DAY_MS = 86_400_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Files(NamedTuple):
    certificate: Path
    key: Path


class Authority:
    """One authority, which puts its files and those that it issues into a folder; `name` tells several apart."""

    def __init__(self, folder: Path, name: str = "ca", *, at_ms: int = 0, days: int = 3650) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        issued = issue_authority(at_ms or now_ms(), days)
        self.file = self._save(name, issued).certificate
        key = load_pem_private_key(issued.key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.issuer = Issuer(x509.load_pem_x509_certificate(issued.certificate), key)

    def issue(
        self,
        name: str,
        hosts: Iterable[str] = LOOPBACK,
        *,
        at_ms: int = 0,
        days: int = 365,
        is_node: bool = True,
    ) -> Files:
        """Written over what had the name before, as tools do that renew certificates."""
        return self._save(name, issue(self.issuer, name, hosts, at_ms or now_ms(), days, is_node=is_node))

    def client(self, shown: Files | None = None) -> ssl.SSLContext:
        """A client that believes this authority, and shows a certificate if it is asked."""
        context = ssl.create_default_context(cafile=self.file)
        if shown is not None:
            context.load_cert_chain(*shown)
        return context

    def settings(self, node: Files, *, mutual: bool = False) -> dict[str, object]:
        """Of a node that serves HTTPS, and asks its peers by it."""
        return {
            "tls_cert_file": str(node.certificate),
            "tls_key_file": str(node.key),
            "cluster_tls_enabled": True,
            "cluster_tls_ca_file": str(self.file),
            "cluster_tls_mutual": mutual,
        }

    def _save(self, name: str, issued: Issued) -> Files:
        files = Files(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        for path, text in zip(files, issued, strict=True):
            path.write_bytes(text)
            path.chmod(0o600)
        return files


def self_signed(folder: Path, key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> Files:
    """A certificate with a key of another kind, which nobody vouches for and which names no host."""
    folder.mkdir(parents=True, exist_ok=True)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
    files = Files(folder / "self.pem", folder / "self.key")
    made = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())
    files.certificate.write_bytes(made.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.key.chmod(0o600)
    return files
