"""Where the next page begins, as an opaque word.

A cursor holds the key at which a page stopped. It is not a snapshot: keys that come or go between two pages are seen
or not, but no key is shown twice and none that stayed is left out. It gives no rights: it only moves the start.

With authentication on, that key may be one whose name the reader must not learn. The word is then encrypted (AES-SIV,
RFC 5297: needs no random nonce), which also means that nobody else can make one. With authentication off it is readable
and has a checksum: a word that was mangled on its way must not show a wrong page.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from zlib import crc32

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from kvs.errors import BadRequest
from kvs.limits import KEY_MAX_BYTES

_SEAL_BYTES = 16
_CHECKSUM_BYTES = 4


class Cursors:
    """Makes and reads cursors."""

    def __init__(self, key: bytes | None = None) -> None:
        """`key`: 32 bytes to encrypt with; None leaves the words readable."""
        self._cipher = None if key is None else AESSIV(key)

    def encode(self, start: bytes) -> str:
        """A cursor for a page that begins at `start` (inclusive)."""
        return _word(_checked(start) if self._cipher is None else self._cipher.encrypt(start, None))

    def decode(self, text: str) -> bytes:
        """Raises BadRequest for anything that `encode` did not make."""
        try:
            sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
            if _word(sealed) != text or len(sealed) > KEY_MAX_BYTES + 1 + _SEAL_BYTES:
                raise ValueError
            start = _unchecked(sealed) if self._cipher is None else self._cipher.decrypt(sealed, None)
        except (ValueError, InvalidTag):
            start = b""
        if not 0 < len(start) <= KEY_MAX_BYTES + 1:
            raise BadRequest("cursor is not one that this service gave", field="cursor", code="invalid_cursor")
        return start


def _word(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _checked(start: bytes) -> bytes:
    return crc32(start).to_bytes(_CHECKSUM_BYTES, "big") + start


def _unchecked(checked: bytes) -> bytes:
    """Raises ValueError."""
    start = checked[_CHECKSUM_BYTES:]
    if _checked(start) != checked:
        raise ValueError
    return start
