"""Issuing certificates: an authority of one's own, and what it vouches for.

Keys are ECDSA on P-256, which every TLS library of the last decade takes. The forms are those of RFC 5280.
"""

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kvs.limits import CERTIFICATE_BACKDATE_S

_COMMON_NAME_MAX_CHARS = 64
"""RFC 5280, ub-common-name."""


IssuerKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class Issued(NamedTuple):
    """Both in PEM."""

    certificate: bytes
    key: bytes


class Issuer(NamedTuple):
    certificate: x509.Certificate
    key: IssuerKey


def issue_authority(now_ms: int, days: int) -> Issued:
    """An authority that can issue certificates of nodes and clients, and no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"KVS authority {secrets.token_hex(4)}")  # so that two of them can be told apart
    public = key.public_key()
    builder = (
        _begun(name, name, public, now_ms, _time(now_ms) + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    return _finished(builder.sign(key, SHA256()), key)


def issue(issuer: Issuer, name: str, hosts: Iterable[str], now_ms: int, days: int, *, is_node: bool) -> Issued:
    """A certificate for these hosts and IP addresses. With `is_node` it is good for serving and for asking, else for
    asking only. It does not outlive its issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    ends = min(_time(now_ms) + timedelta(days=days), issuer.certificate.not_valid_after_utc)
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if is_node:
        purposes.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = (
        _begun(_name(name[:_COMMON_NAME_MAX_CHARS]), issuer.certificate.subject, key.public_key(), now_ms, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(issuer_id, critical=False)
    )
    names = [_general_name(host) for host in hosts]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    has_own_hash = isinstance(issuer.key, ed25519.Ed25519PrivateKey)
    return _finished(builder.sign(issuer.key, None if has_own_hash else SHA256()), key)


def _begun(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now_ms: int, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now_ms) - timedelta(seconds=CERTIFICATE_BACKDATE_S))
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _finished(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        certificate.public_bytes(Encoding.PEM), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _time(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms // 1000, UTC)
