"""Where the daemons of one user keep their PID files and logs: `~/.kvs`, or the folder that KVS_HOME names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kvs.daemon.failure import Failed
from kvs.daemon.files import make_own_folder


@dataclass(frozen=True)
class Home:
    """`root` is absolute."""

    root: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Home":
        given = environ.get("KVS_HOME")
        try:
            return cls(Path(given).absolute() if given else Path.home() / ".kvs")
        except RuntimeError:
            raise Failed("no home folder is known; set KVS_HOME to a folder for PID files and logs") from None

    @property
    def pids(self) -> Path:
        return self.root / "pids"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def pid_file(self, name: str) -> Path:
        return self.pids / f"{name}.pid"

    def log_file(self, config: Path) -> Path:
        """`logs/site_node1.yaml.log` for /srv/site/node1.yaml."""
        return self.logs / f"{config.parent.name}_{config.name}.log"

    def make(self) -> None:
        """Make the folders (0700, given a umask of 077). Raises Failed if others could put files into them."""
        make_own_folder(self.pids)
        make_own_folder(self.logs)


def canonical(config: Path) -> Path:
    """One spelling of a configuration's path, whatever links lead to its folder. The file itself may be a link."""
    try:
        return config.parent.resolve() / config.name
    except (OSError, RuntimeError):
        return config.absolute()


def instance_name(config: Path) -> str:
    """`node1` for /srv/site/node1.yaml."""
    return config.stem
