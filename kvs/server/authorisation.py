"""Whether a principal may read or write a key: the permissions of `kvs.auth`, asked of what is stored.

Reads ask here, with the store as it is now; writes hand a guard to the writer, which asks it within the plan. Both use
the decoded key that storage uses, never the path of the request.
"""

from functools import partial

from kvs.auth import scopes
from kvs.auth.permissions import Action, Metadata, decode_metadata, permits
from kvs.auth.principal import Principal
from kvs.cluster.events import Guard
from kvs.errors import Forbidden, Unauthorized
from kvs.storage.codec import decode
from kvs.storage.keyspace import metadata_key
from kvs.storage.record import Record
from kvs.storage.store import Reader


def read_metadata(store: Reader, entry: bytes, now_ms: int) -> Metadata | None:
    """What was set for a user's key, given its entry key. Raises StoreCorrupt."""
    name = metadata_key(entry)
    raw = store.get(name)
    if raw is None:
        return None
    record = decode(name, raw).record
    return decode_metadata(record.data) if record.is_live(now_ms) else None


def may_read(
    store: Reader, principal: Principal, entry: bytes, record: Record | None, now_ms: int, *, has_metadata: bool
) -> bool:
    """Whether the principal may see what is under the key; `record` is the live one. `has_metadata` is false when no
    key has any. Raises StoreCorrupt."""
    metadata = read_metadata(store, entry, now_ms) if has_metadata and not principal.bypasses else None
    return permits(principal, Action.READ, metadata, None if record is None else record.owner)


def write_guard(principal: Principal) -> Guard | None:
    """For storing a value."""
    return None if principal.bypasses else partial(_check_write, principal)


def delete_guard(principal: Principal) -> Guard | None:
    """For deleting a value."""
    return None if principal.bypasses else partial(_check_delete, principal)


def tombstone_guard(principal: Principal) -> Guard | None:
    """For restoring a tombstone: that deletes, and asks for what a delete asks for."""
    return delete_guard(principal) if scopes.DELETE in principal.scopes else partial(_refuse_delete, principal)


def check_delete_scope(principal: Principal) -> None:
    """For routes that let in others than those who may delete. Raises Unauthorized, Forbidden."""
    if scopes.DELETE not in principal.scopes:
        raise Forbidden if principal.token_id else Unauthorized


def is_revision_readable(principal: Principal, revision: Record, metadata: bytes | None) -> bool:
    """A revision is its own owner's, who may not be the owner of the current record."""
    return permits(principal, Action.READ, _decode(metadata), revision.owner)


def _check_write(principal: Principal, live: Record | None, metadata: bytes | None) -> None:
    action = Action.CREATE if live is None else Action.WRITE
    if not permits(principal, action, _decode(metadata), None if live is None else live.owner):
        raise Forbidden


def _check_delete(principal: Principal, live: Record | None, metadata: bytes | None) -> None:
    if not permits(principal, Action.DELETE, _decode(metadata), None if live is None else live.owner):
        raise Forbidden


def _refuse_delete(principal: Principal, live: Record | None, metadata: bytes | None) -> None:
    check_delete_scope(principal)


def _decode(metadata: bytes | None) -> Metadata | None:
    return None if metadata is None else decode_metadata(metadata)
