"""The daemons of one home, as their PID files tell."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kvs.daemon.failure import Failed
from kvs.daemon.home import Home, canonical, instance_name
from kvs.daemon.pidfile import PidInfo, other_running, read_pid_file, remove_stale


class State(StrEnum):
    RUNNING = "RUNNING"
    """The lock is held, and the process named is alive and was started when the file says."""
    STALE = "STALE"
    """A file without its process: the daemon was killed, or the host went down."""
    STOPPED = "STOPPED"


@dataclass(frozen=True)
class Instance:
    """One daemon's state. `info` is None if it is STOPPED or its PID file makes no sense."""

    name: str
    config: Path
    state: State
    info: PidInfo | None = None

    @property
    def running(self) -> PidInfo | None:
        return self.info if self.state is State.RUNNING else None


def config_of(word: str, home: Home) -> Path:
    """The configuration that a command's argument means.

    `node1` is the file of that name, else node1.yaml; if neither is here, the configuration that an instance of that
    name was started with, so that `kvs stop node1` works from any folder. Raises Failed.
    """
    return canonical(named_config(word, home))


def named_config(word: str, home: Home) -> Path:
    """The same as it is written, for messages that name it. Raises Failed."""
    given = Path(word)
    with_extension = given.with_name(given.name + ".yaml") if given.name else given
    try:
        if given.is_file():
            return given
        if given.suffix not in (".yaml", ".yml") and not with_extension.exists() and "/" not in word:
            known = read_pid_file(home.pid_file(word))
            if known is not None and known[0] is not None:
                return known[0].config
    except (OSError, ValueError):
        raise Failed(f"{word!r} is no path of a file") from None
    return given if given.suffix in (".yaml", ".yml") else with_extension


def inspect(home: Home, config: Path) -> Instance:
    """The state of `config`. Raises Failed if its PID file is not one to trust."""
    name = instance_name(config)
    found = read_pid_file(home.pid_file(name))
    if found is None:
        return Instance(name, config, State.STOPPED)
    info, lives = found
    if info is not None and info.config != config and lives:
        if not config.exists():
            raise Failed(f"there is no {config}, and {info.config} is running under the same name (pid {info.pid})")
        raise Failed(other_running(info, config))
    return Instance(name, config, State.RUNNING if lives else State.STALE, info)


def all_instances(home: Home) -> tuple[list[Instance], list[Failed]]:
    """Every instance with a PID file, by name, and what is wrong with the files that are not to be trusted."""
    instances, problems = [], []
    try:
        files = sorted(home.pids.iterdir())
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [Failed(f"cannot read {home.pids}: {error.strerror}")]
    for path in files:
        if path.suffix != ".pid":
            continue
        try:
            found = read_pid_file(path)
        except Failed as problem:
            problems.append(problem)
            continue
        if found is not None:
            info, lives = found
            config = info.config if info else Path("?")
            instances.append(Instance(path.stem, config, State.RUNNING if lives else State.STALE, info))
    return instances, problems


def clean_stale(home: Home, instance: Instance) -> str:
    """Remove a stale PID file; returns the sentence that says so."""
    path = home.pid_file(instance.name)
    if not remove_stale(path):
        raise Failed(f"cannot use {path}: another process holds its lock")
    gone = f" (process {instance.info.pid} is gone)" if instance.info else ""
    return f"removed a stale PID file{gone}"
