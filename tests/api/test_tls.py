"""HTTPS: which TLS is spoken, who is believed, and what becomes of clients that do not finish a handshake."""

import socket
import ssl
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from kvs.errors import StartError
from tests.api.client import Client, request
from tests.api.tls_site import SECRET, Site
from tests.api.wire import Wire
from tests.certificates import DAY_MS, Authority, Files, now_ms, self_signed

PEER = {"X-Cluster-Secret": SECRET, "X-Node-ID": "peer"}
SOON_S = 5.0


def der(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text())


# --- what is spoken ---


def refuses(site: Site, **limits: Any) -> bool:
    """Whether a client with these limits gets no connection."""
    context = site.authority.client()
    for name, value in limits.items():
        if name == "ciphers":
            context.set_ciphers(value)
        else:
            setattr(context, name, value)
    with socket.create_connection(site.address) as plain:
        try:
            context.wrap_socket(plain, server_hostname="localhost").close()
        except ssl.SSLError:
            return True
    return False


def test_old_versions_and_weak_ciphers_are_refused(site: Site) -> None:
    site.start()
    v12 = ssl.TLSVersion.TLSv1_2
    assert not refuses(site)
    assert not refuses(site, maximum_version=v12)
    assert not refuses(site, minimum_version=ssl.TLSVersion.TLSv1_3)
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            assert refuses(site, minimum_version=version, maximum_version=version, ciphers="DEFAULT:@SECLEVEL=0")
    for ciphers in ("AES256-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA384", "DHE-RSA-AES256-GCM-SHA384"):
        assert refuses(site, maximum_version=v12, ciphers=f"{ciphers}:@SECLEVEL=0")


def test_a_client_that_offers_http_2_gets_http_1(site: Site) -> None:
    site.start()
    context = site.authority.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(site.address) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert connection.selected_alpn_protocol() == "http/1.1"


def test_the_certificate_is_not_good_for_another_host(site: Site) -> None:
    site.start()
    with socket.create_connection(site.address) as plain, pytest.raises(ssl.SSLCertVerificationError):
        site.authority.client().wrap_socket(plain, server_hostname="elsewhere.example")


@pytest.mark.parametrize(
    "sent", [request("GET", "/health"), b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"GET / HTTP/1.0\n\n"]
)
def test_what_is_no_tls_ends_the_connection(site: Site, sent: bytes) -> None:
    site.start()
    whole_test = patch("kvs.server.tls_listener.HANDSHAKE_LINE_INTERVAL_S", 3600)
    with whole_test, structlog.testing.capture_logs() as entries:
        for _ in range(3):
            with Wire(site.address) as wire:
                wire.write(sent)
                with suppress(ConnectionError):  # a reset, where the node has not read all of it
                    assert not wire.take(1_000).startswith(b"HTTP")
        assert site.status("/health") == 200
    assert [entry["count"] for entry in entries if entry["event"] == "TLS handshakes failed"] == [1]
    assert not [entry for entry in entries if entry["log_level"] in ("warning", "error")]


# --- handshakes that do not end ---


def test_a_handshake_that_does_not_end_is_cut_off(site: Site) -> None:
    site.start()
    for sent in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"):
        with patch("kvs.server.tls_listener.HANDSHAKE_TIMEOUT_S", 0.2), Wire(site.address) as wire:
            wire.write(sent)
            started_s = time.monotonic()
            assert wire.take(1) == b""
            assert 0.15 < time.monotonic() - started_s < SOON_S


def test_unfinished_handshakes_count_as_connections(site: Site) -> None:
    """They cost open files, which the database needs too."""
    site.start()
    assert site.status("/health") == 200
    with patch("kvs.server.tls_listener.CONNECTIONS_MAX", 20), ExitStack() as ends:
        silent = [ends.enter_context(Wire(site.address)) for _ in range(60)]
        refused = [wire for wire in silent if not wire.is_quiet(0.05)]
        assert len(refused) >= 40
        assert all(wire.take(1) == b"" for wire in refused)
        with pytest.raises(OSError):
            site.status("/health")
        for wire in silent:
            wire.reset()
        deadline_s = time.monotonic() + SOON_S
        while not is_served(site):
            assert time.monotonic() < deadline_s
    assert site.status("/health") == 200


