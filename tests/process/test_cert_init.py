"""`kvs cert init`: what it makes, that it makes it once, and what it does not touch."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from kvs.tls.files import load_identity, load_issuer, names_of
from tests.certificates import DAY_MS, LOOPBACK, Authority, now_ms
from tests.process.cli import Cli, Result, mode


def init(kvs: Cli, *words: str | Path) -> Result:
    """Made in `certs`; must go well."""
    made = kvs.run("cert", "init", "certs", *words)
    assert made.code == 0, made
    assert made.out == ""
    return made


def certificate(kvs: Cli, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((kvs.folder / "certs" / f"{name}.pem").read_bytes())


def names(kvs: Cli, name: str) -> set[str]:
    return set(names_of(certificate(kvs, name)))


def texts(kvs: Cli) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (kvs.folder / "certs").iterdir() if path.is_file()}


def refused(kvs: Cli, *words: str | Path) -> tuple[int, str]:
    """The code and the one line; nothing in the folder has changed."""
    before = texts(kvs)
    failed = kvs.run("cert", "init", "certs", *words)
    assert failed.code != 0
    assert failed.err.splitlines()[-1].count("\n") == 0
    assert texts(kvs) == before
    return failed.code, failed.err.splitlines()[-1]


# --- what is made ---


def test_an_authority_and_certificates_of_nodes_and_clients(kvs: Cli) -> None:
    init(kvs, "n1=10.0.0.1,n1.example.org", "n2.example.org", "n3=2001:DB8::1", "--client", "operator")
    folder = kvs.folder / "certs"
    assert sorted(texts(kvs)) == sorted(
        f"{n}.{e}" for n in ("ca", "n1", "n2.example.org", "n3", "operator") for e in ("pem", "key")
    )
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}
    assert names(kvs, "n1") == {"10.0.0.1", "n1.example.org", *LOOPBACK}
    assert names(kvs, "n2.example.org") == {"n2.example.org", *LOOPBACK}
    assert names(kvs, "n3") == {"2001:db8::1", *LOOPBACK}
    assert names(kvs, "operator") == set()
    for name, purposes in (
        ("n1", [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
        ("operator", [ExtendedKeyUsageOID.CLIENT_AUTH]),
    ):
        usage = certificate(kvs, name).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == purposes
        load_identity(folder / f"{name}.pem", folder / f"{name}.key", now_ms())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="it needs openssl")
def test_others_agree_that_the_certificates_are_well_made(kvs: Cli) -> None:
    init(kvs, "n1=127.0.0.1", "--client", "operator")
    for name, purpose, good in (
        ("n1", "sslserver", 0),
        ("n1", "sslclient", 0),
        ("operator", "sslclient", 0),
        ("operator", "sslserver", 2),
    ):
        done = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "ca.pem", f"{name}.pem"],
            cwd=kvs.folder / "certs",
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == good, (name, purpose, done)


def test_lifetimes(kvs: Cli) -> None:
    def days(name: str) -> float:
        found = certificate(kvs, name)
        return (found.not_valid_after_utc.timestamp() * 1000 - now_ms()) / DAY_MS

    init(kvs, "n1=127.0.0.1")
    init(kvs, "n2=127.0.0.1", "--days", "90")
    init(kvs, "n3=127.0.0.1", "--days", "36500")
    assert [round(days(name)) for name in ("ca", "n1", "n2", "n3")] == [3650, 365, 90, 3650]
    assert all(
        certificate(kvs, name).not_valid_before_utc.timestamp() < now_ms() / 1000 - 3000 for name in ("ca", "n1")
    )


def test_the_keys_are_all_different_and_of_one_kind(kvs: Cli) -> None:
    init(kvs, "n1=127.0.0.1", "n2=127.0.0.1")
    keys = [certificate(kvs, name).public_key() for name in ("ca", "n1", "n2")]
    assert all(isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1" for key in keys)
    assert len({key.public_numbers().x for key in keys if isinstance(key, ec.EllipticCurvePublicKey)}) == 3
    serials = {certificate(kvs, name).serial_number for name in ("ca", "n1", "n2")}
    assert len(serials) == 3


def test_a_configuration_says_who_and_where(kvs: Cli) -> None:
    for name, text in (
        ("a.yaml", "node_id: berlin\nbind_address: 10.0.0.1\nadvertise_address: berlin.example.org:8080\n"),
        ("b.yaml", 'node_id: oslo\nbind_address: 0.0.0.0\nadvertise_address: "[2001:db8::2]:8080"\n'),
        ("c.yaml", "node_id: rome\n"),
    ):
        kvs.config(name, text)
    init(kvs, "--config", "a.yaml", "--config", "b.yaml", "--config", "c.yaml")
    assert names(kvs, "berlin") == {"10.0.0.1", "berlin.example.org", *LOOPBACK}
    assert names(kvs, "oslo") == {"2001:db8::2", *LOOPBACK}
    assert names(kvs, "rome") == set(LOOPBACK)


def test_without_anything_named_it_is_for_this_host(kvs: Cli) -> None:
    made = kvs.run("cert", "init")
    assert made.code == 0, made
    assert names(kvs, socket.gethostname()) == {socket.gethostname(), *LOOPBACK}


# --- what is there stays ---


def test_a_second_run_adds_what_is_missing(kvs: Cli) -> None:
    init(kvs, "n1=127.0.0.1")
    before = texts(kvs)
    again = init(kvs, "n1=127.0.0.1", "n2=127.0.0.1")
    assert again.err == (
        "certs/n1.pem exists already; it is left as it is\n"
        "made certs/n2.pem and its key, for 127.0.0.1, localhost, ::1\n"
    )
    after = texts(kvs)
    assert {name: text for name, text in after.items() if name in before} == before
    issuer = load_issuer(kvs.folder / "certs" / "ca.pem", kvs.folder / "certs" / "ca.key", now_ms())
    certificate(kvs, "n2").verify_directly_issued_by(issuer.certificate)


def test_what_is_there_and_is_not_what_was_asked_for(kvs: Cli) -> None:
    init(kvs, "n1=10.0.0.1", "--client", "operator")
    assert "there is a certificate of n1 for 10.0.0.1" in refused(kvs, "n1=10.0.0.2")[1]
    assert "there is a certificate of operator for a client" in refused(kvs, "operator=10.0.0.2")[1]
    assert "there is a certificate of n1" in refused(kvs, "n0=10.0.0.1", "--client", "n1")[1]
    (kvs.folder / "certs" / "n1.key").unlink()
    assert "cannot read the key certs/n1.key" in refused(kvs, "n1=10.0.0.1")[1]
    (kvs.folder / "certs" / "n1.pem").unlink()
    init(kvs, "n1=10.0.0.1")


def test_a_certificate_that_ends_soon_is_to_be_made_anew(kvs: Cli) -> None:
    authority = Authority(kvs.folder / "certs")
    authority.issue("n1", ("10.0.0.1", *LOOPBACK), days=29)
    kvs.folder.joinpath("certs").chmod(0o700)
    assert "the certificate of n1 ends within 30 days" in refused(kvs, "n1=10.0.0.1")[1]


def test_without_the_key_of_the_authority_nothing_is_issued(kvs: Cli) -> None:
    init(kvs, "n1=127.0.0.1")
    key = kvs.folder / "certs" / "ca.key"
    text = key.read_bytes()
    key.unlink()
    assert "there is no certs/ca.key" in refused(kvs, "n2=127.0.0.1")[1]
    key.write_bytes(text)
    key.chmod(0o644)
    assert "may be read by others (mode 0644)" in refused(kvs, "n2=127.0.0.1")[1]
    key.chmod(0o600)
    (kvs.folder / "certs" / "ca.pem").write_bytes((kvs.folder / "certs" / "n1.pem").read_bytes())
    assert "do not belong together" in refused(kvs, "n2=127.0.0.1")[1]


def test_no_link_leads_it_elsewhere(kvs: Cli) -> None:
    init(kvs, "n1=127.0.0.1")
    victim = kvs.folder / "victim"
    victim.write_text("untouched")
    for name in ("n2.key", "n2.pem"):
        link = kvs.folder / "certs" / name
        link.symlink_to(kvs.folder / "nowhere" if name == "n2.pem" else victim)
        assert refused(kvs, "n2=127.0.0.1")[0] == 1
        link.unlink()
    assert victim.read_text() == "untouched"
    assert not (kvs.folder / "nowhere").exists()


def test_a_folder_that_others_may_write_in_is_refused(kvs: Cli) -> None:
    folder = kvs.folder / "certs"
    folder.mkdir()
    folder.chmod(0o777)
    assert refused(kvs, "n1=127.0.0.1") == (1, "kvs: cannot use certs: others may write in it; chmod it to 0700")


def test_the_umask_of_the_user_does_not_matter(kvs: Cli) -> None:
    before = os.umask(0)
    try:
        init(kvs, "n1=127.0.0.1")
    finally:
        os.umask(before)
    assert {mode(path) for path in (kvs.folder / "certs").iterdir()} == {0o600}


@pytest.mark.parametrize(
    "words",
    [
        ("ca=127.0.0.1",),
        ("../n1=127.0.0.1",),
        ("a/b=127.0.0.1",),
        (".n1=127.0.0.1",),
        ("=127.0.0.1",),
        ("n1=",),
        ("n1=not a host",),
        ("n1=10.0.0.1:8080",),
        ("n1=http://a",),
        ("n1=a,,b",),
        ("n1=a", "n1=b"),
        ("n1=a", "--client", "n1"),
        ("n1=a", "--days", "0"),
        ("--client", "ca"),
        ("--client", "../x"),
    ],
)
def test_wrong_usage(kvs: Cli, words: tuple[str, ...]) -> None:
    failed = kvs.run("cert", "init", "certs", *words)
    assert failed.code == 2
    assert not (kvs.folder / "certs").exists()
