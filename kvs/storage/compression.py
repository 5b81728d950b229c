"""Values packed by zstd, each for itself, and only where that makes them smaller.

A codec number is stored with every record, so old records stay readable whatever the settings are. The numbers are
part of the disk format: never change one.
"""

import threading

import zstandard

from kvs.errors import StoreCorrupt
from kvs.limits import COMPRESS_MIN_BYTES, DECOMPRESSED_MAX_BYTES

RAW = 0
ZSTD = 1


class Compressor:
    """Packs values at one level. May be used by several threads: zstd contexts are not shareable, so each has one."""

    def __init__(self, *, enabled: bool, level: int) -> None:
        """`level` is zstd's, 1 (fast) to 22 (small)."""
        self._enabled = enabled
        self._level = level
        self._local = threading.local()

    def pack(self, data: bytes) -> tuple[int, bytes]:
        """The codec number and the payload to store."""
        if not self._enabled or len(data) < COMPRESS_MIN_BYTES:
            return RAW, data
        context: zstandard.ZstdCompressor | None = getattr(self._local, "context", None)
        if context is None:
            context = self._local.context = zstandard.ZstdCompressor(level=self._level)
        packed = context.compress(data)
        return (ZSTD, packed) if len(packed) < len(data) else (RAW, data)


def unpacked_bytes(codec: int, payload: bytes) -> int:
    """How large the value behind a payload is, by what its frame says; 0 for a payload that `decompress` refuses at
    once. A packed value may be a thousand times larger than its payload, and it is what work and memory go by."""
    if codec == RAW:
        return len(payload)
    try:
        size = zstandard.get_frame_parameters(payload).content_size
    except zstandard.ZstdError:
        return 0
    return size if size <= DECOMPRESSED_MAX_BYTES else 0


def decompress(codec: int, payload: bytes) -> bytes:
    """The value behind a payload. Raises StoreCorrupt when it is none, or larger than DECOMPRESSED_MAX_BYTES.

    The frame must say its size, as those of `Compressor` do: it is checked before anything is allocated.
    """
    if codec == RAW:
        return payload
    if codec != ZSTD:
        raise StoreCorrupt(f"unknown codec {codec}")
    try:
        size = zstandard.get_frame_parameters(payload).content_size
        if size > DECOMPRESSED_MAX_BYTES:  # also the marker of an unknown size, 2^64 - 1
            raise StoreCorrupt(f"a value claims {size} bytes, the limit is {DECOMPRESSED_MAX_BYTES}")
        data = zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False) if size else b""
    except zstandard.ZstdError as error:
        raise StoreCorrupt(f"a compressed value does not decompress: {error}") from error
    if len(data) != size:
        raise StoreCorrupt(f"a compressed value has {len(data)} bytes, its frame says {size}")
    return data
