"""How commands show things: bytes as they are, colours on a terminal only, and nothing that acts on one."""

import os
import sys
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kvs.client import Value

_SHOWN_CHARS = 60
_JSON = "application/json"


def styled(text: str, colour: str) -> str:
    """In colour where standard output is a terminal and nobody asked for none (NO_COLOR)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=colour)


def write(data: bytes) -> None:
    """Onto standard output, as it is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def printable(text: str) -> str:
    """What cannot be printed becomes `?`: no text of others acts on a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def value_fields(value: "Value") -> dict[str, Any]:
    """A value as JSON shows it: a document as it is, anything else as base64, as in the API."""
    import orjson

    fields: dict[str, Any] = {"path": value.path, "uuid": value.uuid, "timestamp": value.timestamp}
    if value.expires_at is not None:
        fields["expires_at"] = value.expires_at
    if value.is_json:
        return {**fields, "data": orjson.Fragment(value.raw.strip())}
    fields |= {"content_type": value.content_type, "encoding": "base64"}
    return {**fields, "data": b64encode(value.raw).decode()}


def print_json(document: Any) -> None:
    """One line."""
    import orjson

    line: bytes = orjson.dumps(document)
    write(line.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n")


def kind_of(raw: bytes, name: str = "") -> str:
    """What bytes are stored as: JSON as JSON. Else the name of their file tells, where it does not say JSON; else they
    are UTF-8 text, or any bytes."""
    import mimetypes

    if is_json(raw):
        return _JSON
    guessed, packed = mimetypes.guess_type(name)
    if guessed not in (None, _JSON) and packed is None:
        return str(guessed)
    try:
        is_text = "\0" not in raw.decode()
    except UnicodeDecodeError:
        is_text = False
    return "text/plain; charset=utf-8" if is_text else "application/octet-stream"


def is_json(raw: bytes) -> bool:
    """Whether this is stored as a document."""
    import orjson

    try:
        orjson.loads(raw)
    except ValueError:
        return False
    return True


def summary(value: "Value") -> str:
    """A value on a part of a line."""
    try:
        text = " ".join(value.raw.decode().split()) if value.is_json or value.content_type[:5] == "text/" else None
    except UnicodeDecodeError:
        text = None
    if text is None:
        return f"{len(value.raw)} bytes of {printable(value.content_type)}"
    shown = printable(text)
    return shown if len(shown) <= _SHOWN_CHARS else shown[: _SHOWN_CHARS - 1] + "…"
