"""Opening the daemon's own files so that nobody can lead it to another file.

PID files and logs have names that others can guess. A link, a FIFO or a file of another user planted there is refused
and its target stays untouched.
"""

import errno
import os
import stat
from pathlib import Path

from kvs.daemon.failure import Failed

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def open_own(path: Path, flags: int) -> int:
    """A descriptor of the regular file `path`, which is this user's and has no other name.

    Raises Failed for anything else, FileNotFoundError if it is missing and `flags` do not create it.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not wait. O_NOFOLLOW: a symbolic link is an error (ELOOP).
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE)
    except FileNotFoundError:
        raise
    except OSError as error:
        reasons = {errno.ELOOP: "it is a symbolic link", errno.ENXIO: "it is not a regular file"}
        raise Failed(f"cannot use {path}: {reasons.get(error.errno or 0, error.strerror)}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        wrong = "it is not a regular file"
    elif status.st_nlink > 1:
        wrong = "it has a second name (a hard link)"
    elif status.st_uid != os.geteuid():
        wrong = f"it belongs to user {status.st_uid}, not to {os.geteuid()}"
    else:
        return descriptor
    os.close(descriptor)
    raise Failed(f"cannot use {path}: {wrong}")


def create_own(path: Path, data: bytes) -> None:
    """Make the file `path`, which must not exist, for this user only, and put it on the disk whole.

    Raises FileExistsError, also for a link that leads nowhere, and OSError; then there is no new file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def make_own_folder(path: Path) -> None:
    """Make `path` and its parents if missing, for this user only. Raises Failed if others could change it."""
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise Failed(f"cannot make the folder {path}: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise Failed(f"cannot use {path}: it is not a folder")
    if status.st_uid != os.geteuid():
        raise Failed(f"cannot use {path}: it belongs to user {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & 0o022:
        raise Failed(f"cannot use {path}: others may write in it; chmod it to 0700")
