"""What a program gives, on its way into a request. What no request can carry is told before any node is asked."""

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

import orjson

from kvs.client.errors import UnsendableError

_NO_FIELD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def query_text(fields: Mapping[str, str]) -> str:
    """A query, without its question mark. Raises UnsendableError."""
    try:
        return urlencode(fields)
    except UnicodeEncodeError as error:
        raise _no_text(error.object) from None


def segment(text: str) -> str:
    """One part of a path. Raises UnsendableError."""
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise _no_text(text) from None


def json_bytes(document: object) -> bytes:
    """Raises UnsendableError, TypeError for what is no JSON."""
    try:
        return orjson.dumps(document)
    except TypeError as error:
        if "UTF-8" not in str(error):
            raise
        raise UnsendableError("what is sent as JSON is UTF-8 text") from None


def checked_fields(fields: Mapping[str, str]) -> Mapping[str, str]:
    """Header fields, as they are. Raises UnsendableError, which does not show the value: it may be a secret."""
    for name, value in fields.items():
        if _NO_FIELD.search(value):
            raise UnsendableError(f"what is given for {name} holds a line end, or something else that is no text")
    return fields


def _no_text(given: object) -> UnsendableError:
    return UnsendableError(f"this is no UTF-8 text: {given!r}")
