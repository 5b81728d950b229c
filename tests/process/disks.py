"""A disk of a chosen size: a tmpfs that is filled and freed by the test."""

import errno
import os
import subprocess
from pathlib import Path
from typing import NamedTuple


class NoMount(Exception):
    """This machine lets the test make no disk."""


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

    def leave(self, room: int) -> None:
        """Fill it until so much is free, while others write to it, who may take some of what was to be filled."""
        while (size := self.free_bytes() - room) > 0:
            try:
                self.fill(size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                return

    def free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def unmount(self) -> None:
        """Fails when something still uses it; it is then out of sight, and gone with the last process that does."""
        result = subprocess.run(["umount", str(self.folder)], capture_output=True, text=True, timeout=10)
        if result.returncode != 0:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True, timeout=10)
            raise AssertionError(result.stderr)


def mount(folder: Path, size: int) -> Disk:
    """A disk of so many bytes in a folder that is there. Raises NoMount."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "kvs-full-disk", str(folder)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except FileNotFoundError:
        raise NoMount("no mount command: a full disk cannot be made") from None
    if result.returncode != 0:
        assert os.geteuid() != 0 or "permission denied" in result.stderr, result.stderr
        raise NoMount(f"mounting is not permitted: {result.stderr.strip()}")
    return Disk(folder)
