"""Finding out before a start whether the certificates of a configuration can be used."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kvs.errors import StartError

if TYPE_CHECKING:
    from kvs.config import Config


def certificate_problems(config: "Config") -> Iterator[tuple[str, str]]:
    """(Setting, the line that a start would end with), for each file that would not do."""
    from kvs.server.tls import check_files
    from kvs.tls.files import check_certificate, check_key, load_authority

    certificate_file, key_file, authority_file = config.certificate_file, config.key_file, config.cluster_tls_ca_file
    if certificate_file is None or key_file is None:
        return
    now_ms = time.time_ns() // 1_000_000
    certificate = "tls_cert_file" if config.tls_cert_file else "cluster_tls_cert_file"
    key = "tls_key_file" if config.tls_key_file else "cluster_tls_key_file"
    checks: list[tuple[str, Callable[[], object]]] = [
        (certificate, lambda: check_certificate(certificate_file, now_ms)),
        (key, lambda: check_key(key_file)),
    ]
    if config.cluster_tls_enabled and authority_file is not None:
        checks.append(("cluster_tls_ca_file", lambda: load_authority(authority_file, now_ms)))
    found = [(setting, line) for setting, check in checks if (line := _refusal(check))]
    if not found and (line := _refusal(lambda: check_files(config, now_ms))):
        found.append((certificate, line))
    yield from found


def _refusal(check: Callable[[], object]) -> str:
    try:
        check()
    except StartError as error:
        return str(error)
    return ""
