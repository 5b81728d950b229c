"""The node that `make run` starts: a daemon with default settings, and what to try on it.

python -m kvs.daemon.quickstart run/kvs.yaml
"""

import os
import shlex
import sys
from datetime import timedelta
from pathlib import Path

import click

from kvs.auth.scopes import DATA
from kvs.config import load
from kvs.daemon import cli
from kvs.daemon.config_creation import create_config
from kvs.daemon.failure import OK, USAGE, Failed
from kvs.daemon.files import create_own
from kvs.daemon.home import Home, canonical
from kvs.daemon.instances import inspect
from kvs.daemon.local import local_credential
from kvs.daemon.session import Session, Way, asking, authorization_field
from kvs.errors import ConfigError, StartError
from kvs.server.first_start import ROOT_NICKNAME

_NEXT = """\
KVS serves {url}

  curl{auth} -X PUT {url}/kv/greetings/hello -H 'Content-Type: application/json' -d '"world"'
  curl{auth} {url}/kv/greetings/hello

Configuration: {config}
Log:           {log}
All commands:  {command} --help
To stop it:    make stop
"""
_HEADER_FILE = "authorization"
_ONE_DAY_S = 24 * 60 * 60


def main(config: Path) -> int:
    """Start the node of `config`, which is made if it does not exist, unless it runs; returns the exit code."""
    os.umask(0o077)
    home = Home.of(os.environ)
    try:
        config.parent.mkdir(parents=True, exist_ok=True)
        create_config(config, if_missing=True)
        if inspect(home, canonical(config)).running is None:
            code = cli.main(["start", str(config)])
            if code != OK:
                return code
        running = inspect(home, canonical(config)).running
        auth = _authority(config) + _authorization(config) if running is not None else ""
    except (Failed, ConfigError, StartError, OSError) as error:
        click.echo(f"kvs: {error}", err=True)
        return error.exit_code if isinstance(error, Failed) else 1
    if running is None:
        click.echo(f"kvs: it ended right after it served; see {home.log_file(canonical(config))}", err=True)
        return 1
    command = os.path.relpath(Path(sys.executable).with_name("kvs"))
    log = home.log_file(canonical(config))
    click.echo(_NEXT.format(url=running.url, auth=auth, config=config, log=log, command=command), nl=False)
    return OK


def _authority(config: Path) -> str:
    """What curl needs to believe the node."""
    settings = load(config, os.environ)
    believed = settings.cluster_tls_ca_file or settings.certificate_file
    return "" if settings.certificate_file is None else f" --cacert {shlex.quote(str(believed))}"


def _authorization(config: Path) -> str:
    """What the printed lines need to be let in: a token of the root user for a day or less, in a file
    beside the configuration, so that it stands neither on the screen nor among the arguments of other programs."""
    settings = load(config, os.environ)
    if not settings.auth_enabled:
        return ""
    life_s = min(_ONE_DAY_S, settings.token_max_ttl // 1000)
    url, authorization, trust = local_credential(str(config))
    way = Way(url, authorization_field(authorization), trust)
    with asking(way) as client:
        root = Session(client, way, as_json=False).user_uuid(ROOT_NICKNAME)
        made = client.create_token(root, DATA, expires_in=timedelta(seconds=life_s))
    path = config.parent / _HEADER_FILE
    path.unlink(missing_ok=True)
    create_own(path, f"Authorization: Bearer {made.token}\n".encode())
    return f" -H @{path}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        click.echo("usage: python -m kvs.daemon.quickstart CONFIG.yaml", err=True)
        sys.exit(USAGE)
    sys.exit(main(Path(sys.argv[1])))
