"""Making a configuration file."""

import os
from base64 import b64encode
from pathlib import Path

import click

from kvs.config_text import default_text
from kvs.daemon.failure import Failed
from kvs.daemon.files import create_own
from kvs.limits import SECRET_BYTES


def create_config(path: Path, *, if_missing: bool = False) -> None:
    """Write the commented default configuration to `path`, which must not exist, with a cluster secret of its own, and
    say so.

    Raises Failed if it exists (unless `if_missing`, which then leaves it as it is) or cannot be made.
    """
    if if_missing and (path.is_symlink() or path.exists()):
        return
    try:
        create_own(path, default_text(cluster_secret=b64encode(os.urandom(SECRET_BYTES)).decode()).encode())
    except FileExistsError:
        raise Failed(f"{path} exists already; it is left as it is") from None
    except OSError as error:
        raise Failed(f"cannot make {path}: {error.strerror}") from None
    click.echo(f"made {path} with default settings", err=True)
