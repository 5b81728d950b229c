"""The id that every response carries and that log lines of its request repeat."""

import re
from itertools import count
from os import urandom

from aiohttp import web
from multidict import istr

from kvs.limits import REQUEST_ID_MAX_BYTES

_HEADER = istr("X-Request-ID")
_SANE = re.compile(rf"[\w.:+/=-]{{1,{REQUEST_ID_MAX_BYTES}}}", re.ASCII)

_prefix = urandom(6).hex()
_numbers = count(1)


def fresh() -> str:
    """A new id: random for the process, counted within it, because a random number for each request costs more."""
    return f"{_prefix}-{next(_numbers):x}"


def of(request: web.BaseRequest) -> str:
    """The client's id if it sent a sane one, else a fresh one."""
    given = request.headers.get(_HEADER)
    return given if given is not None and _SANE.fullmatch(given) else fresh()
