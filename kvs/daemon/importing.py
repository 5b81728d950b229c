"""Imports: items out of lines, files or tables, and their way to a node, many in one request.

Items are written in their order. What an import has come to can be kept in a file; it then goes on there. Writing an
item twice does no harm but a version more in its history.
"""

import csv
import os
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TextIO

import msgspec

from kvs.client.model import BulkDelete, BulkPut
from kvs.daemon.exporting import STATE_FILE, VALUE_FILE, replaced
from kvs.daemon.failure import Failed
from kvs.daemon.showing import kind_of

if TYPE_CHECKING:
    from kvs.client import Client

_AT_ONCE_ITEMS = 1_000
_AT_ONCE_BYTES = 4 * 1024 * 1024
_ALONE_BYTES = 1024 * 1024
"""Larger values travel by themselves, without base64."""
_VERSIONS_AT_ONCE = 500
_UNDER_WAY_MAX = 2
"""Portions. One is planned by the node while the other one goes to its disk."""
_JSON = "application/json"
_OCTETS = "application/octet-stream"


class Item(NamedTuple):
    """`where` tells a person where it stood. `ttl` is a duration, or what is left until `expires_at` (Unix ms). `uuid`
    and `timestamp` are those of the version that it was, if that is known."""

    where: str
    path: str
    raw: bytes = b""
    content_type: str = _JSON
    ttl: str | None = None
    expires_at: int | None = None
    uuid: str = ""
    timestamp: int = 0
    deleted: bool = False


class Problem(NamedTuple):
    """What stood there and is no item."""

    where: str
    reason: str


Found = Item | Problem


# --- where items come from ---


class _Line(msgspec.Struct):
    path: str
    op: str = "put"
    data: msgspec.Raw = msgspec.Raw()
    encoding: str = "json"
    content_type: str | None = None
    ttl: str | None = None
    expires_at: int | None = None
    uuid: str = ""
    timestamp: int = 0


def of_lines(file: BinaryIO) -> Iterator[Found]:
    """JSON objects, one a line: what `kvs export` writes, and items of bulk requests."""
    decode = msgspec.json.Decoder(_Line).decode
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            yield _item(where, decode(line))
        except (msgspec.DecodeError, ValueError) as error:
            yield Problem(where, str(error))
        except RecursionError:
            yield Problem(where, "it has too many levels of arrays and objects")


def _item(where: str, line: _Line) -> Item:
    """Raises ValueError."""
    if line.op == "delete":
        return Item(where, line.path, deleted=True)
    raw, kind = bytes(line.data), _JSON
    if line.op != "put" or not raw:
        raise ValueError("it has no data" if line.op == "put" else f"the operation {line.op!r} is unknown")
    if line.encoding == "base64":
        raw, kind = b64decode(msgspec.json.decode(raw, type=str), validate=True), line.content_type or _OCTETS
    elif line.encoding != "json":
        raise ValueError(f"the encoding {line.encoding!r} is unknown")
    ttl = line.ttl
    if ttl is None and line.expires_at is None and line.uuid:
        ttl = "0"  # it had no end where it comes from
    return Item(where, line.path, raw, kind, ttl, line.expires_at, line.uuid, line.timestamp)


