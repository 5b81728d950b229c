"""Reading certificates and keys, and finding every reason why they would not do before anybody is served with them.

Links are followed, as the tools that renew certificates put links where a name must stay. What was checked is handed on
as it was read: nothing can come in between a check and its use.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from kvs.errors import StartError
from kvs.tls.issuing import Issuer, IssuerKey

_FILE_MAX_BYTES = 1024 * 1024


class Identity(NamedTuple):
    """Who a node is towards others."""

    pem: bytes
    """The certificate, the chain behind it, and the key."""
    fingerprint: str
    """SHA-256 of the certificate, in hexadecimal."""
    ends_at: int
    """Unix ms."""
    names: frozenset[str]
    """Hosts and addresses that it is made for."""


class Authority(NamedTuple):
    """Whose certificates are believed."""

    pem: bytes
    ends_at: int
    """Of the one that ends last; Unix ms."""


def load_identity(certificate_file: Path, key_file: Path, now_ms: int) -> Identity:
    """A certificate and its key, both in PEM. Raises StartError with one line that names the file."""
    chain = _certificates(certificate_file)
    certificate = chain[0]
    key = _key(key_file)
    if _public(certificate) != _public(key):
        raise StartError(f"the certificate {certificate_file} and the key {key_file} do not belong together")
    _check_times([certificate], certificate_file, now_ms)
    texts = [each.public_bytes(Encoding.PEM) for each in chain]
    texts.append(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Identity(
        b"".join(texts), certificate.fingerprint(SHA256()).hex(), _ends_at(certificate), names_of(certificate)
    )


def check_certificate(path: Path, now_ms: int) -> None:
    """Of a node, in PEM, good at this time. Raises StartError with one line that names the file."""
    _check_times(_certificates(path)[:1], path, now_ms)


def check_key(path: Path) -> None:
    """Raises StartError with one line that names the file."""
    _key(path)


def load_authority(path: Path, now_ms: int) -> Authority:
    """One or more certificates in PEM. Raises StartError with one line that names the file."""
    certificates = _certificates(path)
    _check_times(certificates, path, now_ms)
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
    return Authority(pem, max(map(_ends_at, certificates)))


def load_issuer(certificate_file: Path, key_file: Path, now_ms: int) -> Issuer:
    """An authority that certificates can be issued with. Raises StartError with one line that names the file."""
    load_identity(certificate_file, key_file, now_ms)
    certificate, key = _certificates(certificate_file)[0], _key(key_file)
    if not isinstance(key, IssuerKey):
        raise StartError(f"the key {key_file} is not of a kind that certificates are issued with here")
    if not _is_authority(certificate):
        raise StartError(f"the certificate {certificate_file} is not one of an authority")
    return Issuer(certificate, key)


def names_of(certificate: x509.Certificate) -> frozenset[str]:
    """The hosts and addresses that a certificate is made for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    hosts = found.get_values_for_type(x509.DNSName)
    return frozenset([*hosts, *map(str, found.get_values_for_type(x509.IPAddress))])


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _read(path: Path, what: str, *, is_secret: bool = False) -> bytes:
    """Raises StartError when it is missing, no file, too large, or a secret that others may read."""
    try:
        # A FIFO or a device must not block or act on being opened; the mode is that of the very file that is read.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise StartError(f"the {what} {path} is not a file")
            if is_secret and found.st_mode & 0o077:
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise StartError(f"the {what} {path} may be read by others (mode {mode}); chmod it to 0600")
            text = file.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise StartError(f"cannot read the {what} {path}: {error.strerror}") from None
    if len(text) > _FILE_MAX_BYTES:
        raise StartError(f"the {what} {path} is larger than {_FILE_MAX_BYTES} bytes")
    return text


def _certificates(path: Path) -> list[x509.Certificate]:
    text = _read(path, "certificate")
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError:
        raise StartError(f"the certificate {path} is not one in PEM: -----BEGIN CERTIFICATE----- …") from None


def _key(path: Path) -> PrivateKeyTypes:
    text = _read(path, "key", is_secret=True)
    try:
        return load_pem_private_key(text, None)
    except TypeError:
        raise StartError(f"the key {path} has a passphrase, for which nobody can be asked; store it without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise StartError(f"the key {path} is not a private key in PEM: -----BEGIN PRIVATE KEY----- …") from None


def _public(of: x509.Certificate | PrivateKeyTypes) -> bytes:
    return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_times(certificates: Sequence[x509.Certificate], path: Path, now_ms: int) -> None:
    """One that is good is enough: an authority may stand beside its successor."""
    if all(_ends_at(each) <= now_ms for each in certificates):
        ended = max(each.not_valid_after_utc for each in certificates)
        raise StartError(f"the certificate {path} expired at {_shown(ended.isoformat())}")
    begins = min(each.not_valid_before_utc for each in certificates)
    if begins.timestamp() * 1000 > now_ms:
        raise StartError(f"the certificate {path} is not good before {_shown(begins.isoformat())}; is the clock right?")


def _ends_at(certificate: x509.Certificate) -> int:
    return int(certificate.not_valid_after_utc.timestamp() * 1000)


def _shown(moment: str) -> str:
    return moment.replace("+00:00", "Z")
