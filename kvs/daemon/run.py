"""Running a node in this process, in the foreground or as the daemon that `kvs start` made."""

import asyncio
import contextlib
import gc
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog
import uvloop

from kvs import __version__
from kvs.config import Config, load
from kvs.daemon import logs
from kvs.daemon.certificate_check import certificate_problems
from kvs.daemon.config_creation import create_config
from kvs.daemon.failure import OK, Failed
from kvs.daemon.heap import map_large_blocks
from kvs.daemon.home import Home, canonical, instance_name
from kvs.daemon.pidfile import PidFile
from kvs.daemon.readiness import Readiness
from kvs.daemon.reopen import reopen_log, take_log_path
from kvs.daemon.signals import Signals
from kvs.errors import ConfigError, StartError
from kvs.limits import GC_YOUNG_MAX, OPEN_FILES_WANTED, THREAD_SWITCH_INTERVAL_S
from kvs.server.server import Server
from kvs.settings import SETTINGS

log = structlog.get_logger()


def run(path: Path) -> int:
    """Run the node of the configuration at `path` until a signal ends it; returns the exit code.

    Raises ConfigError, StartError or Failed if it cannot run.
    """
    os.umask(0o077)
    readiness = Readiness.take(os.environ)
    log_path = take_log_path(os.environ)
    try:
        return _run(canonical(path), path, readiness, log_path)
    except (ConfigError, StartError, Failed) as error:
        readiness.failed(str(error))
        raise


def _run(config_path: Path, shown: Path, readiness: Readiness, log_path: Path | None) -> int:
    create_config(shown, if_missing=True)
    config = load(shown, os.environ, certificate_problems)
    home = Home.of(os.environ)
    home.make()
    pid_file = PidFile.claim(home.pid_file(instance_name(config_path)), config_path)
    try:
        logs.set_up(node_id=config.node_id, level=config.log_level, log_format=config.log_format)
        logs.catch_crashes()
        _allow_open_files()
        _collect_garbage_seldom()
        sys.setswitchinterval(THREAD_SWITCH_INTERVAL_S)
        map_large_blocks()
        node = _Node(config, shown, dict(os.environ), log_path)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(node.run(pid_file, readiness))
    finally:
        pid_file.remove()
    return OK


def _allow_open_files() -> None:
    """Shells and service managers often allow fewer open files than the system would give."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < OPEN_FILES_WANTED:
        log.warning("The system allows few open files: clients may be refused", allowed=most, wanted=OPEN_FILES_WANTED)


def _collect_garbage_seldom() -> None:
    """What is loaded by now stays: it need not be looked at again."""
    gc.freeze()
    gc.set_threshold(GC_YOUNG_MAX, *gc.get_threshold()[1:])


class _Node:
    """The running node and what SIGHUP changes in it."""

    def __init__(self, config: Config, path: Path, environ: Mapping[str, str], log_path: Path | None) -> None:
        self._config = config
        self._path = path.absolute()
        self._environ = environ
        self._log_path = log_path
        self._server = Server(config)
        self._serves = False

    async def run(self, pid_file: PidFile, readiness: Readiness) -> None:
        signals = Signals(lambda: self.hangup(pid_file, readiness))
        for warning in self._config.warnings:
            log.warning(warning)
        if not await self._start(signals):
            log.info("Stopped before it served", signal=signals.reason)
            return
        try:
            pid_file.set_url(self._server.url, self._server.fingerprint)
            if self._server.first_account:
                logs.show_once(self._server.first_account)
            log.info("Started", version=__version__, url=self._server.url, config=self._config.masked())
            self._serves = True
            readiness.ready(self._server.url)
            reason = await self._run_until_end(signals)
            self._serves = False
            readiness.stopping()
            log.info("Stopping", **({"reason": reason} if reason else {"signal": signals.reason}))
        finally:
            await self._server.stop()
        log.info("Stopped")
        if reason:
            raise Failed(reason)

    async def _run_until_end(self, signals: Signals) -> str:
        """Until a signal ends the node, or it cannot go on: then the reason."""
        asked = asyncio.create_task(signals.stop_asked.wait())
        failed = asyncio.create_task(self._server.failed())
        await asyncio.wait((asked, failed), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        failed.cancel()
        return failed.result() if failed.done() and not failed.cancelled() else ""

    async def _start(self, signals: Signals) -> bool:
        """Start the server, unless a signal ends that first. Raises StartError."""
        starting = asyncio.create_task(self._server.start())
        asked = asyncio.create_task(signals.stop_asked.wait())
        await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if starting.done():
            await starting
            return True
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return False

    def hangup(self, pid_file: PidFile, readiness: Readiness) -> None:
        if self._serves:
            readiness.reloading()
        if self._log_path is not None:
            try:
                reopen_log(self._log_path)
                log.info("Log reopened")
            except (Failed, OSError) as error:
                log.error("Log not reopened, the old file stays in use", reason=str(error))
        self._reload()
        self._reload_certificates(pid_file)
        if self._serves:
            readiness.ready(self._server.url)

    def _reload_certificates(self, pid_file: PidFile) -> None:
        try:
            if not self._server.reload_certificates():
                return
            pid_file.set_url(self._server.url, self._server.fingerprint)
            log.info("Certificates reloaded", fingerprint=self._server.fingerprint)
        except (StartError, Failed) as error:
            log.error("Certificates not reloaded, the old ones stay in use", reason=str(error))

    def _reload(self) -> None:
        try:
            config = load(self._path, self._environ)
        except ConfigError as error:
            log.error("Configuration not reloaded, the old one stays in effect", problems=error.lines())
            return
        changed = [name for name in SETTINGS if getattr(config, name) != getattr(self._config, name)]
        logs.set_level(config.log_level)
        self._server.reload(config)
        self._config = config
        log.info(
            "Configuration reloaded",
            changed=[name for name in changed if SETTINGS[name].live],
            needs_restart=[name for name in changed if not SETTINGS[name].live],
        )
