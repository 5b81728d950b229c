"""Finding out before a start whether the certificates of a configuration can be used."""

import time
from typing import TYPE_CHECKING

from kvs.daemon.failure import Failed
from kvs.errors import StartError

if TYPE_CHECKING:
    from kvs.config import Config


def check_certificates(config: "Config") -> None:
    """Raises Failed with the line that a start would end with."""
    from kvs.server.tls import check_files

    try:
        check_files(config, time.time_ns() // 1_000_000)
    except StartError as error:
        raise Failed(str(error)) from None
