"""The Server object: builds the parts of a node, starts and stops them in order. It holds no behaviour of its own."""

import asyncio
import errno
import time
from contextlib import AsyncExitStack

import structlog
from aiohttp import web

from kvs.auth.documents import check_brought
from kvs.cluster.node import Node, NodeSettings
from kvs.cluster.runner import Runner
from kvs.cluster.trail import Trail
from kvs.cluster.tree_building import give_up_tree, open_tree
from kvs.config import Config
from kvs.errors import KvsError, StartError, StoreError
from kvs.limits import (
    CERTIFICATE_CHECK_INTERVAL_S,
    LISTEN_BACKLOG,
    ROOT_TOKEN_LIFE_MS,
    SHUTDOWN_TIMEOUT_S,
)
from kvs.server.auditor import Auditor
from kvs.server.backups import Backups, BackupSettings
from kvs.server.cluster import Cluster
from kvs.server.connection import HttpServer
from kvs.server.first_start import make_root
from kvs.server.handlers.audit import AuditPeers
from kvs.server.handlers.backups import BackupRoutes
from kvs.server.handlers.cluster_status import ClusterStatus
from kvs.server.handlers.context import Context
from kvs.server.handlers.members import Members
from kvs.server.handlers.metrics import MetricsRoute
from kvs.server.handlers.peer_tools import PeerTools
from kvs.server.handlers.peers import Peers
from kvs.server.head_keeper import HeadKeeper
from kvs.server.loop_lag import LoopLag
from kvs.server.meters import Meters
from kvs.server.middleware import Dispatcher
from kvs.server.passwords import Passwords
from kvs.server.ratelimit import RequestLimit
from kvs.server.room import Rooms
from kvs.server.router import Router
from kvs.server.routes import routes
from kvs.server.scheduler import Scheduler
from kvs.server.security import build_audit_keys, build_security
from kvs.server.tls import Tls
from kvs.server.tls_listener import TlsListener
from kvs.server.watch import Watching, log_name
from kvs.server.witnesses import Witnesses
from kvs.storage.backup import Standing
from kvs.storage.compression import Compressor
from kvs.storage.keyspace import METADATA, after
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.state import Identity, open_state, read_progress
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
        self._watching: Watching | None = None
        self._backups: Backups | None = None
        self._auditor: Auditor | None = None
        self._keeper: HeadKeeper | None = None
        self._http: web.ServerRunner | None = None
        self._loop_lag: LoopLag | None = None
        self._listener: asyncio.Server | None = None
        self._tls: Tls | None = None
        self._tls_listener: TlsListener | None = None
        self._passwords = Passwords()
        self._limit = RequestLimit(
            enabled=config.rate_limiting_enabled, limit=config.rate_limit_requests, window_ms=config.rate_limit_window
        )
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

    async def failed(self) -> str:
        """Returns when the node must stop of itself, with the reason; that is not, for most."""
        if self._cluster is not None:
            return await asyncio.shield(self._cluster.refused)
        await asyncio.Event().wait()
        raise AssertionError

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
        """The reverse: requests under way are answered, waiting writes committed, the store closed. What fails to stop
        keeps nothing else from it; then that is raised."""
        async with AsyncExitStack() as stack:  # what is named last stops first
            stack.callback(self._passwords.close)
            if self._store is not None:
                stack.callback(self._store.close)
            if self._runner is not None:
                stack.push_async_callback(self._runner.stop)
            if self._auditor is not None:
                stack.push_async_callback(self._auditor.stop)
            if self._backups is not None:
                stack.push_async_callback(self._backups.stop)
            if self._scheduler is not None:
                stack.push_async_callback(self._scheduler.stop)
            if self._tls_listener is not None:
                stack.push_async_callback(self._tls_listener.stop)
            if self._loop_lag is not None:
                stack.callback(self._loop_lag.stop)
            if self._http is not None:
                stack.push_async_callback(self._http.cleanup)
            if self._watching is not None:
                stack.callback(self._watching.stop)
            if self._tls_listener is not None:
                stack.callback(self._tls_listener.close)
            if self._listener is not None:
                stack.callback(self._listener.close)
            if self._cluster is not None:
                stack.push_async_callback(self._cluster.stop)
            if self._auditor is not None:
                stack.push_async_callback(self._auditor.seal)

    def reload(self, config: Config) -> None:
        """Take over the settings of a running node that change live."""
        self._limit.configure(
            enabled=config.rate_limiting_enabled, limit=config.rate_limit_requests, window_ms=config.rate_limit_window
        )
        if self._auditor is not None:
            self._auditor.reconfigured(config)

    async def _start(self) -> None:
        config = self._config
        if config.certificate_file is not None:
            self._tls = Tls(config, unix_ms)
        self._store = self._given_store or LevelDBStore(config.data_dir, sync=config.write_durability == "fsync")
        identity = open_state(self._store, unix_ms())
        trail = None
        if config.tamper_logging_enabled:
            trail = Trail(identity.instance_id, config.tamper_log_actions, self._store)
        versions_max = config.max_revisions if config.revision_history_enabled else 1
        node = _node(config, self._store, identity, trail, versions_max)
        security = build_security(config, self._store, unix_ms, self._is_unproven)
        meters = Meters() if config.metrics_enabled else None
        self._runner = Runner(self._store, node, unix_ms, meters.commits if meters else None)
        self._runner.on_changed.append(security.gate.forget)
        self._watching = self._make_watching(identity.instance_id)
        if config.clustering_enabled:
            tls = self._tls
            self._cluster = Cluster(
                config, self._store, node, self._runner, unix_ms, lambda: None if tls is None else tls.client, meters
            )
            self._runner.on_committed.append(self._cluster.committed)
        self._runner.start()
        self._start_audit(identity.instance_id, trail)
        compressor = Compressor(enabled=config.compression_enabled, level=config.compression_level)
        context = Context(
            config,
            self._store,
            self._runner,
            compressor,
            security.cursors,
            self._passwords,
            unix_ms,
            self._watching,
            self._cluster,
            meters,
            self._auditor,
            self._keeper,
            identity.instance_id,
        )
        members = None if self._cluster is None else Members(self._cluster)
        peers = None if self._cluster is None else Peers(PeerTools(context, self._cluster, node))
        status = None if self._cluster is None else ClusterStatus(context, self._cluster)
        metrics = None if meters is None else MetricsRoute(context, node, meters)
        audit_peers = None if self._keeper is None else AuditPeers(self._keeper)
        self._scheduler = self._make_scheduler(node, versions_max)
        backups = BackupRoutes(context, self._make_backups(identity, meters), self._scheduler.next_backup_ms)
        router = Router(routes(context, security.token_key, backups, members, peers, status, metrics, audit_peers))
        on_refused = None if self._auditor is None else self._auditor.refused
        rooms = Rooms.make()
        dispatcher = Dispatcher(router, security.gate, self._limit, rooms, meters, on_refused)
        http = HttpServer(dispatcher, meters, rooms.answers)
        self._http = web.ServerRunner(http, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await self._http.setup()
        await self._listen(http)
        if meters is not None:
            self._loop_lag = LoopLag(meters.loop_lag)
            self._loop_lag.start()
        address = config.advertise_address or self.url.partition("://")[2]
        if self._cluster is not None:
            await self._cluster.start(identity, address)
        if security.token_key is not None and not config.other_seeds:
            # Only now: a start that fails, on a taken port for example, must not use up the only showing of the token.
            life_ms = min(ROOT_TOKEN_LIFE_MS, config.token_max_ttl)
            key = security.token_key
            self.first_account = await make_root(self._store, self._runner, key, unix_ms, token_life_ms=life_ms)
        if self._auditor is not None:
            self._auditor.start()
            await self._auditor.configured(config)
        self._start_timers(address)

    def _make_watching(self, instance_id: str) -> Watching:
        """It hears of the runner what watchers are to be told of."""
        assert self._store is not None
        assert self._runner is not None
        change_log = log_name(instance_id, is_synced=self._config.write_durability == "fsync")
        watching = Watching(self._store, self._runner, change_log, unix_ms)
        self._runner.on_changed.append(watching.changed)
        self._runner.on_committed.append(watching.committed)
        self._runner.on_reopened.append(watching.reopened)
        return watching

    def _make_scheduler(self, node: Node, versions_max: int) -> Scheduler:
        assert self._store is not None
        assert self._runner is not None
        return Scheduler(
            self._store,
            self._runner,
            unix_ms,
            tombstone_limit=node.tombstone_limit,
            versions_max=versions_max,
            is_clock_right=lambda: self._cluster is None or self._cluster.is_clock_right,
            scrubber=None if self._cluster is None else self._cluster.scrubber,
        )

    def _start_timers(self, address: str) -> None:
        """`address` is where other nodes ask this one."""
        assert self._scheduler is not None
        if self._tls is not None:
            self._tls.check()
            self._tls.check_address(address)
            self._scheduler.every(CERTIFICATE_CHECK_INTERVAL_S, self._tls.check)
        self._scheduler.start()

    def _make_backups(self, identity: Identity, meters: Meters | None) -> Backups:
        config, store, runner, cluster = self._config, self._store, self._runner, self._cluster
        assert store is not None
        assert runner is not None
        assert self._scheduler is not None

        def standing() -> Standing:
            alone = Standing(0, unix_ms() - config.max_clock_drift, had_peers=False)
            return alone if cluster is None else cluster.standing()

        def ended(success: bool) -> None:
            if meters is not None:
                meters.backup_ended(success=success, now_ms=unix_ms())

        settings = BackupSettings(config.backup_path, config.backup_retention, config.node_id, identity.instance_id)
        write_soon = (lambda _: None) if self._auditor is None else self._auditor.note
        self._backups = Backups(settings, store, runner, unix_ms, standing, ended, write_soon)
        self._backups.start()
        if config.backup_enabled:
            since_ms = max(self._backups.last_ms, identity.joined_timestamp)
            self._scheduler.schedule_backups(self._backups.by_schedule, config.backup_schedule, since_ms)
        return self._backups

    def _is_unproven(self) -> bool:
        return self._cluster is not None and self._cluster.is_unproven

    def _start_audit(self, log_id: str, trail: Trail | None) -> None:
        """`log_id` is the instance id of the data directory; `trail` is None when no audit log is kept: heads of peers
        are kept nevertheless."""
        config, cluster = self._config, self._cluster
        assert self._store is not None
        assert self._runner is not None
        if trail is None and cluster is None:
            return
        keys = build_audit_keys(config)
        if cluster is not None:
            self._keeper = HeadKeeper(self._store, self._runner, keys.trusted, cluster.known)
        if trail is not None:
            witnesses = None if cluster is None else Witnesses(cluster, self._store, log_id)
            self._auditor = Auditor(self._store, self._runner, trail, keys, config.node_id, unix_ms, witnesses)

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


def _node(config: Config, store: Store, identity: Identity, trail: Trail | None, versions_max: int) -> Node:
    """What decides, at the point that the store has reached."""
    settings = NodeSettings(
        config.node_id, identity.joined_timestamp, versions_max, config.tombstone_retention, config.max_clock_drift
    )
    tree = None
    if config.clustering_enabled:
        tree = open_tree(store)
    else:
        give_up_tree(store)
    has_metadata = any(store.scan(METADATA, after(METADATA)))
    progress = read_progress(store)
    return Node(settings, progress, tree, trail, has_metadata=has_metadata, check_document=check_brought)
