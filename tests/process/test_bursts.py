"""Many clients at one moment, while the node is busy."""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kvs.limits import LISTEN_BACKLOG
from tests.certificates import Authority
from tests.process.daemon import Daemon

BURST = 600
SYN_RETRY_S = 1.0
"""After so long a kernel asks again that was not answered."""


@pytest.mark.parametrize("is_secure", [False, True], ids=["http", "https"])
def test_a_burst_of_connections_waits_for_a_busy_node(
    make_daemon: Callable[..., Daemon], tmp_path: Path, is_secure: bool
) -> None:
    """A client whose connection found no place would lose a second, and nobody could tell why."""
    if int(Path("/proc/sys/net/core/somaxconn").read_text()) < LISTEN_BACKLOG:
        pytest.skip("this system allows less: net.core.somaxconn")
    settings, tls = {}, None
    if is_secure:
        authority = Authority(tmp_path / "certs")
        files = authority.issue("node")
        settings = {"tls_cert_file": str(files.certificate), "tls_key_file": str(files.key)}
        tls = authority.client()
    daemon = make_daemon(settings=settings, tls=tls)
    daemon.start()
    parts = urlsplit(daemon.url)
    with ExitStack() as burst:
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            for _ in range(BURST):
                address = (parts.hostname, parts.port)
                burst.enter_context(socket.create_connection(address, timeout=SYN_RETRY_S * 0.9))
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        assert daemon.client.request("GET", "/health").status == 200
    daemon.stop()
    daemon.assert_no_traceback()
