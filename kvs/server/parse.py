"""Reads keys, query parameters and preconditions out of a request. Every refusal names the field."""

from collections.abc import Mapping
from re import compile as pattern
from urllib.parse import parse_qsl, unquote_to_bytes

from aiohttp import hdrs, web

from kvs.cluster.events import ANY, UNCONDITIONAL, Condition
from kvs.durations import parse_duration
from kvs.errors import BadRequest
from kvs.keys import check_key
from kvs.limits import ETAGS_MAX_COUNT, KEY_MAX_BYTES, QUERY_PARAMETERS_MAX_COUNT, TTL_MAX_MS

_ETAG = pattern(r'\s*(?P<weak>W/)?"(?P<tag>[\x21\x23-\x7e\x80-\xff]*)"\s*')


_BROKEN_ESCAPE = pattern("%(?![0-9A-Fa-f]{2})")


def parse_key(raw: str) -> bytes:
    """The key behind the raw rest of a path. Raises BadRequest."""
    if _BROKEN_ESCAPE.search(raw):  # read as it stands it would be a second name of another key
        raise BadRequest("a '%' in a path begins an escape of two hexadecimal digits", code="invalid_key")
    key = unquote_to_bytes(raw.encode("utf-8", "surrogateescape"))
    check_key(key)
    return key


def query(request: web.BaseRequest) -> Mapping[str, str]:
    """The query parameters. A name given twice is refused: two readers could take different ones."""
    raw = request.rel_url.raw_query_string
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=QUERY_PARAMETERS_MAX_COUNT)
    except (UnicodeDecodeError, ValueError):
        raise BadRequest("the query string is not percent-encoded UTF-8 of reasonable size", field="query") from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise BadRequest("a query parameter is given twice", field="query")
    return parameters


def key_text(parameters: Mapping[str, str], name: str, default: bytes = b"", most_bytes: int = KEY_MAX_BYTES) -> bytes:
    """A parameter as bytes of a key. Raises BadRequest."""
    if name not in parameters:
        return default
    text = parameters[name].encode()
    if len(text) > most_bytes:
        raise BadRequest(f"{name} has at most {most_bytes} bytes", field=name)
    return text


def integer(parameters: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    """A parameter as a whole number. Raises BadRequest outside of least..most."""
    text = parameters.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
        raise BadRequest(f"{name} is a whole number from {least} to {most}", field=name)
    return int(text)


def boolean(parameters: Mapping[str, str], name: str) -> bool:
    """A parameter as a switch; present without a value means on."""
    text = parameters.get(name, "false").lower()
    if text in ("true", "1", ""):
        return True
    if text in ("false", "0"):
        return False
    raise BadRequest(f"{name} is true or false", field=name)


def duration_ms(parameters: Mapping[str, str], name: str, *, default: int, most: int) -> int:
    """A parameter as a duration in milliseconds. Raises BadRequest beyond `most`."""
    text = parameters.get(name)
    if text is None:
        return default
    try:
        duration = parse_duration(text)
    except ValueError as error:
        raise BadRequest(str(error), field=name) from None
    if duration > most:
        raise BadRequest(f"{name} is at most {most} ms", field=name)
    return duration


def ttl_ms(text: str) -> int:
    """A time to live in milliseconds, 0 for never. Raises BadRequest."""
    try:
        ttl = parse_duration(text)
    except ValueError as error:
        raise BadRequest(str(error), field="ttl") from None
    if ttl > TTL_MAX_MS:
        raise BadRequest("ttl is at most 100 years", field="ttl")
    return ttl


def condition(request: web.BaseRequest) -> Condition:
    """If-Match and If-None-Match of a write. Weak tags never match (RFC 9110, strong comparison)."""
    headers = request.headers
    if hdrs.IF_MATCH not in headers and hdrs.IF_NONE_MATCH not in headers:
        return UNCONDITIONAL
    return Condition(
        match=_tags(headers.getall(hdrs.IF_MATCH, ()), hdrs.IF_MATCH, weak=False),
        none_match=_tags(headers.getall(hdrs.IF_NONE_MATCH, ()), hdrs.IF_NONE_MATCH, weak=True),
    )


def is_not_modified(request: web.BaseRequest, tag: str) -> bool:
    """Whether If-None-Match of a read names the current version."""
    if hdrs.IF_NONE_MATCH not in request.headers:
        return False
    tags = _tags(request.headers.getall(hdrs.IF_NONE_MATCH), hdrs.IF_NONE_MATCH, weak=True)
    return tags is not None and (tags == ANY or tag in tags)


def _tags(values: tuple[str, ...] | list[str], header: str, *, weak: bool) -> frozenset[str] | None:
    if not values:
        return None
    text = ",".join(values)
    if text.strip() == "*":
        return ANY
    items = [item for item in text.split(",") if item.strip()]  # empty elements mean nothing: RFC 9110, 5.6.1
    found = [_ETAG.fullmatch(item) for item in items[: ETAGS_MAX_COUNT + 1]]
    if not 0 < len(found) <= ETAGS_MAX_COUNT or None in found:
        raise BadRequest(f'{header} is "*" or up to {ETAGS_MAX_COUNT} quoted entity tags', field=header)
    return frozenset(each["tag"] for each in found if each is not None and (weak or not each["weak"]))
