"""What is encoded decodes to itself; anything else is refused with the one error that says so."""

from base64 import urlsafe_b64decode
from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvs.errors import BadRequest, StoreCorrupt
from kvs.server.cursor import Cursors
from kvs.storage.codec import Indexed, Stored, decode, encode, indexed
from kvs.storage.compression import RAW, ZSTD, Compressor, decompress
from tests.records import record, stored


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


def _indexed_by_decoding(key: bytes, raw: bytes) -> Indexed | None:
    """None: the bytes are corrupt."""
    try:
        whole = decode(key, raw)
    except StoreCorrupt:
        return None
    record = whole.record
    return Indexed(whole.seq, record.timestamp, record.counter, record.expires_at, record.deleted)


@given(stored, st.data())
def test_what_the_indexes_hold_is_what_decoding_says(what: Stored, data: st.DataObject) -> None:
    """Also of bytes that nobody encoded, under a checksum that fits, and under one that does not."""
    raw = bytearray(encode(b"dkey", what))
    for place in data.draw(st.lists(st.integers(0, min(len(raw), 140) - 1), max_size=3)):
        raw[place] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.just(len(raw)) | st.integers(0, len(raw)))])
    for whole in (cut, cut[:1] + crc32(cut[5:], crc32(b"dkey")).to_bytes(4, "big") + cut[5:]):
        wanted = _indexed_by_decoding(b"dkey", whole)
        if wanted is None:
            with pytest.raises(StoreCorrupt):
                indexed(b"dkey", whole)
        else:
            assert indexed(b"dkey", whole) == wanted


_PLAIN = encode(b"dkey", Stored(record(), 1, 1, 0))
_FORGED = {
    "an unknown flag": _PLAIN[:21] + b"\2" + _PLAIN[22:],
    "an unknown codec": _PLAIN[:22] + b"\7" + _PLAIN[23:],
    "a head that is cut": _PLAIN[:81],
    "no texts": _PLAIN[:82],
    "texts that are cut": _PLAIN[:83],
    "a text that is none": _PLAIN[:82] + b"\xff" + _PLAIN[83:],
}


@pytest.mark.parametrize("forged", _FORGED.values(), ids=_FORGED)
def test_a_checksum_that_fits_makes_nothing_whole(forged: bytes) -> None:
    raw = forged[:1] + crc32(forged[5:], crc32(b"dkey")).to_bytes(4, "big") + forged[5:]
    for look in (decode, indexed):
        with pytest.raises(StoreCorrupt):
            look(b"dkey", raw)


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


PLAIN, SEALED = Cursors(), Cursors(bytes(range(32)))


@given(st.binary(min_size=1, max_size=1025), st.sampled_from((PLAIN, SEALED)))
def test_a_cursor_round_trips(start: bytes, cursors: Cursors) -> None:
    assert cursors.decode(cursors.encode(start)) == start


@given(st.text(max_size=60))
def test_a_forged_cursor_is_refused_or_canonical(text: str) -> None:
    try:
        start = PLAIN.decode(text)
    except BadRequest as error:
        code = error.code
    else:
        code = "invalid_cursor" if PLAIN.encode(start) == text else "not canonical"
    assert code == "invalid_cursor"


@given(st.binary(min_size=1, max_size=1025), st.data(), st.sampled_from((PLAIN, SEALED)))
def test_a_mangled_cursor_is_refused(start: bytes, data: st.DataObject, cursors: Cursors) -> None:
    word = cursors.encode(start)
    at = data.draw(st.integers(0, len(word) - 1))
    other = data.draw(st.sampled_from("ABCabc012-_").filter(lambda letter: letter != word[at]))
    for mangled in (word[:at] + other + word[at + 1 :], word[:at], word[at + 1 :], start.hex()):
        with pytest.raises(BadRequest):
            cursors.decode(mangled)


@given(st.binary(min_size=4, max_size=1025), st.data())
def test_a_sealed_cursor_hides_the_key_and_cannot_be_made_by_others(start: bytes, data: st.DataObject) -> None:
    word = SEALED.encode(start)
    assert start not in urlsafe_b64decode(word + "=" * (-len(word) % 4))
    at = data.draw(st.integers(0, len(word) - 1))
    other = data.draw(st.sampled_from("ABCabc012-_").filter(lambda letter: letter != word[at]))
    for forged in (word[:at] + other + word[at + 1 :], PLAIN.encode(start), Cursors(bytes(32)).encode(start)):
        with pytest.raises(BadRequest):
            SEALED.decode(forged)
