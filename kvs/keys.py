"""Which byte strings are keys of users.

A key is compared, stored and authorised as the bytes it decodes to; it is never normalised.
"""

import re

from kvs.errors import BadRequest
from kvs.limits import KEY_MAX_BYTES

_INVALID = re.compile(r"[\x00-\x1f\x7f-\x9f]|//|\A/|/\Z|(?:\A|/)\.{1,2}(?:/|\Z)")
_PLAIN = re.compile(rb"\w[\w.-]*(?:/\w[\w.-]*)*")
"""Text without anything of that, as most keys are: to see it takes a quarter of the time."""
_METADATA = b"metadata"


def check_key(key: bytes) -> None:
    """Raises BadRequest with the code `invalid_key` or `reserved_key` unless `key` may name a user's value."""
    if not 0 < len(key) <= KEY_MAX_BYTES:
        raise _invalid(f"a key has 1 to {KEY_MAX_BYTES} bytes, this one has {len(key)}")
    if not _PLAIN.fullmatch(key):
        _check_text(key)
    if key.startswith(b"_"):
        raise BadRequest("keys whose first segment begins with '_' belong to KVS", code="reserved_key")
    if key.rpartition(b"/")[2] == _METADATA:
        raise BadRequest("the last segment 'metadata' names the metadata of the key before it", code="reserved_key")


def _check_text(key: bytes) -> None:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise _invalid("a key is UTF-8 text") from None
    if _INVALID.search(text):
        raise _invalid(
            "a key has no empty segment, no segment '.' or '..', no '/' at either end and no control characters"
        )


def _invalid(detail: str) -> BadRequest:
    return BadRequest(detail, code="invalid_key")
