"""kvs cert."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvs.daemon.failure import OK

if TYPE_CHECKING:
    from kvs.config import Config
    from kvs.daemon.certificates import Holder

_AUTHORITY_DAYS = 3650
_DAYS = 365
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - these are what no certificate is made for
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,199}"

_days = click.IntRange(1, 36_500)


@click.group()
def cert() -> None:
    """Make certificates for HTTPS and for nodes that know each other by them."""


@cert.command("init")
@click.argument("folder", type=click.Path(path_type=Path), default="certs")
@click.argument("nodes", metavar="[NODE]...", nargs=-1)
@click.option("--config", "configs", multiple=True, metavar="CONFIG", help="The node of CONFIG.")
@click.option("--client", "clients", multiple=True, metavar="NAME", help="A client, which asks and does not serve.")
@click.option("--days", type=_days, default=_DAYS, show_default=True, help="How long certificates are good.")
@click.option(
    "--ca-days", type=_days, default=_AUTHORITY_DAYS, show_default=True, help="How long a new authority is good."
)
def cert_init(
    folder: Path, nodes: tuple[str, ...], configs: tuple[str, ...], clients: tuple[str, ...], days: int, ca_days: int
) -> int:
    """Make an authority in FOLDER, and a certificate and a key for each NODE, or for this host.

    NODE is a host name or an IP address, or ID=HOST,HOST,… for a node with several or with a name of its own. Each
    certificate is good for localhost too. What is in FOLDER stays as it is, so that nodes can be added later.
    """
    from kvs.daemon.certificates import Lifetimes, fill

    holders = (
        [_node(word) for word in nodes] + [_node_of(word) for word in configs] + [_client(name) for name in clients]
    )
    names = [holder.name for holder in holders]
    if twice := {name for name in names if names.count(name) > 1}:
        raise click.UsageError(f"each name only once: {', '.join(sorted(twice))}")
    now_ms = time.time_ns() // 1_000_000
    fill(folder, holders or [_this_host()], Lifetimes(ca_days, days), now_ms, lambda line: click.echo(line, err=True))
    return OK


def _node(word: str) -> "Holder":
    name, is_given, hosts = word.partition("=")
    return _holder(name, [host.strip() for host in hosts.split(",")] if is_given else [name])


def _node_of(config_word: str) -> "Holder":
    """Where the configuration says that the node is reached."""
    import os

    from kvs.config import load
    from kvs.daemon.local import config_file

    config = load(config_file(config_word), os.environ)
    return _holder(config.node_id, [host for host in _hosts(config) if host not in _EVERYWHERE])


def _hosts(config: "Config") -> list[str]:
    advertised = config.advertise_address.rpartition(":")[0].strip("[]")
    return [host for host in (advertised, config.bind_address) if host]


def _this_host() -> "Holder":
    import socket

    return _holder(socket.gethostname(), [socket.gethostname()])


def _client(name: str) -> "Holder":
    from kvs.daemon.certificates import Holder

    _check_name(name)
    return Holder(name)


def _holder(name: str, hosts: list[str]) -> "Holder":
    from ipaddress import ip_address

    from kvs.daemon.certificates import Holder
    from kvs.setting_checks import is_host

    _check_name(name)
    for host in hosts:
        if not is_host(host):
            raise click.UsageError(f"not a host name or an IP address: {host!r}")
    spelt = [str(ip_address(host)) if ":" in host else host for host in hosts]
    return Holder(name, tuple(dict.fromkeys([*spelt, *_LOOPBACK])))


def _check_name(name: str) -> None:
    from kvs.daemon.certificates import AUTHORITY

    if not re.fullmatch(_NAME, name) or name == AUTHORITY:
        raise click.UsageError(f"not a name for a certificate: {name!r}; write a node as ID=HOST or as its host")
