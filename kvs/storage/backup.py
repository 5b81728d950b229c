"""A backup as a file: what a node held at one moment.

    file      := frame footer
    frame     := one zstd frame, with zstd's own checksum, of `content`
    content   := header rows*
    header    := length:u32 JSON object, see Header
    rows      := length:u32 msgpack array of [key, value]
    footer    := 50 2a 4d 18 50 00 00 00
                 documents:u64 records:u64 revisions:u64 tombstones:u64 left_out:u64 content_bytes:u64
                 digest:32

Rows are entries of the key space (see keyspace.py) as they stand in the store: KVS's own documents (`s`), then current
records of users (`d`), then revisions (`h`), each in the order of keys. The rows of all indexes follow from them. The
documents stand first because they hold the permissions: whoever reads a backup into a living node has those in place
before the values. Integers are big-endian, but for the first 8 bytes of the footer: these are the head of a skippable
frame of zstd, so that any tool for zstd unpacks the content and passes over the footer.

`tombstones` are among documents and records. `left_out` counts entries that failed their checksum when the backup was
made. `digest` is the BLAKE2b-256 of all bytes of the file before it: a cut or a flipped bit is found wherever it is,
also where zstd would not care. It is no signature: who can write the file can write another one.

A format number (the header's `kvs_backup`) never changes its meaning.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from struct import Struct
from typing import Annotated, BinaryIO, NamedTuple

import msgspec
import zstandard

from kvs.errors import BackupDamaged, StoreCorrupt
from kvs.limits import (
    BACKUP_HEADER_MAX_BYTES,
    BACKUP_ROWS_BYTES,
    BACKUP_ROWS_MAX,
    BACKUP_ROWS_MAX_BYTES,
    BACKUP_WINDOW_MAX_BYTES,
    BACKUP_ZSTD_LEVEL,
    MOMENT_MAX_MS,
)
from kvs.storage.codec import Indexed, indexed, is_tombstone, is_whole
from kvs.storage.keyspace import DATA, REVISIONS, SYSTEM, after, split_revision
from kvs.storage.store import Reader

FORMAT = 1
SECTIONS = (SYSTEM, DATA, REVISIONS)
"""The kinds of entries in a backup, in their order."""

_LENGTH = Struct(">I")
_COUNTS = Struct(">6Q")
_FOOTER = Struct(">8s48s32s")
_FOOTER_HEAD = bytes.fromhex("502a4d18") + (_FOOTER.size - 8).to_bytes(4, "little")
_DIGEST_BYTES = 32
_READ_BYTES = 256 * 1024

ROWS_TYPE = "application/vnd.msgpack"
"""The content type of rows on their way to a living node: an array of [key, value], as in `content`."""

encode_rows = msgspec.msgpack.Encoder().encode
decode_rows = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]]).decode
"""Raises msgspec.DecodeError."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is known before the first row. Times are Unix ms.

    `node_id` and `instance_id` name the node that made it. `progress` is its (timestamp, counter, seq), see state.py.
    How it stood among others: `had_peers` says whether it ever knew any, `floor` is its floor, and `as_of` the moment
    up to which it was proven to know of every deletion, see kvs/cluster/floor.py.
    """

    kvs_backup: int = FORMAT
    version: str
    created_at: Annotated[int, msgspec.Meta(ge=0, le=MOMENT_MAX_MS)]
    node_id: str
    instance_id: str
    progress: tuple[int, int, int]
    had_peers: bool
    floor: int
    as_of: int


class Standing(NamedTuple):
    """How a node stands among others: what its backups say of it. Times are Unix ms."""

    floor_ms: int
    as_of_ms: int
    had_peers: bool


class Counts(NamedTuple):
    """How many entries of each kind there are."""

    documents: int = 0
    records: int = 0
    revisions: int = 0
    tombstones: int = 0
    left_out: int = 0
    content_bytes: int = 0

    @property
    def rows(self) -> int:
        return self.documents + self.records + self.revisions


class Summary(NamedTuple):
    """What a backup says of itself."""

    header: Header
    counts: Counts
    size_bytes: int

    def document(self) -> dict[str, object]:
        """What people are told of it, for JSON."""
        header = self.header
        about = {"created_at": header.created_at, "node_id": header.node_id, "version": header.version}
        return {"size_bytes": self.size_bytes, **about, **self.counts._asdict()}


def entry_of_row(key: bytes) -> bytes:
    """The entry key that the checksum of a row's value covers."""
    return split_revision(key)[0] if key.startswith(REVISIONS) else key


# --- writing ---


