"""KVS's own records: documents in JSON under names like `user/<uuid>`, read from the store and changed in a plan."""

from collections.abc import Callable, Iterator, Mapping

from kvs.cluster.events import Look, Transact
from kvs.storage.codec import decode
from kvs.storage.keyspace import after, system_key
from kvs.storage.record import new_uuid
from kvs.storage.store import Reader

Documents = Callable[[str], bytes | None]
"""The live document under a name, or None."""


def live_document(store: Reader, name: str, now_ms: int) -> bytes | None:
    """The document under a name. Raises StoreCorrupt."""
    entry = system_key(name.encode())
    raw = store.get(entry)
    if raw is None:
        return None
    record = decode(entry, raw).record
    return record.data if record.is_live(now_ms) else None


def live_documents(store: Reader, prefix: str, start: str, now_ms: int) -> Iterator[tuple[str, bytes | None]]:
    """(name, document) in order of names from `start` on; None stands for one that is deleted or expired, so that the
    reader can bound its work. Raises StoreCorrupt."""
    first, stop = system_key(start.encode()), after(system_key(prefix.encode()))
    for entry, raw in store.scan(first, stop):
        record = decode(entry, raw).record
        yield entry[1:].decode(), record.data if record.is_live(now_ms) else None


def change_documents(change: Callable[[Documents, int], Mapping[str, bytes | None]]) -> Transact:
    """The command that writes what `change` returns, given the documents and the time in Unix ms. It must be pure."""

    def decide(look: Look, now_ms: int) -> dict[bytes, bytes | None]:
        def document(name: str) -> bytes | None:
            record = look(system_key(name.encode()))
            return None if record is None else record.data

        return {system_key(name.encode()): value for name, value in change(document, now_ms).items()}

    return Transact(uuid=new_uuid(), decide=decide)
