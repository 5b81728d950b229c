"""Certificates and keys that would not do are found before anybody is served with them, each with one line."""

import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from kvs.errors import StartError
from kvs.tls.contexts import server_context
from kvs.tls.files import load_authority, load_identity, load_issuer
from tests.certificates import DAY_MS, LOOPBACK, Authority, Files, now_ms, self_signed


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def node(authority: Authority) -> Files:
    return authority.issue("node")


def refusal(files: Files, at_ms: int | None = None) -> str:
    with pytest.raises(StartError) as raised:
        load_identity(*files, now_ms() if at_ms is None else at_ms)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- what will do ---


def test_a_pair_is_loaded_with_its_names_end_and_chain(authority: Authority, node: Files) -> None:
    node.certificate.write_bytes(node.certificate.read_bytes() + authority.file.read_bytes())
    loaded = load_identity(*node, now_ms())
    assert loaded.names == frozenset(LOOPBACK)
    assert abs(loaded.ends_at - now_ms() - 365 * DAY_MS) < 60_000
    assert loaded.pem.count(b"BEGIN CERTIFICATE") == 2
    shown = x509.load_pem_x509_certificates(node.certificate.read_bytes())[0]
    assert loaded.fingerprint == shown.fingerprint(SHA256()).hex()
    server_context(loaded, None)


def test_links_are_followed(node: Files, tmp_path: Path) -> None:
    """The tools that renew certificates put links where a name must stay."""
    links = Files(tmp_path / "live.pem", tmp_path / "live.key")
    for link, file in zip(links, node, strict=True):
        link.symlink_to(file)
    assert load_identity(*links, now_ms()) == load_identity(*node, now_ms())


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_other_kinds_of_keys_are_good_too(tmp_path: Path, kind: str) -> None:
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ed25519.Ed25519PrivateKey.generate()
    loaded = load_identity(*self_signed(tmp_path, key), now_ms())
    assert loaded.names == frozenset()
    server_context(loaded, None)


def test_a_key_in_the_form_of_openssl_is_good_too(node: Files) -> None:
    key = load_pem_private_key(node.key.read_bytes(), None)
    node.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    load_identity(*node, now_ms())


def test_an_authority_may_stand_beside_its_successor(tmp_path: Path) -> None:
    ended = Authority(tmp_path, "old", at_ms=now_ms() - 20 * DAY_MS, days=10)
    both = tmp_path / "both.pem"
    both.write_bytes(ended.file.read_bytes() + Authority(tmp_path, "new").file.read_bytes())
    assert load_authority(both, now_ms()).pem.count(b"BEGIN CERTIFICATE") == 2
    with pytest.raises(StartError, match=r"the certificate \S+old.pem expired at 20\d\d-\d\d-\d\dT[\d:]+Z"):
        load_authority(ended.file, now_ms())


# --- what will not ---


@pytest.mark.parametrize("part", [0, 1])
def test_a_missing_file(node: Files, part: int) -> None:
    node[part].unlink()
    what = ("certificate", "key")[part]
    assert refusal(node) == f"cannot read the {what} {node[part]}: No such file or directory"


@pytest.mark.parametrize("part", [0, 1])
def test_what_is_no_file(node: Files, part: int) -> None:
    node[part].unlink()
    os.mkfifo(node[part], 0o600)
    assert refusal(node).endswith(f"{node[part]} is not a file")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_key_that_others_may_read(node: Files, mode: int) -> None:
    node.key.chmod(mode)
    assert refusal(node) == f"the key {node.key} may be read by others (mode {mode:04o}); chmod it to 0600"


def test_everybody_may_read_the_certificate(node: Files) -> None:
    node.certificate.chmod(0o644)
    load_identity(*node, now_ms())


def test_files_that_do_not_belong_together(authority: Authority, node: Files) -> None:
    other = authority.issue("other")
    assert refusal(Files(node.certificate, other.key)) == (
        f"the certificate {node.certificate} and the key {other.key} do not belong together"
    )


def test_an_expired_certificate(authority: Authority) -> None:
    files = authority.issue("node", at_ms=now_ms() - 20 * DAY_MS, days=10)
    assert f"the certificate {files.certificate} expired at " in refusal(files)


def test_a_certificate_of_tomorrow(authority: Authority) -> None:
    files = authority.issue("node", at_ms=now_ms() + DAY_MS)
    assert f"the certificate {files.certificate} is not good before " in refusal(files)


def test_a_key_with_a_passphrase(node: Files) -> None:
    key = load_pem_private_key(node.key.read_bytes(), None)
    node.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary")))
    assert "has a passphrase" in refusal(node)


@pytest.mark.parametrize("text", [b"", b"canary", b"-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("part", [0, 1])
def test_something_else_than_pem(node: Files, part: int, text: bytes) -> None:
    node[part].write_bytes(text)
    said = refusal(node)
    assert str(node[part]) in said
    assert "in PEM" in said
    assert "canary" not in said


def test_the_key_in_the_place_of_the_certificate(node: Files) -> None:
    assert "is not one in PEM" in refusal(Files(node.key, node.key))
    assert "is not a private key in PEM" in refusal(Files(node.certificate, _private(node.certificate)))


def _private(path: Path) -> Path:
    path.chmod(0o600)
    return path


def test_an_endless_file(node: Files) -> None:
    node.key.write_bytes(bytes(2_000_000))
    assert refusal(node) == f"the key {node.key} is larger than 1048576 bytes"


def test_a_key_that_is_too_weak(tmp_path: Path) -> None:
    identity = load_identity(*self_signed(tmp_path, rsa.generate_private_key(65537, 1024)), now_ms())
    with pytest.raises(StartError, match="the certificate cannot be used: EE_KEY_TOO_SMALL"):
        server_context(identity, None)


def test_only_an_authority_issues(authority: Authority, node: Files) -> None:
    assert load_issuer(authority.file, authority.file.with_suffix(".key"), now_ms()).certificate.subject
    with pytest.raises(StartError, match="is not one of an authority"):
        load_issuer(*node, now_ms())