def write(file: BinaryIO, header: Header, snapshot: Reader, on_rows: Callable[[Counts], None]) -> Counts:
    """Write a whole backup to `file`. `on_rows` is called after each portion with what is written so far, and may raise
    to end it. Raises what the file and the snapshot raise."""
    packer = zstandard.ZstdCompressor(level=BACKUP_ZSTD_LEVEL, write_checksum=True).compressobj()
    digest = blake2b(digest_size=_DIGEST_BYTES)
    counts = Counts()

    def put(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    def put_message(body: bytes) -> int:
        put(packer.compress(_LENGTH.pack(len(body)) + body))
        return _LENGTH.size + len(body)

    content_bytes = put_message(msgspec.json.encode(header))
    for section in SECTIONS:
        for rows, tombstones, left_out in _portions(snapshot, section):
            content_bytes += put_message(encode_rows(rows)) if rows else 0
            counts = _plus(counts, section, len(rows), tombstones)
            counts = counts._replace(left_out=counts.left_out + left_out, content_bytes=content_bytes)
            on_rows(counts)
    put(packer.flush())
    counts = counts._replace(content_bytes=content_bytes)
    put(_FOOTER_HEAD + _COUNTS.pack(*counts))
    file.write(digest.digest())
    return counts


def _portions(snapshot: Reader, section: bytes) -> Iterator[tuple[list[tuple[bytes, bytes]], int, int]]:
    """Rows of one message, how many of them are tombstones, and how many were left out because they are corrupt."""
    rows: list[tuple[bytes, bytes]] = []
    size_bytes = tombstones = left_out = 0
    are_current = section != REVISIONS
    for row in snapshot.scan(section, after(section)):
        key, value = row
        if not is_whole(key if are_current else entry_of_row(key), value):
            left_out += 1
            continue
        rows.append(row)
        size_bytes += len(key) + len(value)
        tombstones += are_current and is_tombstone(value)
        if len(rows) == BACKUP_ROWS_MAX or size_bytes >= BACKUP_ROWS_BYTES:
            yield rows, tombstones, left_out
            rows, size_bytes, tombstones, left_out = [], 0, 0, 0
    if rows or left_out:
        yield rows, tombstones, left_out


def _plus(counts: Counts, section: bytes, rows: int, tombstones: int) -> Counts:
    documents, records, revisions, tombstones_before, left_out, content_bytes = counts
    return Counts(
        documents + rows * (section == SYSTEM),
        records + rows * (section == DATA),
        revisions + rows * (section == REVISIONS),
        tombstones_before + tombstones,
        left_out,
        content_bytes,
    )


# --- reading ---


class Portion(NamedTuple):
    """Some rows of one section, (key, value), and what the indexes hold of each."""

    section: bytes
    rows: list[tuple[bytes, bytes]]
    indexed: list[Indexed]


def summary(file: BinaryIO) -> Summary:
    """What a backup says of itself, from its two ends. Nothing is verified. Raises BackupDamaged when these are not
    those of a backup, OSError."""
    footer = _read_footer(file)
    with _unpacked(_Frame(file, footer.frame_bytes, lambda _: None)) as content:
        header = _decode_header(_message(content, BACKUP_HEADER_MAX_BYTES))
    return Summary(header, footer.counts, footer.frame_bytes + _FOOTER.size)


def verify(file: BinaryIO, on_read: Callable[[int], None] = lambda _: None) -> Summary:
    """Read and check everything. `on_read` hears how many bytes of the file have been read. Raises BackupDamaged,
    OSError."""
    found = summary(file)
    for _ in portions(file, on_read):
        pass
    return found


def portions(file: BinaryIO, on_read: Callable[[int], None] = lambda _: None) -> Iterator[Portion]:
    """All rows of a backup. Each was checked for itself when it comes; that the file is whole is known when the
    iterator ends without raising BackupDamaged. Raises OSError."""
    footer = _read_footer(file)
    frame = _Frame(file, footer.frame_bytes, on_read)
    counts, last = Counts(), (0, b"")
    with _unpacked(frame) as content:
        header = _message(content, BACKUP_HEADER_MAX_BYTES)
        _decode_header(header)
        content_bytes = _LENGTH.size + len(header)
        while body := _message(content, BACKUP_ROWS_MAX_BYTES):
            content_bytes += _LENGTH.size + len(body)
            portion, last = _decode_rows(body, last)
            is_current = portion.section != REVISIONS
            tombstones = sum(record.deleted for record in portion.indexed) if is_current else 0
            counts = _plus(counts, portion.section, len(portion.rows), tombstones)
            yield portion
    if frame.digest(_FOOTER_HEAD + _COUNTS.pack(*footer.counts)) != footer.digest:
        raise BackupDamaged("the file does not have the checksum that stands at its end")
    if counts._replace(left_out=footer.counts.left_out, content_bytes=content_bytes) != footer.counts:
        raise BackupDamaged("the counts at the end of the file are not those of what is in it")


class _Footer(NamedTuple):
    counts: Counts
    digest: bytes
    frame_bytes: int
    """How long the frame before it is."""


def _read_footer(file: BinaryIO) -> _Footer:
    """Leaves the file at its beginning."""
    size_bytes = file.seek(0, os.SEEK_END)
    if size_bytes <= _FOOTER.size:
        raise BackupDamaged("the file is too short for a backup")
    file.seek(-_FOOTER.size, os.SEEK_END)
    head, counts, digest = _FOOTER.unpack(file.read(_FOOTER.size))
    file.seek(0)
    if head != _FOOTER_HEAD:
        raise BackupDamaged("the file does not end as a backup does: it is none, or cut off")
    return _Footer(Counts(*_COUNTS.unpack(counts)), digest, size_bytes - _FOOTER.size)


class _Frame:
    """The packed part of a file, as zstd reads it: at most so many bytes, all of which go into the digest."""

    def __init__(self, file: BinaryIO, size_bytes: int, on_read: Callable[[int], None]) -> None:
        self._file = file
        self._left_bytes = size_bytes
        self._on_read = on_read
        self._digest = blake2b(digest_size=_DIGEST_BYTES)

    def read(self, most: int) -> bytes:
        data = self._file.read(min(most, self._left_bytes))
        self._left_bytes -= len(data)
        self._digest.update(data)
        self._on_read(self._file.tell())
        return data

    def digest(self, behind: bytes) -> bytes:
        """Of the whole frame, also of what zstd had no use for, and what stands behind it."""
        while self.read(_READ_BYTES):
            pass
        self._digest.update(behind)
        return self._digest.digest()


@contextmanager
def _unpacked(frame: _Frame) -> Iterator[BinaryIO]:
    """The content, never more of it in memory than is asked for."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=BACKUP_WINDOW_MAX_BYTES)
    try:
        with unpacker.stream_reader(frame, read_size=_READ_BYTES, closefd=False) as content:  # type: ignore[arg-type]  # only `read` is needed
            yield content
    except zstandard.ZstdError as error:
        raise BackupDamaged(f"the file does not unpack: {error}") from None


def _message(content: BinaryIO, max_bytes: int) -> bytes:
    """The next one; empty at the end."""
    length = _exactly(content, _LENGTH.size)
    if not length:
        return b""
    (size_bytes,) = _LENGTH.unpack(length)
    if not 0 < size_bytes <= max_bytes:
        raise BackupDamaged(f"a part of the file claims {size_bytes} bytes")
    body = _exactly(content, size_bytes)
    if not body:
        raise BackupDamaged("the content ends too early")
    return body


def _exactly(content: BinaryIO, size_bytes: int) -> bytes:
    """So many bytes, or none at the end."""
    data = bytearray()
    while len(data) < size_bytes and (more := content.read(size_bytes - len(data))):
        data += more
    if data and len(data) < size_bytes:
        raise BackupDamaged("the content ends too early")
    return bytes(data)


def _decode_header(body: bytes) -> Header:
    try:
        number = msgspec.json.decode(body, type=_Format).kvs_backup
        if number != FORMAT:
            raise BackupDamaged(f"the backup has format {number}, this version of KVS reads format {FORMAT} only")
        return msgspec.json.decode(body, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BackupDamaged("the file has no header of a backup") from None


class _Format(msgspec.Struct):
    kvs_backup: int


def _decode_rows(body: bytes, last: tuple[int, bytes]) -> tuple[Portion, tuple[int, bytes]]:
    """`last` is the place of the row before: the number of its section, its key."""
    try:
        rows = decode_rows(body)
        section = rows[0][0][:1]
        number = SECTIONS.index(section)
        if section == REVISIONS:
            records = [indexed(entry_of_row(key), value) for key, value in rows]
        else:
            records = [indexed(key, value) for key, value in rows]
    except (msgspec.DecodeError, IndexError, ValueError):
        raise BackupDamaged("a part of the file holds no rows") from None
    except StoreCorrupt as error:
        raise BackupDamaged(f"a row of the file is damaged: {error}") from None
    keys = [key for key, _ in rows]
    if (number, keys[0]) <= last or keys != sorted(set(keys)) or not keys[-1].startswith(section):
        raise BackupDamaged("the rows of the file are not in order")
    return Portion(section, rows, records), (number, keys[-1])
