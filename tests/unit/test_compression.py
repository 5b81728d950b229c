import pytest
import zstandard

from kvs.errors import StoreCorrupt
from kvs.limits import COMPRESS_MIN_BYTES, DECOMPRESSED_MAX_BYTES
from kvs.storage.compression import RAW, ZSTD, Compressor, decompress, unpacked_bytes


def test_what_gets_smaller_is_packed() -> None:
    codec, payload = Compressor(enabled=True, level=3).pack(b"a" * 1000)
    assert codec == ZSTD
    assert len(payload) < 50


def test_short_random_or_unwanted_values_stay_raw() -> None:
    assert Compressor(enabled=True, level=3).pack(b"a" * (COMPRESS_MIN_BYTES - 1))[0] == RAW
    assert Compressor(enabled=True, level=3).pack(bytes(range(256)))[0] == RAW
    assert Compressor(enabled=False, level=3).pack(b"a" * 1000)[0] == RAW


def test_a_bomb_is_refused_before_memory_is_taken() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(DECOMPRESSED_MAX_BYTES + 1))
    assert len(bomb) < 10_000
    with pytest.raises(StoreCorrupt, match="limit"):
        decompress(ZSTD, bomb)


def test_a_frame_of_unknown_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 1000)
    with pytest.raises(StoreCorrupt):
        decompress(ZSTD, frame)


def test_several_frames_are_refused() -> None:
    frame = zstandard.ZstdCompressor().compress(b"a" * 1000)
    with pytest.raises(StoreCorrupt):
        decompress(ZSTD, frame + frame)


def test_an_empty_value_in_a_frame() -> None:
    assert decompress(ZSTD, zstandard.ZstdCompressor().compress(b"")) == b""


def test_how_large_a_value_is_can_be_told_without_unpacking_it() -> None:
    packed = zstandard.ZstdCompressor().compress(bytes(1_000_000))
    assert unpacked_bytes(ZSTD, packed) == 1_000_000
    assert unpacked_bytes(RAW, b"abc") == 3


@pytest.mark.parametrize(
    "refused",
    [
        b"no frame",
        b"",
        zstandard.ZstdCompressor().compress(bytes(DECOMPRESSED_MAX_BYTES + 1)),
        zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 1000),
    ],
    ids=["no frame", "nothing", "too large", "unknown size"],
)
def test_what_is_refused_takes_no_room(refused: bytes) -> None:
    assert unpacked_bytes(ZSTD, refused) == 0
