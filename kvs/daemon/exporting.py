"""Exports: all values under a prefix, as a node held them at one moment.

    walk      all values in key order go into a file that is not the export yet, or into files of a folder
    changes   what changed since the walk began is put into the place of what was walked

The moment is that when the last change was told; see kvs/client/snapshot.py. What an export has come to is on the disk
at any time: the one that goes on behind an interruption keeps what is there, unless the node has forgotten what changed
since; then it begins anew.
"""

import os
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec
import orjson

from kvs.client.wire import stands_on_a_line
from kvs.daemon.failure import Failed

if TYPE_CHECKING:
    from kvs.client import Client, Value

_PAGE = 1_000
_STATE_EVERY = 1_000
_LINES_AT_ONCE = 100
_COPY_BYTES = 1024 * 1024
VALUE_FILE = ".kvs-value"
"""Of a key that is a folder too, because there are keys below it."""
STATE_FILE = ".kvs-export"


class State(msgspec.Struct):
    """Of an export that has begun: of which node, since which position of its change log, and behind which key it goes
    on (for folders; a file knows by its last line)."""

    url: str
    prefix: str
    position: str
    after: str = ""


class Walk(NamedTuple):
    """One export. `on_key` hears how many keys there are so far."""

    client: "Client"
    state: State
    has_choice: bool
    on_key: Callable[[int], None]

    def values(self, after: str) -> Iterator["Value"]:
        """Those behind the key `after`."""
        at = self.state.url if self.has_choice else ""
        for value in self.client.range(self.state.prefix, start=after, page=_PAGE, at=at):
            if value.path != after:
                yield value

    def changes(self) -> Iterator[tuple[str, "Value | None"]]:
        """Keys, and what they hold now: None for nothing. Raises ResyncRequiredError."""
        for event in self.client.changes(self.state.prefix, self.state.position, at=self.state.url):
            if event.path:
                yield event.path, event.value


def begin(client: "Client", prefix: str) -> State:
    url, position = client.position(prefix)
    return State(url, prefix, position)


def line_of(value: "Value") -> bytes:
    """An item of a bulk request, and with the version what makes it the same value once more, byte for byte."""
    path, uuid = orjson.dumps(value.path), orjson.dumps(value.uuid)
    rest = b"" if value.expires_at is None else b',"expires_at":%d' % value.expires_at
    if value.is_json and stands_on_a_line(value.raw):
        data = value.raw
    else:
        rest += b',"content_type":%b,"encoding":"base64"' % orjson.dumps(value.content_type)
        data = b'"%b"' % b64encode(value.raw)
    return b'{"op":"put","path":%b,"uuid":%b,"timestamp":%d%b,"data":%b}\n' % (path, uuid, value.timestamp, rest, data)


# --- one file of lines ---


def walk_lines(file: BinaryIO, walk: Walk) -> int:
    """Go on with the lines of a file, behind its last whole one; how many there are."""
    count, after = _whole_lines(file)
    lines: list[bytes] = []
    for value in walk.values(after):
        lines.append(line_of(value))
        if len(lines) == _LINES_AT_ONCE:
            count += _write(file, lines)
            walk.on_key(count)
    count += _write(file, lines)
    walk.on_key(count)
    file.flush()
    return count


def _write(file: BinaryIO, lines: list[bytes]) -> int:
    """How many there were. A write to a file that is read too costs as much as all else that is done for a line."""
    count = len(lines)
    file.write(b"".join(lines))
    lines.clear()
    return count


def _whole_lines(file: BinaryIO) -> tuple[int, str]:
    """How many there are, and the key of the last one; the file is cut behind it."""
    file.seek(0)
    count = end = 0
    last = b""
    for line in file:
        if line.endswith(b"\n"):
            count, end, last = count + 1, end + len(line), line
    file.seek(end)
    file.truncate()
    try:
        return count, str(orjson.loads(last)["path"]) if last else ""
    except (ValueError, KeyError, TypeError):
        raise Failed(f"{getattr(file, 'name', 'the file')} holds no part of an export") from None


