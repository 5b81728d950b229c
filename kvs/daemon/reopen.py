"""The daemon's standard output and error are its log file; after a rotation they are pointed at the new file."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from kvs.config import INTERNAL_PREFIX
from kvs.daemon.files import FILE_MODE, open_own

LOG_VARIABLE = f"{INTERNAL_PREFIX}LOG"


def take_log_path(environ: MutableMapping[str, str]) -> Path | None:
    """The log file that the starter opened; None for a foreground run. The environment is cleared of it."""
    given = environ.pop(LOG_VARIABLE, "")
    return Path(given) if given else None


def reopen_log(path: Path) -> None:
    """Raises Failed or OSError; then the old file stays in use."""
    descriptor = open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.fchmod(descriptor, FILE_MODE)  # whoever rotated the log may have made the new file
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    finally:
        os.close(descriptor)
