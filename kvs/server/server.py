"""The Server object: builds the parts of a node, starts and stops them in order. It holds no behaviour of its own."""

import asyncio
import errno
import time

import structlog
from aiohttp import web

from kvs.auth.documents import check_brought
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.runner import Runner
from kvs.cluster.tree_building import give_up_tree, open_tree
from kvs.config import Config
from kvs.errors import KvsError, StartError, StoreError
from kvs.limits import (
    CERTIFICATE_CHECK_INTERVAL_S,
    LISTEN_BACKLOG,
    ROOT_TOKEN_LIFE_MS,
    SHUTDOWN_TIMEOUT_S,
)
from kvs.server.cluster import Cluster
from kvs.server.connection import HttpServer
from kvs.server.first_start import make_root
from kvs.server.handlers.cluster_status import ClusterStatus
from kvs.server.handlers.context import Context
from kvs.server.handlers.members import Members
from kvs.server.handlers.peers import Peers
from kvs.server.middleware import Dispatcher
from kvs.server.passwords import Passwords
from kvs.server.room import Rooms
from kvs.server.router import Router
from kvs.server.routes import routes
from kvs.server.scheduler import Scheduler
from kvs.server.security import build_security
from kvs.server.tls import Tls
from kvs.server.tls_listener import TlsListener
from kvs.storage.compression import Compressor
from kvs.storage.keyspace import METADATA, after
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.state import open_state, read_progress
from kvs.storage.store import Store

log = structlog.get_logger()


def unix_ms() -> int:
    """The wall clock in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Server:
    """One node."""

    def __init__(self, config: Config, store: Store | None = None) -> None:
        """`store` instead of the LevelDB database that the configuration names."""
        self._config = config
        self._given_store = store
        self._store: Store | None = None
        self._runner: Runner | None = None
        self._scheduler: Scheduler | None = None
        self._cluster: Cluster | None = None
        self._http: web.ServerRunner | None = None
        self._listener: asyncio.Server | None = None
        self._tls: Tls | None = None
        self._tls_listener: TlsListener | None = None
        self._passwords = Passwords()
        self.url = ""
        self.first_account = ""
        """What to show once, after `start`: the root account that a fresh node made."""

    async def start(self) -> None:
        """Open the store, start the writer, listen, start the timers. Raises StartError; then nothing is left open."""
        try:
            await self._start()
        except (StoreError, KvsError) as error:
            await self.stop()
            raise StartError(str(error)) from error
        except BaseException:
            await self.stop()
            raise

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate that is served, in hexadecimal; empty: HTTP."""
        return "" if self._tls is None else self._tls.fingerprint

    def reload_certificates(self) -> bool:
        """Whether there are any. Raises StartError; then the old ones stay in use."""
        if self._tls is None:
            return False
        self._tls.reload()
        self._tls.check()
        return True

    async def stop(self) -> None:
        """The reverse: requests under way are answered, waiting writes committed, the store closed."""
        if self._cluster is not None:
            await self._cluster.stop()
        if self._listener is not None:
            self._listener.close()
        if self._tls_listener is not None:
            self._tls_listener.close()
        if self._http is not None:
            await self._http.cleanup()
        if self._tls_listener is not None:
            await self._tls_listener.stop()
        if self._scheduler is not None:
            self._scheduler.stop()
        if self._runner is not None:
            await self._runner.stop()
        if self._store is not None:
            self._store.close()
        self._passwords.close()

    async def _start(self) -> None:
        config = self._config
        if config.certificate_file is not None:
            self._tls = Tls(config, unix_ms)
        self._store = self._given_store or LevelDBStore(config.data_dir, sync=config.write_durability == "fsync")
        identity = open_state(self._store, unix_ms())
        versions_max = config.max_revisions if config.revision_history_enabled else 1
        settings = NodeSettings(
            config.node_id,
            identity.joined_timestamp,
            versions_max,
            config.tombstone_retention,
            config.max_clock_drift,
        )
        if config.clustering_enabled:
            tree = open_tree(self._store)
        else:
            give_up_tree(self._store)
            tree = None
        has_metadata = any(self._store.scan(METADATA, after(METADATA)))
        node = Node(settings, read_progress(self._store), tree, has_metadata=has_metadata, check_document=check_brought)
        security = build_security(config, self._store, unix_ms)
        self._runner = Runner(self._store, node, unix_ms, security.gate.forget)
        if config.clustering_enabled:
            tls = self._tls
            self._cluster = Cluster(
                config, self._store, node, self._runner, unix_ms, lambda: None if tls is None else tls.client
            )
            self._runner.on_committed = self._cluster.committed
        self._runner.start()
        compressor = Compressor(enabled=config.compression_enabled, level=config.compression_level)
        context = Context(
            config, self._store, self._runner, compressor, security.cursors, self._passwords, unix_ms, self._cluster
        )
        members = None if self._cluster is None else Members(self._cluster)
        peers = None if self._cluster is None else Peers(context, node)
        status = None if self._cluster is None else ClusterStatus(context, self._cluster)
        rooms = Rooms.make()
        dispatcher = Dispatcher(
            Router(routes(context, security.token_key, members, peers, status)), security.gate, rooms
        )
        http = HttpServer(dispatcher, rooms.answers)
        self._http = web.ServerRunner(http, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await self._http.setup()
        await self._listen(http)
        address = config.advertise_address or self.url.partition("://")[2]
        if self._cluster is not None:
            await self._cluster.start(identity, address)
        if security.token_key is not None and not config.other_seeds:
            # Only now: a start that fails, on a taken port for example, must not use up the only showing of the token.
            life_ms = min(ROOT_TOKEN_LIFE_MS, config.token_max_ttl)
            key = security.token_key
            self.first_account = await make_root(self._store, self._runner, key, unix_ms, token_life_ms=life_ms)
        self._scheduler = Scheduler(
            self._store,
            self._runner,
            unix_ms,
            tombstone_limit=node.tombstone_limit,
            versions_max=versions_max,
            is_clock_right=lambda: self._cluster is None or self._cluster.is_clock_right,
        )
        if self._tls is not None:
            self._tls.check()
            self._tls.check_address(address)
            self._scheduler.every(CERTIFICATE_CHECK_INTERVAL_S, self._tls.check)
        self._scheduler.start()

    async def _listen(self, http: HttpServer) -> None:
        address, port = self._config.bind_address, self._config.port
        tls = self._tls
        try:
            if tls is None:
                loop = asyncio.get_running_loop()
                self._listener = await loop.create_server(http, address, port, backlog=LISTEN_BACKLOG)
                port = self._listener.sockets[0].getsockname()[1]
            else:
                self._tls_listener = TlsListener(http, lambda: tls.server)
                port = await self._tls_listener.listen(address, port)
        except OSError as error:
            reason = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise StartError(f"cannot listen on {address}:{port}: {reason}") from error
        host = f"[{address}]" if ":" in address else address
        self.url = f"{'http' if tls is None else 'https'}://{host}:{port}"