def mend_lines(file: BinaryIO, target: BinaryIO, walk: Walk) -> int:
    """Write the lines of a file to `target`, with the changes in their places; how many there are then."""
    with tempfile.TemporaryFile() as values:
        places = _gathered(values, walk)
        if not places:
            return _copy_all(file, target)
        waiting = sorted(places, key=str.encode)[::-1]
        count = 0
        file.seek(0)
        for line in file:
            key = msgspec.json.decode(line, type=_Path).path
            while waiting and waiting[-1].encode() < key.encode():
                count += _copy(values, places[waiting.pop()], target)
            if key in places:
                if waiting and waiting[-1] == key:
                    count += _copy(values, places[waiting.pop()], target)
            else:
                target.write(line)
                count += 1
        while waiting:
            count += _copy(values, places[waiting.pop()], target)
    target.flush()
    return count


class _Path(msgspec.Struct):
    path: str


def _copy_all(file: BinaryIO, target: BinaryIO) -> int:
    count = 0
    file.seek(0)
    while data := file.read(_COPY_BYTES):
        target.write(data)
        count += data.count(b"\n")
    target.flush()
    return count


def _gathered(values: BinaryIO, walk: Walk) -> dict[str, tuple[int, int] | None]:
    """The lines of the changes in a file: the place of each key's last one, None for a key that is gone."""
    places: dict[str, tuple[int, int] | None] = {}
    end = 0
    for path, value in walk.changes():
        if value is None:
            places[path] = None
            continue
        line = line_of(value)
        values.write(line)
        places[path] = end, len(line)
        end += len(line)
    return places


def _copy(values: BinaryIO, place: tuple[int, int] | None, target: BinaryIO) -> int:
    if place is None:
        return 0
    values.seek(place[0])
    target.write(values.read(place[1]))
    return 1


# --- a folder ---


class Folder:
    """Keys as files below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state_file = root / STATE_FILE

    def load(self) -> State | None:
        """How far an export has come here. Raises Failed for a folder that is not empty and holds none."""
        try:
            return msgspec.json.decode(self.state_file.read_bytes(), type=State)
        except FileNotFoundError:
            if self.root.is_dir() and next(self.root.iterdir(), None) is not None:
                raise Failed(f"{self.root} is not empty") from None
            return None
        except msgspec.DecodeError:
            raise Failed(f"{self.state_file} holds no state of an export") from None

    def save(self, state: State) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with replaced(self.state_file) as file:
            file.write(msgspec.json.encode(state))

    def walk(self, walk: Walk) -> None:
        for count, value in enumerate(walk.values(walk.state.after), 1):
            self.put(value.path, value.raw)
            walk.on_key(count)
            if count % _STATE_EVERY == 0:
                walk.state.after = value.path
                self.save(walk.state)

    def mend(self, walk: Walk) -> None:
        for path, value in walk.changes():
            if value is None:
                self.remove(path)
            else:
                self.put(path, value.raw)
        self.state_file.unlink()

    def put(self, key: str, raw: bytes) -> None:
        path = self._path(key)
        for folder in reversed(path.relative_to(self.root).parents):
            self._make_folder(self.root / folder)
        if path.is_dir():
            path /= VALUE_FILE
        try:
            path.write_bytes(raw)
        except OSError as error:
            raise Failed(f"cannot write {path}: {error.strerror}") from None

    def remove(self, key: str) -> None:
        path = self._path(key)
        with suppress(FileNotFoundError, NotADirectoryError):  # it was not walked, or what is above it is no folder
            (path / VALUE_FILE if path.is_dir() else path).unlink()

    def _path(self, key: str) -> Path:
        """Raises Failed for what is no key: it could lead out of the folder."""
        from kvs.errors import BadRequest
        from kvs.keys import check_key

        try:
            check_key(key.encode())
        except (BadRequest, UnicodeEncodeError):
            raise Failed("the node sends what is no key") from None
        if key.rpartition("/")[2] in (VALUE_FILE, STATE_FILE):
            raise Failed(f"the key {key} has a name that means something else in a folder; export lines instead")
        return self.root.joinpath(*key.split("/"))

    def _make_folder(self, path: Path) -> None:
        """A file that stands there is the value of a key that gets keys below it."""
        if path.is_symlink() or path.is_file():
            aside = self.root / f"{STATE_FILE}.aside"
            path.rename(aside)
            path.mkdir()
            aside.rename(path / VALUE_FILE)
        else:
            path.mkdir(exist_ok=True)


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path`, whole and on the disk, or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        with fresh.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
