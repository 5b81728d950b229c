"""Makes a data directory out of a backup, for a node that does not run.

    data_dir.restoring   is filled and brought to the disk
    data_dir             gets it by one rename: whatever interrupts a restore, it is as empty as before, or whole

What is restored is a new instance with the records of the old one. It goes on above all versions in the backup. It says
nothing of itself to others that only the old one could say: whom it knows, whom it equals. See `Floor` for what it does
know. The Merkle tree is made by the first start, as for a node that was alone. Its audit log begins with the restore.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kvs.actions import RESTORE
from kvs.auth.principal import LOCAL_ACTOR
from kvs.cluster.events import Act, Line, Note, Remembered
from kvs.cluster.floor import Stored, encode
from kvs.cluster.trail import Trail
from kvs.disk import sync
from kvs.errors import RestoreRefused
from kvs.limits import RESTORE_WRITE_BUFFER_BYTES, RESTORED_SEQ_STEP
from kvs.storage.backup import Header, portions, summary
from kvs.storage.backup_files import name_of, resource_of
from kvs.storage.current import index_rows
from kvs.storage.keyspace import REVISIONS, change_row
from kvs.storage.leveldb import LevelDBStore
from kvs.storage.state import FILLED_ROW, FLOOR_ROW, PROGRESS_ROW, Progress, encode_progress, open_state
from kvs.storage.store import Store


def check_target(data_dir: Path) -> None:
    """Raises RestoreRefused unless a backup may be restored into this folder: it is missing, or empty and this user's
    own."""
    try:
        if next(data_dir.iterdir(), None) is not None:
            raise RestoreRefused(f"{data_dir} is not empty; a backup is restored into an empty folder only")
        if data_dir.stat().st_uid != os.geteuid():
            raise RestoreRefused(f"{data_dir} belongs to another user; restore as the user that runs the node")
        if data_dir.is_mount():
            raise RestoreRefused(f"{data_dir} is a mount point; let data_dir name a folder in it")
    except FileNotFoundError:
        return
    except OSError as error:
        raise RestoreRefused(f"cannot use {data_dir}: {error.strerror}") from None


def restore(
    file: BinaryIO,
    data_dir: Path,
    now_ms: int,
    drift_max_ms: int,
    on_read: Callable[[int], None] = lambda _: None,
    *,
    logged: Collection[str] = (),
) -> None:
    """Restore a backup, which is verified on the way. `drift_max_ms` is the node's max_clock_drift; `on_read` hears how
    many bytes of the file have been read; `logged` are the actions that the node's audit log holds. Raises
    RestoreRefused, BackupDamaged, StoreError, OSError; then `data_dir` is as it was."""
    data_dir = data_dir.resolve()
    check_target(data_dir)
    with _workshop(data_dir) as folder:
        store = LevelDBStore(folder, sync=False, write_buffer_bytes=RESTORE_WRITE_BUFFER_BYTES)
        try:
            fill(store, file, now_ms, drift_max_ms, on_read, logged=logged)
        finally:
            store.close()
        _sync_all(folder)
        try:
            folder.rename(data_dir)
        except OSError as error:
            raise RestoreRefused(f"cannot put the restored data into {data_dir}: {error.strerror}") from None
        sync(data_dir.parent)


def fill(
    store: Store,
    file: BinaryIO,
    now_ms: int,
    drift_max_ms: int,
    on_read: Callable[[int], None] = lambda _: None,
    *,
    logged: Collection[str] = (),
) -> None:
    """Put what is in a backup into an empty store, with all rows that follow from it; the rest is as of `restore`. When
    this raises BackupDamaged, OSError or StoreError, what is in the store is good for nothing."""
    header = summary(file).header
    trail = Trail(open_state(store, now_ms).instance_id, logged, store)
    timestamp, counter, seq = header.progress
    highest, records, tombstones = (timestamp, counter), 0, 0
    # A clock that was far ahead is not to be followed, as when a peer sends such a record.
    believed_ms = header.created_at + drift_max_ms
    for section, rows, indexed in portions(file, on_read):
        batch: dict[bytes, bytes | None] = dict(rows)
        if section != REVISIONS:
            records += len(rows)
            for (key, _), record in zip(rows, indexed, strict=True):
                for row in index_rows(key, record):
                    batch[row] = b""
                batch[change_row(record.seq)] = key
                tombstones += record.deleted
            seq = max(seq, max(record.seq for record in indexed))
            versions = ((record.timestamp, record.counter) for record in indexed if record.timestamp <= believed_ms)
            highest = max(highest, max(versions, default=highest))
        store.commit(batch)
    state = _state(header, Progress(*highest, seq + RESTORED_SEQ_STEP, records, tombstones), now_ms)
    _log(trail, header, now_ms, state)
    store.commit(state)


def _state(header: Header, progress: Progress, now_ms: int) -> dict[bytes, bytes | None]:
    floor = Stored(min(header.floor, now_ms), as_of=min(header.as_of, now_ms), had_peers=header.had_peers)
    return {PROGRESS_ROW: encode_progress(progress), FLOOR_ROW: encode(floor), FILLED_ROW: b""}


def _log(trail: Trail, header: Header, now_ms: int, batch: dict[bytes, bytes | None]) -> None:
    """Whoever can write the data directory is the operator. The file may have any name; the backup says what it was."""
    act = Act(RESTORE, LOCAL_ACTOR, resource_of(name_of(header.created_at)))
    lines: list[Line] = []
    trail.note(Note(acts=(act,)), Remembered(), lines)
    trail.extend(lines, now_ms, batch)


@contextmanager
def _workshop(data_dir: Path) -> Iterator[Path]:
    """An empty folder beside the data directory, held by this process, and removed unless it was renamed."""
    folder = data_dir.with_name(f"{data_dir.name}.restoring")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise RestoreRefused(f"cannot make the folder {folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RestoreRefused(f"another restore works in {folder}") from None
        _clear(folder)  # what one that was killed has left
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    finally:
        os.close(held)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _sync_all(folder: Path) -> None:
    for path in folder.iterdir():
        sync(path)
    sync(folder)
