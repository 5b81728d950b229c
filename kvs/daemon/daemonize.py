"""Starting a daemon and waiting until it serves."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import kvs
from kvs.config import Config, load
from kvs.daemon.certificate_check import certificate_problems
from kvs.daemon.failure import USAGE, Failed
from kvs.daemon.files import FILE_MODE, open_own
from kvs.daemon.health import ask_health
from kvs.daemon.home import Home, instance_name
from kvs.daemon.instances import State, clean_stale, inspect
from kvs.daemon.logfile import lines_after
from kvs.daemon.pidfile import already_running, remove_stale
from kvs.daemon.readiness import READY_VARIABLE, Answer, wait_for_answer
from kvs.daemon.reopen import LOG_VARIABLE

_HEALTH_TIMEOUT_S = 5.0
_END_TIMEOUT_S = 5.0
_LOG_LINES = 10


def start(home: Home, config_path: Path, timeout_s: float, note: Callable[[str], None]) -> str:
    """Start the daemon of `config_path`; returns a sentence once it serves. `note` takes remarks on the way.

    Raises ConfigError or Failed; then no process is left behind.
    """
    if not config_path.exists():
        raise Failed(f"no such file: {config_path}; make one with: kvs config init {config_path}", USAGE)
    config = load(config_path, os.environ, certificate_problems)
    for warning in config.warnings:
        note(f"warning: {warning}")
    home.make()
    instance = inspect(home, config_path)
    if instance.running:
        raise Failed(already_running(instance.running, config_path))
    if instance.state is State.STALE:
        note(clean_stale(home, instance))
    return _Start(home, config, config_path).run(timeout_s)


class _Start:
    """One attempt."""

    def __init__(self, home: Home, config: Config, config_path: Path) -> None:
        self.home = home
        self.config = config
        self.config_path = config_path
        self.log = home.log_file(config_path)
        self.log_offset = 0

    def run(self, timeout_s: float) -> str:
        process, descriptor = self._spawn()
        try:
            answer = wait_for_answer(descriptor, timeout_s)
            return self._judge(process, answer, timeout_s)
        except BaseException:
            _end(process)
            with contextlib.suppress(Failed):
                remove_stale(self.home.pid_file(instance_name(self.config_path)))
            raise
        finally:
            os.close(descriptor)

    def _spawn(self) -> tuple["subprocess.Popen[bytes]", int]:
        """The process and the descriptor on which it answers."""
        log = open_own(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        ours, its = os.pipe()
        try:
            os.fchmod(log, FILE_MODE)
            self.log_offset = os.fstat(log).st_size
            process = subprocess.Popen(  # noqa: S603 - our own interpreter
                # -P: the folder that the operator happens to stand in holds no modules of KVS.
                [sys.executable, "-P", "-m", "kvs", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(its,),
                env=self._environment(its),
                cwd="/",
                start_new_session=True,
                umask=0o077,
            )
        except BaseException as error:
            os.close(ours)
            if isinstance(error, OSError):
                raise Failed(f"cannot start a process: {error.strerror}") from None
            raise
        finally:
            os.close(its)
            os.close(log)
        return process, ours

    def _environment(self, ready_descriptor: int) -> dict[str, str]:
        environment = dict(os.environ)
        environment["KVS_HOME"] = str(self.home.root)
        environment[READY_VARIABLE] = str(ready_descriptor)
        environment[LOG_VARIABLE] = str(self.log)
        source = Path(kvs.__file__).resolve().parent.parent
        if source.name != "site-packages":  # run from a checkout: the daemon, in another folder, must find it too
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH", "")]))
        return environment

    def _judge(self, process: "subprocess.Popen[bytes]", answer: Answer, timeout_s: float) -> str:
        if answer.word == "ready":
            running = inspect(self.home, self.config_path).running
            fingerprint = running.certificate if running else ""
            health = ask_health(answer.text, fingerprint, _HEALTH_TIMEOUT_S)
            if health is None or health["node_id"] != self.config.node_id:
                raise Failed(f"it says that it serves {answer.text}, but /health there does not answer as this node")
            return f"started (pid {process.pid}) at {answer.text}"
        if answer.word == "timeout":
            raise Failed(
                f"not ready after {timeout_s:g} s, so it was ended; --timeout gives it longer (log: {self.log})"
            )
        _end(process, asked=False)
        if answer.word == "failed":
            raise Failed(answer.text)
        code = process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        last = "".join(f"\n  {line}" for line in lines_after(self.log, self.log_offset, _LOG_LINES))
        raise Failed(f"{how} before it served; its log {self.log} ends with:{last or ' nothing'}")


def _end(process: "subprocess.Popen[bytes]", *, asked: bool = True) -> None:
    """Wait until it has ended, `asked` to or of itself; kill it if it takes too long."""
    if process.poll() is not None:
        return
    if asked:
        process.terminate()
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
