"""Where a node says that it can be reached: `host:port`, and nothing that leads somewhere else.

A member's address is told by others and connected to, so it is believed only in this form:

    address   host:port | [IPv6]:port, port 1 to 65535
    host      an IPv4 address in four decimal numbers, or a host name of letters, digits, '-', '_' and '.'

Everything else of a URL (scheme, user, path) has no place in it. Host names whose last label is a number are refused
unless they are such an IPv4 address, because resolvers take `127.1`, `0x7f.1` and `2130706433` for addresses too
(inet_aton; the WHATWG URL standard has the same rule). So are addresses that nobody can have: unspecified, multicast,
with a zone. Names are not resolved here: a name that leads to a loopback address is found out by who answers there,
because every ping names the node that it is for.
"""

import ipaddress
import re
from functools import lru_cache

from kvs.limits import ADDRESS_MAX_CHARS

_FORM = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]{0,252})):(?P<port>[0-9]{1,5})")
_REMEMBERED = 4_096
"""Answers kept by both functions: lists of many members come again and again."""
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


@lru_cache(_REMEMBERED)
def is_address(text: str) -> bool:
    """Whether a node could be reached there."""
    match = _FORM.fullmatch(text) if len(text) <= ADDRESS_MAX_CHARS else None
    if match is None or not 0 < int(match["port"]) <= 65_535:
        return False
    host = match["v6"] or match["host"]
    address = _ip(host)
    if address is None:
        return match["v6"] is None and not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2])
    if (address.version == 6) != (match["v6"] is not None):
        return False
    return not (address.is_unspecified or address.is_multicast or int(address) == 0xFFFF_FFFF)


@lru_cache(_REMEMBERED)
def host_of(address: str) -> str:
    """The host of a valid address, without brackets."""
    return address.rpartition(":")[0].strip("[]")


@lru_cache(_REMEMBERED)
def is_loopback(host: str) -> bool:
    """Whether this host, an IP address or a name, is the machine that says it."""
    address = _ip(host)
    if address is not None:
        return address.is_loopback
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IPv4 address in IPv6 clothes counts as what it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        # Kept as IPv6 for the brackets that it needs; judged by what it leads to.
        if mapped is not None and (mapped.is_loopback or mapped.is_unspecified or mapped.is_multicast):
            return ipaddress.IPv6Address("::1") if mapped.is_loopback else ipaddress.IPv6Address("::")
    return address
