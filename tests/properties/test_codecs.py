"""What is encoded decodes to itself; anything else is refused with the one error that says so."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.errors import BadRequest, StoreCorrupt
from kvs.server import cursor
from kvs.storage.codec import Stored, decode, encode
from kvs.storage.compression import RAW, ZSTD, Compressor, decompress
from tests.records import stored


@given(st.binary(max_size=64), stored)
def test_a_stored_record_round_trips(key: bytes, what: Stored) -> None:
    assert decode(key, encode(key, what)) == what


@given(st.binary(max_size=300))
@example(b"")
def test_garbage_is_corrupt(raw: bytes) -> None:
    with pytest.raises(StoreCorrupt):
        decode(b"dkey", raw)


@given(stored, st.data())
def test_every_flipped_bit_is_found(what: Stored, data: st.DataObject) -> None:
    raw = bytearray(encode(b"dkey", what))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StoreCorrupt):
        decode(b"dkey", bytes(raw))


@given(stored, st.data())
def test_every_cut_is_found(what: Stored, data: st.DataObject) -> None:
    raw = encode(b"dkey", what)
    with pytest.raises(StoreCorrupt):
        decode(b"dkey", raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(stored)
def test_a_record_under_a_foreign_key_is_corrupt(what: Stored) -> None:
    with pytest.raises(StoreCorrupt):
        decode(b"dother", encode(b"dkey", what))


@given(st.binary(max_size=2000), st.integers(1, 5))
def test_compression_round_trips_and_never_grows(data: bytes, level: int) -> None:
    codec, payload = Compressor(enabled=True, level=level).pack(data * 3)
    assert decompress(codec, payload) == data * 3
    assert len(payload) <= len(data * 3)
    assert (codec == RAW) == (payload == data * 3)


@given(st.integers(0, 255), st.binary(max_size=200))
def test_garbage_never_crashes_the_decompressor(codec: int, payload: bytes) -> None:
    try:
        data = decompress(codec, payload)
    except StoreCorrupt:
        return
    assert codec in (RAW, ZSTD)
    assert codec == ZSTD or data == payload


@given(st.binary(min_size=1, max_size=1025))
def test_a_cursor_round_trips(start: bytes) -> None:
    assert cursor.decode(cursor.encode(start)) == start


@given(st.text(max_size=60))
def test_a_forged_cursor_is_refused_or_canonical(text: str) -> None:
    try:
        start = cursor.decode(text)
    except BadRequest as error:
        code = error.code
    else:
        code = "invalid_cursor" if cursor.encode(start) == text else "not canonical"
    assert code == "invalid_cursor"
