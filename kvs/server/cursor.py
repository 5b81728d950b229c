"""Where the next page begins, as an opaque word.

A cursor holds the key behind which a page ended. It is not a snapshot: keys that come or go between two pages are
seen or not, but no key is shown twice and none that stayed is left out. It gives no rights: it only moves the start.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode

from kvs.errors import BadRequest
from kvs.limits import KEY_MAX_BYTES


def encode(start: bytes) -> str:
    """A cursor for a page that begins at `start` (inclusive)."""
    return urlsafe_b64encode(start).decode().rstrip("=")


def decode(text: str) -> bytes:
    """Raises BadRequest for anything that `encode` did not make."""
    try:
        start = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        start = b""
    if not 0 < len(start) <= KEY_MAX_BYTES + 1 or encode(start) != text:
        raise BadRequest("cursor is not one that this service gave", field="cursor", code="invalid_cursor")
    return start
