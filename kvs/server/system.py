"""KVS's own records: documents in JSON under names like `user/<uuid>`, read from the store and changed in a plan."""

from collections.abc import Callable, Iterator, Mapping

import structlog

from kvs.auth.documents import check_shape
from kvs.cluster.events import Act, Look, Transact
from kvs.errors import StoreCorrupt
from kvs.storage.codec import decode
from kvs.storage.keyspace import after, system_key
from kvs.storage.record import Record, new_uuid
from kvs.storage.store import Reader

log = structlog.get_logger()

Documents = Callable[[str], bytes | None]
"""The live document under a name, or None. Raises StoreCorrupt."""


def live_document(store: Reader, name: str, now_ms: int) -> bytes | None:
    """The document under a name. Raises StoreCorrupt that names it, also for one that is not what its name says."""
    entry = system_key(name.encode())
    try:
        raw = store.get(entry)
        record = None if raw is None else decode(entry, raw).record
        return _document(name, record, now_ms)
    except StoreCorrupt as error:
        raise StoreCorrupt(f"{name}: {error}") from None


def all_documents(
    store: Reader, prefix: str, start: str, now_ms: int
) -> Iterator[tuple[str, bytes | StoreCorrupt | None]]:
    """(name, document) in order of names from `start` on; None stands for one that is deleted or expired, the error for
    one that is corrupt. Raises StoreCorrupt when not even the names can be read."""
    first, stop = system_key(start.encode()), after(system_key(prefix.encode()))
    for entry, raw in store.scan(first, stop):
        name = entry[1:].decode(errors="replace")
        try:
            document = _document(name, decode(entry, raw).record, now_ms)
        except StoreCorrupt as error:
            yield name, error
        else:
            yield name, document


def live_documents(store: Reader, prefix: str, start: str, now_ms: int) -> Iterator[tuple[str, bytes | None]]:
    """As `all_documents`; None stands for corrupt ones too, so that the reader can bound its work. They are logged."""
    for name, document in all_documents(store, prefix, start, now_ms):
        if isinstance(document, StoreCorrupt):
            log.error("A corrupt record is left out", key=name, error=str(document))
            yield name, None
        else:
            yield name, document


def _document(name: str, record: Record | None, now_ms: int) -> bytes | None:
    if record is None or not record.is_live(now_ms):
        return None
    document = record.data
    check_shape(name, document)
    return document


def _check(entry: bytes, document: bytes) -> None:
    check_shape(entry[1:].decode(errors="replace"), document)


def change_documents(change: Callable[[Documents, int], Mapping[str, bytes | None]], *acts: Act) -> Transact:
    """The command that writes what `change` returns, given the documents and the time in Unix ms. It must be pure.
    `acts` are what it is in the audit log."""

    def decide(look: Look, now_ms: int) -> dict[bytes, bytes | None]:
        def document(name: str) -> bytes | None:
            record = look(system_key(name.encode()))
            return None if record is None else record.data

        return {system_key(name.encode()): value for name, value in change(document, now_ms).items()}

    return Transact(uuid=new_uuid(), decide=decide, check=_check, acts=acts)
