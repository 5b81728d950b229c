"""The store on LevelDB, through plyvel: the only file that knows either, but for the form of LevelDB's log
(leveldb_log.py).

Why a failed write stops everything: when LevelDB fails to append to its log (no space, an I/O error) it keeps no note
of it. The torn record stays in the middle of the log, later writes are acknowledged behind it, and the next opening
drops them (google/leveldb pull request 578). After a failed fsync the pages may be gone although a second fsync
succeeds. So after any error nothing is written until the database was closed and opened again, which starts a new
log, and the last acknowledged batch was seen to be there.

All entries of one commit travel in one WriteBatch: a synced write does not make earlier unsynced ones durable once
the log was rotated between them (google/leveldb issue 193).
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import plyvel
import structlog

from kvs.disk import make_private, sync
from kvs.errors import StoreClosed, StoreCorrupt, StoreError, StoreFailed
from kvs.limits import (
    LEVELDB_BLOOM_BITS,
    LEVELDB_CACHE_BYTES,
    LEVELDB_OPEN_FILES_MAX,
    LEVELDB_WRITE_BUFFER_BYTES,
    RECOVERY_RESERVE_BYTES,
    SNAPSHOT_PORTION_BYTES,
    SNAPSHOT_PORTION_ENTRIES,
)
from kvs.storage.leveldb_log import LogAhead, drop_torn_ends
from kvs.storage.store import Batch

log = structlog.get_logger()


class LevelDBStore:
    """See `store.Store`."""

    def __init__(self, directory: Path, *, sync: bool, write_buffer_bytes: int = LEVELDB_WRITE_BUFFER_BYTES) -> None:
        """Open the database in `directory`, made if missing (mode 0700).

        `sync`: whether a commit returns only after an fsync. `write_buffer_bytes`: what is gathered in memory before it
        becomes a table; there are two at times. Raises StoreError with one line for the operator when the directory
        cannot be used, StoreCorrupt when LevelDB's own files are damaged beyond opening.
        """
        self._directory = directory
        self._sync = sync
        self._ahead = LogAhead(directory)
        self._write_buffer_bytes = write_buffer_bytes
        self._failed = False
        self._acknowledged: Batch = {}
        self._uncertain: Batch = {}
        self._closing = Lock()
        """Held while the database is closed, and by snapshots while they read: LevelDB does not bear both at once."""
        self.damage = ""
        """What was damaged of the write-ahead log when it was opened; then entries may be lost. Empty: nothing."""
        try:
            make_private(directory)
            wrong = _not_ours(directory)
        except OSError as error:
            wrong = error.strerror or str(error)
        if wrong:
            raise StoreError(f"cannot use the data directory {directory}: {wrong}")
        self._db: Any = self._open()

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key, verify_checksums=True)
        except (plyvel.Error, RuntimeError, AttributeError) as error:
            raise self._unreadable(error) from error
        return value

    def scan(self, start: bytes, stop: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        try:
            if not backwards:
                with self._db.iterator(start=start, stop=stop, verify_checksums=True) as entries:
                    yield from entries
                return
            # Without a start: plyvel 1.5 finds nothing backwards where the only entry is the one at the start.
            with self._db.iterator(stop=stop, reverse=True, verify_checksums=True) as entries:
                for key, value in entries:
                    if key < start:
                        return
                    yield key, value
        except (plyvel.Error, RuntimeError, AttributeError) as error:
            raise self._unreadable(error) from error

    def snapshot(self) -> "LevelDBSnapshot":
        with self.reading():
            return LevelDBSnapshot(self, self._db.snapshot())

    @contextmanager
    def reading(self) -> Iterator[None]:
        """For snapshots: while this lasts nobody closes the database. Raises what reads raise."""
        with self._closing:
            try:
                yield
            except (plyvel.Error, RuntimeError, AttributeError) as error:
                raise self._unreadable(error) from error

    def commit(self, batch: Batch) -> None:
        self.stage(batch)()

    def stage(self, batch: Batch) -> Callable[[], None]:
        # plyvel gives up the interpreter's lock for every entry, and a thread that does so waits for it each time while
        # the event loop is busy: 265 entries took it half a second beside one that told 1,000 watchers.
        if self._failed or self._db is None:
            raise StoreFailed("an earlier write failed")
        writes = self._db.write_batch(sync=self._sync)
        for key, value in batch.items():
            if value is None:
                writes.delete(key)
            else:
                writes.put(key, value)
        return partial(self._write, writes, batch)

    def _write(self, writes: Any, batch: Batch) -> None:
        try:
            writes.write()
        except (plyvel.Error, RuntimeError) as error:
            self._failed = True
            self._uncertain = batch
            raise StoreFailed(_one_line(error)) from error
        if self._sync:
            self._ahead.wrote(writes.approximate_size())
        self._acknowledged = batch

    def reopen(self) -> None:
        self._failed = True
        self._shut()
        try:
            self._db = self._open()
        except StoreError as error:
            raise StoreFailed(str(error)) from error
        self._verify()
        self._uncertain = {}
        self._failed = False

    def close(self) -> None:
        self._shut()

    def _open(self) -> Any:
        """Raises StoreError and its kinds."""
        try:
            with suppress(plyvel.CorruptionError):
                return self._open_database(paranoid=True)
            drop_torn_ends(self._directory)
            return self._open_database(paranoid=True)
        except plyvel.CorruptionError as error:
            # Sectors may have reached the disk in another order than they were written, and then nothing acknowledged
            # is lost. But the same error can mean that older entries of the log rotted, so it is said loudly.
            self.damage = _one_line(error)
            log.error("Damaged write-ahead log: entries in it may be lost", error=self.damage)
        except (plyvel.Error, OSError) as error:
            raise StoreError(self._explain(error)) from None
        try:
            # This makes tables of what the log holds. It must not stay open: without paranoid checks LevelDB does not
            # verify the tables that it rewrites, and a flipped bit would get a valid checksum.
            self._open_database(paranoid=False).close()
            return self._open_database(paranoid=True)
        except plyvel.CorruptionError as error:
            raise StoreCorrupt(
                f"the database in {self._directory} is damaged and cannot be opened: {_one_line(error)}"
            ) from None
        except (plyvel.Error, OSError) as error:
            raise StoreError(self._explain(error)) from None

    def _open_database(self, *, paranoid: bool) -> Any:
        database = plyvel.DB(
            os.fspath(self._directory),
            create_if_missing=True,
            paranoid_checks=paranoid,
            write_buffer_size=self._write_buffer_bytes,
            lru_cache_size=LEVELDB_CACHE_BYTES,
            max_open_files=LEVELDB_OPEN_FILES_MAX,
            bloom_filter_bits=LEVELDB_BLOOM_BITS,
        )
        if self._sync:
            # The last thing LevelDB does is a renaming that it does not sync. Were that undone by a power cut, it would
            # begin with the old log again, of which the end may never have been synced, though everybody has seen by
            # then what was found there, and what was written since rests on it.
            try:
                sync(self._directory)
            except OSError:
                database.close()
                raise
        return database

    def _explain(self, error: Exception) -> str:
        text = _one_line(error)
        if "LOCK" in text and ("temporarily unavailable" in text or "already held" in text):
            return f"the data directory {self._directory} is in use by another process"
        return f"cannot open the database in {self._directory}: {text}"

    def _unreadable(self, error: Exception) -> StoreError:
        if isinstance(error, plyvel.CorruptionError):
            return StoreCorrupt(f"the database in {self._directory} is damaged: {_one_line(error)}")
        return StoreError(_one_line(error)) if isinstance(error, plyvel.Error) else StoreClosed("the store is closed")

    def probe(self) -> None:
        # LevelDB turns its log into a table when it opens.
        path = self._directory / "probe.tmp"
        try:
            logs = sum(file.stat().st_size for file in self._directory.glob("*.log"))
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, logs + RECOVERY_RESERVE_BYTES)
                os.write(descriptor, b"KVS tests whether the disk takes writes again.\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreFailed(errno.errorcode.get(error.errno or 0, "OSError")) from error
        finally:
            with suppress(OSError):
                path.unlink()

    def _verify(self) -> None:
        """Raises StoreFailed unless the last acknowledged batch is there, where the failed one did not replace it.
        What did replace it is what must be there after the next failure."""
        found = {key: self.get(key) for key in self._acknowledged}
        for key, value in self._acknowledged.items():
            if found[key] != value and not (key in self._uncertain and found[key] == self._uncertain[key]):
                raise StoreFailed("an acknowledged write is missing after reopening")
        self._acknowledged = found

    def _shut(self) -> None:
        with self._closing:
            database, self._db = self._db, None
            if database is not None:
                database.close()


class LevelDBSnapshot:
    """See `store.Snapshot`. Reads portions, so that who closes the database waits for one of them at most."""

    def __init__(self, store: LevelDBStore, snapshot: Any) -> None:
        self._store = store
        self._snapshot = snapshot

    def get(self, key: bytes) -> bytes | None:
        with self._store.reading():
            value: bytes | None = self._snapshot.get(key, verify_checksums=True)
        return value

    def scan(self, start: bytes, stop: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        # What is read once shall not drive out of the cache what is read often.
        options = {"reverse": backwards, "verify_checksums": True, "fill_cache": False}
        with self._store.reading():
            # Backwards without a start, as in `LevelDBStore.scan`.
            entries = self._snapshot.iterator(start=None if backwards else start, stop=stop, **options)
        try:
            while portion := self._portion(entries):
                if backwards and portion[-1][0] < start:
                    yield from (entry for entry in portion if entry[0] >= start)
                    return
                yield from portion
        finally:
            with self._store.reading():
                entries.close()

    def close(self) -> None:
        with self._store.reading():
            self._snapshot.close()

    def _portion(self, entries: Iterator[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        portion: list[tuple[bytes, bytes]] = []
        size_bytes = 0
        with self._store.reading():
            for entry in entries:
                portion.append(entry)
                size_bytes += len(entry[1])
                if size_bytes >= SNAPSHOT_PORTION_BYTES or len(portion) == SNAPSHOT_PORTION_ENTRIES:
                    break
        return portion


def _one_line(error: Exception) -> str:
    """LevelDB's own words, which plyvel hands on as bytes, or those of the system."""
    text = getattr(error, "strerror", None) or (error.args[0] if error.args else "")
    return " ".join((text.decode(errors="replace") if isinstance(text, bytes) else str(error)).split())


def _not_ours(directory: Path) -> str:
    """Why others could lead LevelDB, which follows links and opens files by known names, to files elsewhere."""
    status = directory.stat()
    if status.st_uid not in (os.geteuid(), 0):
        return f"it belongs to user {status.st_uid}, not to {os.geteuid()}"
    if status.st_mode & 0o022:
        return "others may write in it; chmod it to 0700"
    return ""
