"""Keys and values that are remembered: nobody is shown bytes that were not verified."""

from urllib.parse import unquote_to_bytes

import pytest
from msgspec.structs import replace

from kvs.errors import BadRequest, StoreCorrupt
from kvs.limits import SHOWN_MAX_BYTES
from kvs.server.remembered import requested_entry, shown
from kvs.storage.codec import Stored, encode
from kvs.storage.compression import Compressor
from kvs.storage.keyspace import data_key
from tests.records import record

ENTRY = b"da"


def stored(payload: bytes, content_type: str = "application/json") -> bytes:
    made = record(uuid=bytes(15) + b"\7", content_type=content_type, payload=payload)
    return encode(ENTRY, Stored(made, 1, 1, 0))


@pytest.mark.parametrize("size", [1, SHOWN_MAX_BYTES], ids=["remembered", "large"])
def test_every_read_finds_each_flipped_bit(size: int) -> None:
    raw = stored(b'"%b"' % (b"x" * size))
    before = shown(ENTRY, raw)
    for place in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(StoreCorrupt):
            shown(ENTRY, bytes(flipped))
    assert shown(ENTRY, raw) == before


def test_a_record_under_a_key_that_is_not_its_own_is_not_shown() -> None:
    raw = stored(b"1")
    shown(ENTRY, raw)
    with pytest.raises(StoreCorrupt):
        shown(b"db", raw)


def test_what_is_remembered_is_what_is_made_anew() -> None:
    for raw in (stored(b'{"a":1}'), stored(b"a page", "text/html")):
        first = shown(ENTRY, raw)
        assert shown(ENTRY, bytes(bytearray(raw))) is first
        assert first.tag == "00000000-0000-0000-0000-000000000007"
        assert b'ETag: "%b"\r\n' % first.tag.encode() in first.fields
    assert shown(ENTRY, stored(b"a page", "text/html")).body == b""
    assert shown(ENTRY, stored(b'{"a":1}')).body == (
        b'{"uuid":"00000000-0000-0000-0000-000000000007","timestamp":1700000000000,"data":{"a":1}}'
    )


def test_what_is_packed_well_is_not_remembered_unpacked() -> None:
    codec, payload = Compressor(enabled=True, level=3).pack(b'"%b"' % (b" " * 1_000_000))
    packed = encode(ENTRY, Stored(replace(record(), codec=codec, payload=payload), 1, 1, 0))
    assert len(packed) <= SHOWN_MAX_BYTES
    assert shown(ENTRY, packed).body == b""


@pytest.mark.parametrize("raw", ["a%20b/c", "%F0%9F%8D%8E", "k" * 200])
def test_a_key_is_the_same_again(raw: str) -> None:
    assert requested_entry(raw) == requested_entry(raw) == data_key(unquote_to_bytes(raw))


@pytest.mark.parametrize("raw", ["", "a//b", "_x", "a/metadata", "%FF", "k" * 1_025])
def test_a_key_that_is_none_is_refused_again(raw: str) -> None:
    for _ in range(2):
        with pytest.raises(BadRequest):
            requested_entry(raw)
