"""LevelDB's write-ahead log as a file: laid out ahead of what is written, and rid of what a power cut left unfinished.

An append makes its file longer, and so each fsync of the log waits for the file system's journal too. Where zeros stand
already, an fsync writes the bytes themselves and nothing else, in about half the time. So a piece of zeros is kept in
front of what LevelDB appends; LevelDB's reader takes zeros for a part of the log that was prepared and not used. (etcd
reserves the room of its log in advance; RocksDB and InnoDB can write over old logs.)

    log    := block*                                     32 KiB each, the last one may be shorter
    block  := record* trailer?                           a trailer is up to six zeros, where no head finds room
    record := checksum:u32 length:u16 kind:u8 data       little endian; see LevelDB's doc/log_format.md
"""

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import BinaryIO

from kvs.limits import LEVELDB_LOG_AHEAD_BYTES, RECOVERY_RESERVE_BYTES

_BLOCK_BYTES = 32 * 1024
_SECTOR_BYTES = 512
"""Disks write no less at once; newer ones 4 KiB."""
_HEAD = Struct("<IHB")
_BLOCK_COST_BYTES = _HEAD.size + 6
"""What a block takes at most beside batches with one head each: a trailer, and the head of a piece."""
_KIND_AT = 6
"""The checksum is over the kind and the data."""
_NAME = re.compile(r"[0-9]{6,}\.log")
_KINDS = range(1, 5)
"""A whole batch, or the first, a middle, the last piece of one."""


class LogAhead:
    """Keeps zeros in front of what LevelDB appends. For the thread that commits, right behind a commit: nobody else may
    write to the log meanwhile."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._room = 0
        """How many bytes may be written until zeros are looked after again. A new log has none until then."""

    def wrote(self, size_bytes: int) -> None:
        """LevelDB has written a batch of so many bytes. No error is raised: without zeros, writing is slower only."""
        self._room -= _HEAD.size + size_bytes
        if self._room <= 0:
            self._room = LEVELDB_LOG_AHEAD_BYTES - _BLOCK_COST_BYTES * (LEVELDB_LOG_AHEAD_BYTES // _BLOCK_BYTES)
            with suppress(OSError):
                for log in _logs(self._directory)[-1:]:
                    _lay_out(log)


def _lay_out(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        disk = os.fstatvfs(descriptor)
        # The last room is left to writes, and to a reopening.
        if disk.f_bavail * disk.f_frsize > LEVELDB_LOG_AHEAD_BYTES + RECOVERY_RESERVE_BYTES:
            os.pwrite(descriptor, bytes(LEVELDB_LOG_AHEAD_BYTES), os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _logs(directory: Path) -> list[Path]:
    """LevelDB's, in the order in which it wrote them. What else somebody has put there is none of ours."""
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
    return [directory / name for name in sorted(names, key=lambda name: (len(name), name))]


def drop_torn_ends(directory: Path) -> None:
    """Cut off what a power cut left of a batch at the end of a log.

    LevelDB passes over a record that the end of the file cuts short, but behind such a piece of one it finds zeros, and
    reports damage. What has its checksum stays, unless damage in the last block hides where it begins. For a database
    that nobody has open; while somebody else opens it, nothing is done.
    """
    with suppress(OSError), (directory / "LOCK").open("r+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # LevelDB's own lock
        for path in _logs(directory):
            with suppress(OSError), path.open("r+b") as file:
                begin, block = _last_block(file)
                end = whole_until(block)
                if end is not None and begin + end < os.fstat(file.fileno()).st_size:
                    file.truncate(begin + end)


def _last_block(file: BinaryIO) -> tuple[int, bytes]:
    """The last block in which there is anything but zeros, and where it begins."""
    begin, block = os.fstat(file.fileno()).st_size // _BLOCK_BYTES * _BLOCK_BYTES, b""
    while begin >= 0:
        file.seek(begin)
        block = file.read(_BLOCK_BYTES)
        if any(block):
            return begin, block
        begin -= _BLOCK_BYTES
    return 0, b""


def whole_until(block: bytes) -> int | None:
    """Where in a log's last block the records end that are whole; None when what is behind them does not look like the
    beginning of a record whose other sectors never reached the disk: it may have been whole before it was damaged."""
    written, at = len(block.rstrip(b"\0")), 0
    while at < written:
        if written <= at + _KIND_AT:
            return at
        checksum, length, kind = _HEAD.unpack_from(block, at)
        end: int = at + _HEAD.size + length
        if kind not in _KINDS or end > len(block):
            return None
        if end >= written:
            if checksum == _masked(_crc32c(block[at + _KIND_AT : end])):
                return end
            missing_from = -(-written // _SECTOR_BYTES) * _SECTOR_BYTES
            return at if missing_from < end else None
        at = end
    return at


def _crc32c(data: bytes) -> int:
    """Castagnoli's CRC (RFC 3720, section 12.1 and appendix B.4), bit by bit: it is needed for one record only."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def _masked(checksum: int) -> int:
    """The form in which LevelDB stores a checksum."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
