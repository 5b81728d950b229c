"""Checks of texts that settings hold, and of settings that belong together."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any

from kvs.cron import cron_trigger


def is_ip(text: str) -> bool:
    """An IP address without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_host(text: str) -> bool:
    """An IP address without brackets, or a host name."""
    return is_ip(text) or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}", text) is not None


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


def tls_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(Setting, what is wrong) for TLS that is set by halves: it would promise a protection that is not there."""
    files = {}
    for name in ("tls_cert_file", "tls_key_file"):
        file, older = values[name], values[f"cluster_{name}"]
        if file and older and file != older:
            yield f"cluster_{name}", f"cluster_{name} is an older name of {name}, which names another file"
        files[name] = file or older
    for name, other in (("tls_cert_file", "tls_key_file"), ("tls_key_file", "tls_cert_file")):
        if files[name] and not files[other]:
            yield name, f"{name} needs {other} beside it"
    has_certificate = all(files.values())
    among_peers, mutual = values["cluster_tls_enabled"], values["cluster_tls_mutual"]
    verifies = mutual or not values["cluster_tls_skip_verify"]
    if among_peers and not has_certificate:
        yield "cluster_tls_enabled", "cluster_tls_enabled needs tls_cert_file and tls_key_file"
    if among_peers and verifies and not values["cluster_tls_ca_file"]:
        yield "cluster_tls_enabled", "cluster_tls_enabled needs cluster_tls_ca_file to know the peers by"
    if mutual and not among_peers:
        yield "cluster_tls_mutual", "cluster_tls_mutual needs cluster_tls_enabled"
    if has_certificate and not among_peers and values["clustering_enabled"] and values["seed_nodes"]:
        yield (
            "tls_cert_file",
            "tls_cert_file: peers then reach this node by HTTPS only; set cluster_tls_enabled on every node",
        )
