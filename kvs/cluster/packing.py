"""Sorted keys in few bytes.

    keys := { shared:varint length:varint suffix }      one key after the other

`shared` is how many bytes a key has in common with the one before it, `suffix` the rest. A varint has seven bits a
byte, least significant first, the high bit set on all bytes but the last. Keys need not be sorted, but only then do
they get short.
"""

from collections.abc import Iterable

from kvs.errors import BadMessage
from kvs.limits import ENTRY_MAX_BYTES


def pack_keys(keys: Iterable[bytes]) -> bytes:
    out = bytearray()
    before = b""
    for key in keys:
        shared = _shared(before, key)
        _put(out, shared)
        _put(out, len(key) - shared)
        out += key[shared:]
        before = key
    return bytes(out)


def unpack_keys(packed: bytes, count_max: int) -> list[bytes]:
    """Raises BadMessage when the bytes are no keys, or more than `count_max`, or one is longer than any key."""
    keys: list[bytes] = []
    before, at = b"", 0
    while at < len(packed):
        shared, at = _get(packed, at)
        length, at = _get(packed, at)
        if shared > len(before) or length > len(packed) - at or shared + length > ENTRY_MAX_BYTES:
            raise BadMessage("packed keys do not unpack")
        before = before[:shared] + packed[at : at + length]
        at += length
        keys.append(before)
        if len(keys) > count_max:
            raise BadMessage(f"there are more than {count_max} keys in one message")
    return keys


def separator(before: bytes, key: bytes) -> bytes:
    """The beginning of `key` that is greater than `before`, which is less than `key`: as short as it may be without
    cutting a character of UTF-8, because the JSON forms show it as text."""
    end = _shared(before, key) + 1
    while end < len(key) and key[end] & 0xC0 == 0x80:
        end += 1
    return key[:end]


def _shared(a: bytes, b: bytes) -> int:
    """The length of the common start, found by halves: comparing slices is quicker than comparing bytes in Python."""
    most = min(len(a), len(b))
    if a[:most] == b[:most]:
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low if a[low] != b[low] else low + 1


def _put(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _get(packed: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(packed) and shift < 21:
        byte = packed[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
    raise BadMessage("packed keys do not unpack")