def is_served(site: Site) -> bool:
    try:
        return site.status("/health") == 200
    except OSError:
        return False


def test_connections_leave_nothing_behind(site: Site) -> None:
    """Whatever way they end, they are not counted any more."""
    site.start()
    context = site.authority.client()
    with patch("kvs.server.tls_listener.CONNECTIONS_MAX", 10):
        for number in range(60):
            with Wire(site.address, tls=context if number % 2 else None) as wire:
                wire.write(b"G" if number % 3 else b"")
                wire.reset()
            deadline_s = time.monotonic() + SOON_S
            while not is_served(site):
                assert time.monotonic() < deadline_s


# --- certificates of clients ---


def test_peers_show_a_certificate_and_the_secret(site: Site) -> None:
    site.start(mutual=True)
    peer = site.authority.issue("peer")
    operator = site.authority.issue("operator", (), is_node=False)
    assert [site.peer_status(peer), site.peer_status(operator)] == [200, 200]
    with structlog.testing.capture_logs() as entries:
        assert site.peer_status() == 401
        assert site.peer_status(peer, "another secret") == 401
    assert [entry["event"] for entry in entries if entry["log_level"] == "warning"] == [
        "A peer was refused: no certificate",
        "A peer was refused: wrong or missing secret",
    ]


def test_users_need_no_certificate(site: Site) -> None:
    site.start(mutual=True)
    assert [site.status(target) for target in ("/health", "/kv/a", "/members/")] == [200, 404, 200]
    assert site.status("/kv/a", site.authority.issue("operator", (), is_node=False)) == 404


def test_without_mutual_nobody_is_asked_for_a_certificate(site: Site) -> None:
    site.start()
    assert site.peer_status() == 200
    assert site.peer_status(Authority(site.files.key.parent / "other").issue("peer")) == 200


WRONG = ["another authority", "expired", "of tomorrow", "serves only", "the server's own word"]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_certificate_that_is_not_good_ends_the_connection(site: Site, wrong: str, tmp_path: Path) -> None:
    site.start(mutual=True)
    other = Authority(tmp_path / "other")
    shown = {
        "another authority": lambda: other.issue("peer"),
        "expired": lambda: site.authority.issue("peer", at_ms=now_ms() - 20 * DAY_MS, days=10),
        "of tomorrow": lambda: site.authority.issue("peer", at_ms=now_ms() + DAY_MS),
        "serves only": lambda: serving_only(site.authority),
        "the server's own word": lambda: self_signed(tmp_path / "self", rsa.generate_private_key(65537, 2048)),
    }[wrong]()
    for target in ("/merkle_tree/root", "/health"):
        with pytest.raises(OSError):  # of TLS 1.3 the client hears only when it reads
            site.status(target, shown, **PEER)
    assert site.status("/health") == 200


