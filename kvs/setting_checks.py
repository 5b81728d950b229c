"""Checks of texts that settings hold."""

import ipaddress
import re
from datetime import UTC

from kvs.cron import cron_trigger


def is_host(text: str) -> bool:
    """An IP address without brackets, or a host name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}", text) is not None
    return True


def is_host_port(text: str) -> bool:
    """`host:port` or `[IPv6 address]:port`, with a port from 1."""
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    return match is not None and is_host(match[1] or match[2]) and 0 < int(match[3]) <= 65_535


def is_schedule(text: str) -> bool:
    """Five cron fields."""
    try:
        cron_trigger(text, UTC)
    except ValueError:
        return False
    return True
