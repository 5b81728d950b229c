"""A node with certificates, for tests of HTTPS."""

import ssl
from pathlib import Path
from typing import Any

from tests.api.client import Client
from tests.api.running import RunningNode
from tests.api.wire import Wire
from tests.certificates import Authority, Files

SECRET = "a secret of the whole cluster"


class Site:
    """A node with a certificate of `authority`; stopped at the end."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.files = self.authority.issue("node")
        self._folder = folder
        self._node: RunningNode | None = None

    def start(self, *, mutual: bool = False) -> None:
        settings: dict[str, Any] = {
            "tls_cert_file": self.files.certificate,
            "tls_key_file": self.files.key,
            "cluster_tls_enabled": True,
            "cluster_tls_ca_file": self.authority.file,
            "cluster_tls_mutual": mutual,
            "cluster_secret": SECRET,
            "clustering_enabled": True,
        }
        self._node = RunningNode(self._folder / "data", **settings)

    @property
    def node(self) -> RunningNode:
        assert self._node is not None
        return self._node

    @property
    def address(self) -> tuple[str, int]:
        return self.node.address

    def status(self, target: str, shown: Files | None = None, **headers: str) -> int:
        """What a client with this certificate is answered. Raises OSError when it is not listened to."""
        client = Client(self.address, self.authority.client(shown))
        try:
            client.open()
            return client.send("GET", target, headers=headers).status
        finally:
            client.close()

    def peer_status(self, shown: Files | None = None, secret: str = SECRET) -> int:
        return self.status("/merkle_tree/root", shown, **{"X-Cluster-Secret": secret, "X-Node-ID": "peer"})

    def certificate(self) -> bytes:
        """What the node shows to a new client; DER."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with Wire(self.address, tls=context) as wire:
            return wire.certificate

    def stop(self) -> None:
        if self._node is not None:
            self._node.stop()
            self._node = None
