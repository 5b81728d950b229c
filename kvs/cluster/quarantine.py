"""The file into which a node that was away for too long puts what may have been deleted meanwhile.

One line for each value: {"path", "uuid", "timestamp", "content_type", "encoding": "base64", "data"}. An operator can
look at them and write back what is still wanted. Tombstones and what has expired hold nothing that could be.
"""

import json
import os
from base64 import b64encode
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from kvs.errors import StoreCorrupt
from kvs.storage.codec import decode
from kvs.storage.keyspace import path_of
from kvs.storage.record import uuid_text
from kvs.storage.store import Store


def append(path: Path, store: Store, entries: Iterable[bytes], now_ms: int) -> None:
    """Write the values at the end of the file, and to the disk. In a thread of its own: it reads a snapshot, as the
    store may be reopened or closed meanwhile. Raises OSError, StoreClosed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with closing(store.snapshot()) as reader, os.fdopen(descriptor, "w") as file:
        for entry in entries:
            try:
                raw = reader.get(entry)
                if raw is None:
                    continue
                record = decode(entry, raw).record
                data = record.data
            except StoreCorrupt:
                continue
            if not record.is_live(now_ms):
                continue
            line = {
                "path": path_of(entry),
                "uuid": uuid_text(record.uuid),
                "timestamp": record.timestamp,
                "content_type": record.content_type,
                "encoding": "base64",
                "data": b64encode(data).decode(),
            }
            file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
