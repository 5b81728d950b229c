"""A node under attack goes on answering others in good time, and its memory stays bounded."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.process.attacks import LARGE_BYTES, ON_HTTP, ON_HTTPS, SMALL_BYTES
from tests.process.cluster import allowed
from tests.process.daemon import Client, Daemon
from tests.process.siege import Attack, Field, Watch, besiege

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HEALTH_S = 1.0
P99_S = 1.0
GROWN_MAX_MIB = 100.0
BLOB = {"Content-Type": "application/octet-stream"}


def fill(daemon: Daemon) -> None:
    assert daemon.client.put("large", os.urandom(LARGE_BYTES), BLOB).status == 201
    assert daemon.client.put("small", os.urandom(SMALL_BYTES), BLOB).status == 201
    for number in range(300):
        assert daemon.client.put(f"x/{number:03}", b'"%b"' % (b"x" * 1_000)).status == 201


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("plain"))
    daemon.start()
    fill(daemon)
    yield daemon
    daemon.kill()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Path]]:
    """A node on HTTPS, and its authority."""
    folder = tmp_path_factory.mktemp("secure")
    authority = Authority(folder / "certs")
    files = authority.issue("node")
    settings = {"tls_cert_file": str(files.certificate), "tls_key_file": str(files.key)}
    daemon = Daemon(folder / "node", settings=settings, tls=authority.client())
    daemon.start()
    fill(daemon)
    yield daemon, authority.file
    daemon.kill()


def check(daemon: Daemon, watch: Watch, attack: Attack) -> None:
    seen = besiege(watch, Field(daemon.url, daemon.tls), attack)
    print(f"\n{attack.__name__}: {seen}")
    assert seen.failures == []
    assert seen.health_max_s < allowed(HEALTH_S)
    assert seen.p99_s < allowed(P99_S)
    assert seen.grown_mib < GROWN_MAX_MIB
    after = Client(daemon.url, tls=daemon.tls)
    assert after.request("GET", "/health").status == 200
    assert after.get("smuggled").status == 404
    after.close()
    assert daemon.logged("error") == []
    daemon.assert_no_traceback()


@pytest.mark.parametrize("attack", ON_HTTP, ids=lambda attack: attack.__name__)
def test_others_are_served_meanwhile(plain: Daemon, attack: Attack) -> None:
    check(plain, Watch(plain.url, plain.pid), attack)


@pytest.mark.parametrize("attack", ON_HTTPS, ids=lambda attack: attack.__name__)
def test_others_are_served_meanwhile_over_https(secure: tuple[Daemon, Path], attack: Attack) -> None:
    daemon, authority = secure
    check(daemon, Watch(daemon.url, daemon.pid, str(authority)), attack)
