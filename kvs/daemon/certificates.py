"""A folder of certificates: the authority, and a certificate and a key for each node and client.

    ca.pem ca.key     the authority; the key is needed here only
    n1.pem n1.key     what node n1 needs, beside ca.pem

Nothing that is there is ever written over.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kvs.daemon.failure import Failed
from kvs.daemon.files import create_own, make_own_folder
from kvs.errors import StartError
from kvs.limits import CERTIFICATE_WARNING_DAYS

if TYPE_CHECKING:
    from kvs.tls.issuing import Issued, Issuer

AUTHORITY = "ca"
_DAY_MS = 86_400_000


class Holder(NamedTuple):
    """Who is to have a certificate. `hosts` is empty for a client."""

    name: str
    hosts: tuple[str, ...] = ()

    @property
    def is_node(self) -> bool:
        return bool(self.hosts)


class Lifetimes(NamedTuple):
    authority_days: int
    days: int


def fill(
    folder: Path, holders: Sequence[Holder], lifetimes: Lifetimes, now_ms: int, note: Callable[[str], None]
) -> None:
    """Make what is missing in `folder`: the authority, and what each holder needs. `note` takes a line for each.

    Raises Failed, also when what is there already is not what is asked for.
    """
    make_own_folder(folder)
    issuer = _authority(folder, lifetimes.authority_days, now_ms, note)
    missing = [holder for holder in holders if not _is_there(folder, holder, now_ms, note)]
    for holder in missing:
        from kvs.tls.issuing import issue

        made = issue(issuer, holder.name, holder.hosts, now_ms, lifetimes.days, is_node=holder.is_node)
        _write(folder, holder.name, made)
        purpose = f"for {', '.join(holder.hosts)}" if holder.is_node else "for a client"
        note(f"made {folder / holder.name}.pem and its key, {purpose}")


def _authority(folder: Path, days: int, now_ms: int, note: Callable[[str], None]) -> "Issuer":
    from kvs.tls.files import load_issuer
    from kvs.tls.issuing import issue_authority

    certificate_file, key_file = _files(folder, AUTHORITY)
    if not certificate_file.exists() and not key_file.exists():
        _write(folder, AUTHORITY, issue_authority(now_ms, days))
        note(f"made {certificate_file}, an authority, and its key; whoever has {key_file} can be any node")
    elif not key_file.exists():
        raise Failed(f"there is no {key_file}: go where this authority was made, or begin in another folder")
    try:
        return load_issuer(certificate_file, key_file, now_ms)
    except StartError as error:
        raise Failed(str(error)) from None


def _is_there(folder: Path, holder: Holder, now_ms: int, note: Callable[[str], None]) -> bool:
    """Whether the holder has a certificate that will do. Raises Failed when it has one that will not."""
    from kvs.tls.files import load_identity

    certificate_file, key_file = _files(folder, holder.name)
    if not certificate_file.exists() and not key_file.exists():
        return False
    try:
        found = load_identity(certificate_file, key_file, now_ms)
    except StartError as error:
        raise Failed(f"{error}; move {holder.name}.pem and {holder.name}.key away to have them made anew") from None
    away = f"move it and its key away to have a new one made: {certificate_file}"
    if found.names != frozenset(holder.hosts):
        raise Failed(
            f"there is a certificate of {holder.name} for {', '.join(sorted(found.names)) or 'a client'}; {away}"
        )
    if found.ends_at - now_ms < CERTIFICATE_WARNING_DAYS * _DAY_MS:
        raise Failed(f"the certificate of {holder.name} ends within {CERTIFICATE_WARNING_DAYS} days; {away}")
    note(f"{certificate_file} exists already; it is left as it is")
    return True


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.pem", folder / f"{name}.key"


def _write(folder: Path, name: str, made: "Issued") -> None:
    """Both files or none, on the disk."""
    certificate_file, key_file = _files(folder, name)
    _create(key_file, made.key)
    try:
        _create(certificate_file, made.certificate)
    except Failed:
        key_file.unlink(missing_ok=True)
        raise


def _create(path: Path, text: bytes) -> None:
    try:
        create_own(path, text)
    except OSError as error:
        raise Failed(f"cannot make {path}: {error.strerror}") from None