def of_folder(root: Path) -> Iterator[Found]:
    """Files, in the order of their paths; links are not followed."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            key = path.relative_to(root).as_posix()
            if key.encode(errors="replace").decode() != key:
                yield Problem(key, "its name is no UTF-8 text")
                continue
            if key == STATE_FILE:
                raise Failed(f"{root} is an export that was interrupted")
            if path.is_symlink() or not path.is_file():
                yield Problem(key, "it is no regular file")
                continue
            if name == VALUE_FILE:
                key = key.removesuffix(f"/{VALUE_FILE}")
            try:
                raw = path.read_bytes()
            except OSError as error:
                yield Problem(key, str(error.strerror))
                continue
            yield Item(key, key, raw, kind_of(raw, name))


def of_table(file: TextIO, key_column: str | None, delimiter: str) -> Iterator[Found]:
    """Rows below a line of names. One column is the key (the first one, if none is named). Of two columns the other one
    is the value, as `kvs set` takes it; of more the others become a JSON object of texts. Raises Failed."""
    import orjson

    rows = csv.reader(file, delimiter=delimiter, strict=True)
    names = next(rows, None)
    if not names:
        raise Failed("the table has no line of names")
    if len(set(names)) < len(names):
        raise Failed("two columns of the table have one name")
    if key_column is not None and key_column not in names:
        raise Failed(f"the table has no column {key_column!r}; it has {', '.join(names)}")
    at = 0 if key_column is None else names.index(key_column)
    while True:
        where = f"line {rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(where, str(error))
            continue
        if not row:
            continue
        if len(row) != len(names):
            yield Problem(where, f"it has {len(row)} columns, not {len(names)}")
            continue
        others = {name: cell for number, (name, cell) in enumerate(zip(names, row, strict=True)) if number != at}
        if len(others) == 1:
            raw = next(iter(others.values())).encode()
            yield Item(where, row[at], raw, kind_of(raw))
        else:
            yield Item(where, row[at], orjson.dumps(others))


# --- how far it has come ---


class _Done(msgspec.Struct):
    source: str
    done: int


class Progress:
    """How many items of a source are written, in a file if one is named."""

    def __init__(self, file: Path | None, source: str) -> None:
        """Raises Failed for a file of another source, and for what is no regular file."""
        self._file = file
        self._source = source
        self.done = 0
        if file is None:
            return
        if file.exists() and not file.is_file():
            raise Failed(f"{file} is no regular file")
        try:
            state = msgspec.json.decode(file.read_bytes(), type=_Done)
        except FileNotFoundError:
            return
        except msgspec.DecodeError:
            raise Failed(f"{file} holds no state of an import") from None
        if state.source != source:
            raise Failed(f"{file} is of an import of {state.source}")
        self.done = state.done

    def reached(self, count: int) -> None:
        self.done = count
        if self._file is not None:
            with replaced(self._file) as file:
                file.write(msgspec.json.encode(_Done(self._source, count)))

    def end(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)


# --- where they go ---


class _Sent(NamedTuple):
    """A portion on its way: the keys in it, and at which item it ends."""

    task: Future[None]
    paths: set[str]
    ends_at: int

    def wait(self, progress: Progress) -> None:
        """Until it is written."""
        self.task.result()
        progress.reached(self.ends_at)


class Target:
    """A node that takes items."""

    def __init__(
        self, client: "Client", now_ms: Callable[[], int], tell: Callable[[str, str], None], owner: str | None
    ) -> None:
        """`tell` hears where an item stood that was not written, and why. With an `owner` (a uuid, or empty for none)
        items keep their versions, and are merged with what is there."""
        self._client = client
        self._now_ms = now_ms
        self._tell = tell
        self._owner = owner
        self._counting = Lock()
        self.written = self.failed = self.expired = self.older = 0

    def write(self, found: Iterable[Found], progress: Progress, prefix: str, on_items: Callable[[int], None]) -> None:
        """All of them. A portion is read while others are on their way, so that the node does not wait."""
        under_way: deque[_Sent] = deque()
        with ThreadPoolExecutor(_UNDER_WAY_MAX) as senders:
            for count, items in self._portions(found, progress.done, prefix):
                paths = {item.path for item in items}
                # What is said of one key twice is written in its order.
                while len(under_way) == _UNDER_WAY_MAX or any(not paths.isdisjoint(one.paths) for one in under_way):
                    under_way.popleft().wait(progress)
                under_way.append(_Sent(senders.submit(self._send, items), paths, count))
                on_items(count)
            while under_way:
                under_way.popleft().wait(progress)

    def _portions(self, found: Iterable[Found], done: int, prefix: str) -> Iterator[tuple[int, list[Item]]]:
        """(How many there were up to its end, items)."""
        items: list[Item] = []
        size_bytes = count = 0
        most = _VERSIONS_AT_ONCE if self._owner is not None else _AT_ONCE_ITEMS
        for count, one in enumerate(found, 1):
            if count <= done:
                continue
            if isinstance(one, Problem):
                self._fail(one.where, one.reason)
                continue
            items.append(one._replace(path=prefix + one.path) if prefix else one)
            size_bytes += len(one.raw)
            if len(items) >= most or size_bytes >= _AT_ONCE_BYTES:
                yield count, items
                items, size_bytes = [], 0
        if items or count > done:
            yield count, items

    def _send(self, items: list[Item]) -> None:
        live = [item for item in items if item.expires_at is None or item.expires_at > self._now_ms()]
        with self._counting:
            self.expired += len(items) - len(live)
        if self._owner is not None:
            self._merge(live)
        else:
            start = 0
            for number, item in enumerate(live):
                if len(item.raw) >= _ALONE_BYTES:
                    self._bulk(live[start:number])
                    self._alone(item)
                    start = number + 1
            self._bulk(live[start:])

    def _bulk(self, items: Sequence[Item]) -> None:
        if not items:
            return
        results = self._client.bulk([self._command(item) for item in items], repeat=True)
        failed = [
            (item.where, str((result.problem or {}).get("detail", result.status)))
            for item, result in zip(items, results, strict=True)
            if not (result.is_ok or (item.deleted and result.status == 404))
        ]
        self._written(len(items) - len(failed))
        for where, reason in failed:
            self._fail(where, reason)

    def _command(self, item: Item) -> BulkPut | BulkDelete:
        if item.deleted:
            return BulkDelete(item.path)
        return BulkPut(item.path, item.raw, item.content_type, self._ttl(item))

    def _ttl(self, item: Item) -> str | None:
        if item.expires_at is None or item.ttl is not None:
            return item.ttl
        return f"{max(1, item.expires_at - self._now_ms())}ms"

    def _alone(self, item: Item) -> None:
        from kvs.client import BadRequestError, ForbiddenError, TooLargeError

        try:
            self._client.put(item.path, item.raw, content_type=item.content_type, ttl=self._ttl(item))
        except (BadRequestError, ForbiddenError, TooLargeError) as error:
            self._fail(item.where, error.detail)
        else:
            self._written(1)

    def _written(self, count: int, older: int = 0) -> None:
        with self._counting:
            self.written += count
            self.older += older

    def _fail(self, where: str, reason: str) -> None:
        with self._counting:
            self.failed += 1
            self._tell(where, reason)

    # --- with their versions ---

    def _merge(self, items: Sequence[Item]) -> None:
        from kvs.storage.backup import ROWS_TYPE, encode_rows

        rows = []
        for item in items:
            row = self._row(item)
            if row is not None:
                rows.append(row)
        if rows:
            counts = self._client.send("/api/backup/restore?forgotten=true", encode_rows(rows), ROWS_TYPE)
            self._written(counts["taken"], counts["older"] + counts["known"])
            if counts["refused"]:
                self._fail(f"{items[0].where} to {items[-1].where}", f"{counts['refused']} were refused")

    def _row(self, item: Item) -> tuple[bytes, bytes] | None:
        """A record as a backup has it."""
        from uuid import UUID

        from kvs.errors import BadRequest
        from kvs.keys import check_key
        from kvs.storage.codec import Stored, encode
        from kvs.storage.keyspace import data_key
        from kvs.storage.record import Record

        try:
            check_key(item.path.encode())
            if item.deleted or not item.timestamp:
                raise ValueError("it does not say which version it is: uuid and timestamp")
            entry = data_key(item.path.encode())
            record = Record(
                uuid=UUID(item.uuid).bytes,
                timestamp=item.timestamp,
                counter=0,
                origin="import",
                origin_joined=0,
                owner=self._owner or "",
                expires_at=item.expires_at or 0,
                content_type=item.content_type,
                payload=item.raw,
            )
            return entry, encode(entry, Stored(record, 0, 1, 0))
        except (BadRequest, ValueError) as error:
            self._fail(item.where, str(error))
            return None
