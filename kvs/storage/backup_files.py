"""The folder of backups: their names, making one without leaving half of it behind, and which may go.

A backup gets its name once it is whole and on the disk; until then it is `kvs-backup-<instance id>.tmp`. Several nodes
may share a folder: each removes only what it made itself.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kvs.disk import sync
from kvs.errors import BackupDamaged
from kvs.limits import BACKUP_FREE_MIN_BYTES, BACKUP_FREE_MIN_PARTS, BACKUP_SYNC_BYTES
from kvs.storage.backup import Counts, Header, Summary, summary, write
from kvs.storage.store import Reader

_NAME = re.compile(r"kvs-backup-\d{8}T\d{6}\.\d{3}Z\.zst")


class Found(NamedTuple):
    """A file of the folder with the name of a backup. `summary` is None for one that is damaged at its ends."""

    path: Path
    size_bytes: int
    summary: Summary | None

    def document(self) -> dict[str, object]:
        """What people are told of it, for JSON."""
        about = {"size_bytes": self.size_bytes} if self.summary is None else self.summary.document()
        return {"name": self.path.name, "readable": self.summary is not None, **about}


class Made(NamedTuple):
    """A backup that is on the disk."""

    path: Path
    counts: Counts
    size_bytes: int


def name_of(created_at: int) -> str:
    """`kvs-backup-20260101T000000.000Z.zst` for Unix ms: names sort by time."""
    moment = datetime.fromtimestamp(created_at / 1000, UTC)
    return f"kvs-backup-{moment:%Y%m%dT%H%M%S}.{created_at % 1000:03d}Z.zst"


def resource_of(name: str = "") -> str:
    """What a backup is called in the audit log; without a name, one of which nothing is known."""
    return f"/backup/{name}" if name else "/backup"


def found(folder: Path) -> list[Found]:
    """The backups in a folder, oldest first; none if it does not exist. Raises OSError."""
    try:
        paths = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []
    return [one for path in paths if (one := _look_at(path)) is not None]


def outdated(backups: Iterable[Found], instance_id: str, before_ms: int, good: Path) -> list[Path]:
    """Those that the node of this instance id made before a moment (Unix ms), but never `good`, the last good one."""
    return [
        path
        for path, _, about in backups
        if about is not None
        and about.header.instance_id == instance_id
        and about.header.created_at < before_ms
        and path != good
    ]


def remove(paths: Iterable[Path]) -> None:
    """Raises OSError."""
    for path in paths:
        path.unlink(missing_ok=True)


def remove_unfinished(folder: Path, instance_id: str) -> None:
    """What a node that was killed meanwhile has left. Raises OSError."""
    _unfinished(folder, instance_id).unlink(missing_ok=True)


def make(folder: Path, header: Header, snapshot: Reader, on_rows: Callable[[Counts], None]) -> Made:
    """Write a backup into the folder, which is made if it is missing. `on_rows` is called after each portion and may
    raise to end it. Whatever is raised, nothing is left behind. Raises OSError, and what the snapshot raises."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _unfinished(folder, header.instance_id)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            room = _Room(file)

            def after_rows(counts: Counts) -> None:
                room.check()
                on_rows(counts)

            counts = write(file, header, snapshot, after_rows)
            file.flush()
            os.fsync(descriptor)
            size_bytes = file.tell()
        path = _give_name(path, header.created_at)
        sync(folder)
    except BaseException:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise
    return Made(path, counts, size_bytes)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A backup to read. Raises OSError; IsADirectoryError and the like for what is no file."""
    # O_NONBLOCK: opening a FIFO must not wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        yield file


class _Room:
    """Brings what is written to the disk in steps, and ends a backup before it fills the disk: the database may be on
    the same one, and would take no writes any more."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._synced_bytes = 0

    def check(self) -> None:
        """Raises OSError."""
        written_bytes = self._file.tell()
        if written_bytes - self._synced_bytes < BACKUP_SYNC_BYTES:
            return
        self._file.flush()
        descriptor = self._file.fileno()
        # Much that is unsynced makes the fsync of everybody else slow; and nobody reads it soon.
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, self._synced_bytes, written_bytes - self._synced_bytes, os.POSIX_FADV_DONTNEED)
        self._synced_bytes = written_bytes
        disk = os.fstatvfs(descriptor)
        wanted_bytes = min(BACKUP_FREE_MIN_BYTES, disk.f_blocks * disk.f_frsize // BACKUP_FREE_MIN_PARTS)
        if disk.f_bavail * disk.f_frsize < wanted_bytes:
            raise OSError(errno.ENOSPC, "too little room would be left on the disk")


def _unfinished(folder: Path, instance_id: str) -> Path:
    return folder / f"kvs-backup-{instance_id}.tmp"


def _give_name(path: Path, created_at: int) -> Path:
    """Nothing that is there is replaced: of two nodes with one folder the second takes the next millisecond."""
    for moment in count(created_at):
        named = path.with_name(name_of(moment))
        try:
            os.link(path, named)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) or named.exists():
                raise
            path.rename(named)  # a file system without hard links
        else:
            path.unlink()
        return named
    raise AssertionError("unreachable")


def _look_at(path: Path) -> Found | None:
    try:
        with opened(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            try:
                return Found(path, size_bytes, summary(file))
            except BackupDamaged:
                return Found(path, size_bytes, None)
    except OSError:
        return None  # gone meanwhile, or not ours to read
