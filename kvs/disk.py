"""Folders, and what has to be on the disk before something else may be done."""

import os
from pathlib import Path


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter, and those above it; it may be there. Raises OSError, whose
    `strerror` can be shown."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        error.strerror = "it is no folder"
        raise


def sync(path: Path) -> None:
    """Force the content of a file, or the names in a folder, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
