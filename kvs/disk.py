"""What has to be on the disk before something else may be done."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Force the content of a file, or the names in a folder, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
