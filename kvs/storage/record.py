"""A record: one version of one key's value, as every node keeps it."""

import re
from hashlib import blake2b
from os import urandom

import msgspec

from kvs.storage.compression import RAW, decompress, unpacked_bytes

JSON = "application/json"
"""Content type of JSON documents; anything else is an opaque blob."""

_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+[\x20-\x7e]*", re.ASCII)


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One version of a key.

    `uuid` is 16 bytes (UUIDv4), `timestamp` and `expires_at` are Unix milliseconds (0: never), `counter` orders
    versions inside one millisecond, `origin_joined` is the joined timestamp of the node `origin` (0: unknown),
    `owner` a user's uuid or empty. `base` is the (timestamp, counter) of the version that the writer replaced, (0, 0)
    for none: two versions neither of which is the other's base or older than it were written without knowing of each
    other. `payload` is the value encoded by `codec`; a tombstone's is empty.
    """

    uuid: bytes
    timestamp: int
    counter: int
    origin: str
    origin_joined: int
    base: tuple[int, int] = (0, 0)
    owner: str = ""
    expires_at: int = 0
    deleted: bool = False
    content_type: str = JSON
    codec: int = RAW
    payload: bytes = b""

    @property
    def data(self) -> bytes:
        """The value as the client sent it. Raises StoreCorrupt when the payload does not decompress."""
        return self.payload if self.codec == RAW else decompress(self.codec, self.payload)

    @property
    def size_bytes(self) -> int:
        """Of the value as the client sent it, as of `unpacked_bytes`."""
        return unpacked_bytes(self.codec, self.payload)

    def is_live(self, now_ms: int) -> bool:
        """Whether a reader at `now_ms` sees a value."""
        return not self.deleted and (self.expires_at == 0 or self.expires_at > now_ms)


def is_media_type(text: str) -> bool:
    """Whether this can be a content type. It is sent as a header field, so it holds no control character."""
    return _MEDIA_TYPE.fullmatch(text) is not None


_BLAKE2B_256 = blake2b(digest_size=32)


def hash_256(data: bytes) -> bytes:
    """BLAKE2b-256. Copying an empty state takes a third less than making one, and each write hashes twice."""
    state = _BLAKE2B_256.copy()
    state.update(data)
    return state.digest()


def value_digest(data: bytes) -> bytes:
    """BLAKE2b-256 of a value as the client sent it."""
    return hash_256(data)


class UuidSource:
    """Random UUIDv4s in their 16 bytes. Draws randomness in blocks: a system call for each costs more than the rest,
    because it gives up the interpreter lock."""

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def __call__(self) -> bytes:
        if self._at == len(self._block):
            block = bytearray(urandom(4096))
            block[6::16] = block[6::16].translate(_VERSION_4)
            block[8::16] = block[8::16].translate(_VARIANT_1)
            self._block, self._at = bytes(block), 0
        at = self._at
        self._at = at + 16
        return self._block[at : at + 16]


_VERSION_4 = bytes(byte & 0x0F | 0x40 for byte in range(256))
_VARIANT_1 = bytes(byte & 0x3F | 0x80 for byte in range(256))
"""What becomes of the bytes 6 and 8, which hold them (RFC 9562)."""

new_uuid = UuidSource()


def derived_uuid(seed: bytes, name: bytes) -> bytes:
    """A UUIDv4 for one of several records that are written together, drawn from the random `seed` and its name."""
    raw = bytearray(blake2b(name, key=seed, digest_size=16).digest())
    raw[6], raw[8] = _VERSION_4[raw[6]], _VARIANT_1[raw[8]]
    return bytes(raw)


def uuid_text(uuid: bytes) -> str:
    """The usual form in 36 characters."""
    return f"{uuid[:4].hex()}-{uuid[4:10].hex('-', 2)}-{uuid[10:].hex()}"
