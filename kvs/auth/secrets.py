"""The secret of a data directory: made once, readable by its owner alone."""

import os
import stat
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from pathlib import Path

from kvs.disk import sync
from kvs.errors import StartError

SECRET_BYTES = 32
_FILE_NAME = "signing.key"
_TEXT_MAX_BYTES = 1024


def load_or_make(data_dir: Path) -> bytes:
    """The secret in `data_dir`, made if there is none. Raises StartError with one line for the operator."""
    path = data_dir / _FILE_NAME
    try:
        _make(path)
    except FileExistsError:
        return load(data_dir)
    except OSError as error:
        raise StartError(f"cannot make the signing key {path}: {error.strerror}") from None
    return load(data_dir)


def load(data_dir: Path) -> bytes:
    """The secret in `data_dir`. Raises StartError when it is missing, readable by others, or not what was made."""
    path = data_dir / _FILE_NAME
    try:
        with open(path, "rb", opener=_open_itself) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise StartError(f"the signing key {path} is not a file")
            if found.st_mode & 0o077:
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise StartError(f"the signing key {path} may be read by others (mode {mode}); chmod it to 0600")
            text = file.read(_TEXT_MAX_BYTES)
    except OSError as error:
        raise StartError(f"cannot read the signing key {path}: {error.strerror}") from None
    try:
        secret = b64decode(text.strip(), validate=True)
    except Base64Error:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise StartError(f"the signing key {path} is damaged: it holds not {SECRET_BYTES} bytes in base64")
    return secret


def _open_itself(path: str, flags: int) -> int:
    """Not what a link leads to, and without waiting for whoever writes into a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _make(path: Path) -> None:
    """Whole or not at all: the file gets its name once it is on the disk. Raises FileExistsError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(b64encode(os.urandom(SECRET_BYTES)) + b"\n")
            file.flush()
            os.fsync(descriptor)
        os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    sync(path.parent)