def test_a_client_that_is_refused_is_told_why(site: Site, tmp_path: Path) -> None:
    site.start(mutual=True)
    stranger = site.authority.client(Authority(tmp_path / "other").issue("peer"))
    stranger.maximum_version = ssl.TLSVersion.TLSv1_2  # within the handshake; with 1.3 behind it
    old = site.authority.client()
    old.set_ciphers("ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for context, reason in ((stranger, "TLSV1_ALERT_UNKNOWN_CA"), (old, "SSLV3_ALERT_HANDSHAKE_FAILURE")):
        with socket.create_connection(site.address) as plain, pytest.raises(ssl.SSLError) as raised:
            context.wrap_socket(plain, server_hostname="localhost")
        assert raised.value.reason == reason


def serving_only(authority: Authority) -> Files:
    """A certificate that is not good for asking."""
    with patch("kvs.tls.issuing.ExtendedKeyUsageOID.CLIENT_AUTH", ExtendedKeyUsageOID.SERVER_AUTH):
        return authority.issue("peer", is_node=False)


# --- new certificates ---


def test_new_certificates_count_at_once_and_connections_stay(site: Site) -> None:
    site.start()
    with Wire(site.address, tls=site.authority.client()) as before:
        old = before.certificate
        assert old == der(site.files.certificate)
        site.authority.issue("node")
        site.node.reload_certificates()
        before.write(request("GET", "/health"))
        assert before.reply()
        assert site.certificate() == der(site.files.certificate) != old
        before.write(request("GET", "/health"))
        assert before.reply()
    assert site.status("/health") == 200


def test_a_key_of_another_kind_replaces_the_old_one_wholly(site: Site, tmp_path: Path) -> None:
    """A client that likes the old kind better must not be shown the old certificate."""
    site.start()
    other = self_signed(tmp_path / "rsa", rsa.generate_private_key(65537, 2048))
    for old, new in zip(site.files, other, strict=True):
        old.write_bytes(new.read_bytes())
    site.node.reload_certificates()
    assert site.certificate() == der(other.certificate)
    context = ssl.create_default_context(cafile=other.certificate)
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with socket.create_connection(site.address) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_an_authority_that_is_taken_away_is_believed_no_more(site: Site, tmp_path: Path) -> None:
    site.start(mutual=True)
    old_peer = site.authority.issue("peer")
    ours = site.authority.client()
    successor = Authority(tmp_path / "new")
    assert site.peer_status(old_peer) == 200
    site.authority.file.write_bytes(successor.file.read_bytes())
    site.node.reload_certificates()
    client = Client(site.address, with_certificate(ours, old_peer))
    with pytest.raises(OSError):
        client.send("GET", "/merkle_tree/root", headers=PEER)
    client.close()
    client = Client(site.address, with_certificate(ours, successor.issue("peer")))
    assert client.send("GET", "/merkle_tree/root", headers=PEER).status == 200
    client.close()


def with_certificate(context: ssl.SSLContext, shown: Files) -> ssl.SSLContext:
    context.load_cert_chain(*shown)
    return context


BROKEN = {
    "missing": lambda site: site.files.key.unlink(),
    "readable by others": lambda site: site.files.key.chmod(0o644),
    "another's": lambda site: site.files.key.write_bytes(site.authority.issue("other").key.read_bytes()),
    "garbage": lambda site: site.files.certificate.write_text("no certificate"),
    "expired": lambda site: site.authority.issue("node", at_ms=now_ms() - 20 * DAY_MS, days=10),
    "no authority": lambda site: site.authority.file.write_text(""),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_reload_that_fails_keeps_the_old_ones(site: Site, how: str) -> None:
    site.start(mutual=True)
    peer = site.authority.issue("peer")
    client, shown = site.authority.client(peer), site.certificate()
    BROKEN[how](site)
    with pytest.raises(StartError):
        site.node.reload_certificates()
    assert site.certificate() == shown
    asking = Client(site.address, client)
    assert asking.send("GET", "/merkle_tree/root", headers=PEER).status == 200
    asking.close()


def test_certificates_that_end_soon_are_told_of(site: Site) -> None:
    site.authority.issue("node", days=29)
    with structlog.testing.capture_logs() as entries:
        site.start()
    (told,) = [entry for entry in entries if entry["event"] == "A certificate expires soon"]
    assert (told["file"], told["days_left"], told["log_level"]) == (str(site.files.certificate), 28, "warning")


def test_a_certificate_for_another_address_is_told_of(site: Site) -> None:
    site.authority.issue("node", ("10.0.0.1",))
    with structlog.testing.capture_logs() as entries:
        site.start()
    (told,) = [entry for entry in entries if entry["event"].startswith("The certificate is not made for the address")]
    assert (told["host"], told["made_for"]) == ("127.0.0.1", ["10.0.0.1"])
