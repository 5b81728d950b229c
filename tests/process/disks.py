"""A disk of a chosen size: a tmpfs that is filled and freed by the test."""

import os
from pathlib import Path
from typing import NamedTuple


class Disk(NamedTuple):
    """A mounted tmpfs with a ballast file."""

    folder: Path

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self, size: int) -> None:
        descriptor = os.open(self.ballast, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
