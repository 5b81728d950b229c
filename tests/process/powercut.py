"""What a power cut leaves on the disk, made from the journal that `faults.c` writes of a node's calls.

    journal := record*
    record  := op:char a_length:u32 b_length:u32 a b          native byte order
    op      := C create if missing   T create or empty    W write b: offset:i64 data    L set the length to b (i64)
               S fsync or fdatasync  R rename a to b       U unlink                      M mkdir      a: the path

A call stands in the journal once it is over and before its caller goes on, so whatever was promised to anybody rests
on the records before that moment: the length of the journal (a *mark*) is the clock of these tests.

What is surely on the disk is little: the bytes of a file as of its last fsync, under a name that lasts. How long names
take depends on the file system, how much more survives on chance; so every cut is made in several ways, see `Way`.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from struct import Struct
from typing import NamedTuple

_HEAD = Struct("=cII")
_NUMBER = Struct("=q")
_STRUCTURAL = b"CTLRU"
_SECTOR = 512


class Way(Enum):
    """How much survives.

    File systems with a journal (ext4, XFS) keep changes of names in their order, and any fsync that needs the journal,
    of a file that is new or has another length, carries all earlier ones to the disk. Others (Btrfs) keep the name of a
    file with the file, and renames and removals until the folder itself is synced or much time has passed.

    No zeros are put into MANIFEST files, because LevelDB then opens no database, whatever else is there.
    """

    LEAST = "names as of the last fsync that carried them, only synced bytes"
    NAMES = "all names, only synced bytes: files that were never synced are empty"
    TORN = "names as of any moment since that fsync, the first of the bytes that were written since"
    ZEROS = "names and lengths, but some sectors of a log or table as of its last fsync (zeros, where it was shorter)"
    OWN = "names synced with their own file or the folder, only synced bytes"


class Step(NamedTuple):
    """One call. `mark` is the journal's length right behind it."""

    mark: int
    op: bytes
    path: str
    data: bytes


class _Change(NamedTuple):
    """`size` bytes were put in the place of the `old` ones at `offset`."""

    offset: int
    old: bytes
    size: int


@dataclass(eq=False)
class _File:
    data: bytearray = field(default_factory=bytearray)
    unsynced: list[_Change] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        assert offset <= len(self.data), "a hole"
        end = offset + len(data)
        self.unsynced.append(_Change(offset, bytes(self.data[offset:end]), len(data)))
        self.data[offset:end] = data

    def resize(self, length: int) -> None:
        if length > len(self.data):
            self.write(len(self.data), bytes(length - len(self.data)))
        else:
            self.unsynced.append(_Change(length, bytes(self.data[length:]), 0))
            del self.data[length:]

    def after(self, written: int) -> bytearray:
        """What it held when about so many bytes had been written since the last fsync."""
        data, left = bytearray(self.data), self.written - written
        for offset, old, size in reversed(self.unsynced):
            if written and not left:
                break
            kept = max(0, size - left)
            if kept < len(old):  # no disk writes less than a sector over what it holds
                kept = max(0, (offset + kept) // _SECTOR * _SECTOR - offset)
            data[offset + kept : offset + size] = old[kept:]
            left = max(0, left - (size - kept))
        return data

    @property
    def written(self) -> int:
        """How many bytes since the last fsync."""
        return sum(change.size for change in self.unsynced)


class Disk:
    """The folder as the calls so far made it, and what of it a cut now would leave."""

    def __init__(self, folder: str) -> None:
        """`folder` is the path by which the journal knows it; it has no folders in it."""
        self._folder = folder
        self._names: dict[str, _File] = {}
        self._since_sync: list[dict[str, _File]] = [{}]
        """The names as of the last sync that carried them, and after each change since."""
        self._own: dict[str, _File] = {}

    def apply(self, step: Step) -> None:
        name = step.path.removeprefix(self._folder).removeprefix("/")
        file = self._names.get(name)
        match step.op:
            case b"C" | b"T":
                if file is None or step.op == b"T":
                    self._names[name] = _File()
            case b"R":
                if file is not None:
                    del self._names[name]
                    self._names[step.data.decode().removeprefix(self._folder + "/")] = file
            case b"U":
                self._names.pop(name, None)
            case b"W" if file is not None:
                (offset,) = _NUMBER.unpack_from(step.data)
                file.write(offset, step.data[_NUMBER.size :])
            case b"L" if file is not None:
                file.resize(*_NUMBER.unpack(step.data))
            case b"S":
                self._sync(name)
        if step.op in _STRUCTURAL:
            self._since_sync.append(dict(self._names))

    def _sync(self, name: str) -> None:
        if not name:
            self._own = dict(self._names)
        elif name in self._names:
            file = self._names[name]
            self._own[name] = file
            is_new = file not in self._since_sync[0].values()
            has_other_length = any(len(old) != size for _, old, size in file.unsynced)
            file.unsynced.clear()
            if not is_new and not has_other_length:
                return
        self._since_sync = [dict(self._names)]

    @classmethod
    def now(cls, journal: Path, folder: Path) -> "Disk":
        """As the whole journal tells it. A record at its end that is not whole, of a process that was killed while it
        wrote it, is taken off: nobody was told anything yet of what it stands for."""
        whole = _whole_bytes(journal)
        os.truncate(journal, whole)
        disk = cls(str(folder.resolve()))
        for step in read_journal(journal):
            disk.apply(step)
        return disk

    def files(self) -> dict[str, bytes]:
        """All of it, as without a cut."""
        return {name: bytes(file.data) for name, file in self._names.items()}

    def cut(self, way: Way, random: Random) -> dict[str, bytes]:
        """Name to content of what survives."""
        match way:
            case Way.LEAST:
                names = self._since_sync[0]
            case Way.TORN:
                names = random.choice(self._since_sync)
            case Way.OWN:
                names = self._own
            case _:
                names = self._names
        return {name: _surviving(name, file, way, random) for name, file in names.items()}


def _surviving(name: str, file: _File, way: Way, random: Random) -> bytes:
    if way is Way.TORN:
        return bytes(file.after(random.randint(0, file.written)))
    synced = bytes(file.after(0))
    if way is Way.ZEROS and name.endswith((".log", ".ldb")):
        content, before = bytearray(file.data), synced.ljust(len(file.data), b"\0")
        for sector in sorted(_sectors(file.unsynced)):
            if random.random() < 0.5:
                place = slice(sector * _SECTOR, min((sector + 1) * _SECTOR, len(content)))
                content[place] = before[place]
        return bytes(content)
    return synced


def _sectors(changes: Sequence[_Change]) -> set[int]:
    return {
        sector for offset, _, size in changes for sector in range(offset // _SECTOR, -(-(offset + size) // _SECTOR))
    }


def read_journal(path: Path) -> Iterator[Step]:
    raw = path.read_bytes()
    at = 0
    while at < len(raw):
        op, path_length, data_length = _HEAD.unpack_from(raw, at)
        path_at = at + _HEAD.size
        data_at = path_at + path_length
        at = data_at + data_length
        assert at <= len(raw), "the journal ends within a record"
        yield Step(at, op, raw[path_at:data_at].decode(), raw[data_at:at])


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make the folder one with these files only, which nobody else may read: one of them is a key."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)


def _whole_bytes(journal: Path) -> int:
    raw = journal.read_bytes()
    at = 0
    while at + _HEAD.size <= len(raw):
        _, path_length, data_length = _HEAD.unpack_from(raw, at)
        if at + _HEAD.size + path_length + data_length > len(raw):
            break
        at += _HEAD.size + path_length + data_length
    return at


def begin_journal(journal: Path, folder: Path, files: Mapping[str, bytes]) -> None:
    """A new journal of a folder that holds these files, all of them synced."""
    top = str(folder.resolve())
    with journal.open("wb") as file:
        for name, content in files.items():
            for op, data in ((b"T", b""), (b"W", _NUMBER.pack(0) + content), (b"S", b"")):
                path = f"{top}/{name}".encode()
                file.write(_HEAD.pack(op, len(path), len(data)) + path + data)
        file.write(_HEAD.pack(b"S", len(top.encode()), 0) + top.encode())


def choose_cuts(journal: Path, count: int, random: Random, first: int = 0) -> list[int]:
    """Marks to cut at, in order: half of them anywhere, half near calls that change names, where LevelDB passes from
    one file to the next. None before the mark `first`."""
    steps = [(step.mark, step.op) for step in read_journal(journal) if step.mark >= first]
    turns = [i for i, (_, op) in enumerate(steps) if op in _STRUCTURAL]
    chosen = set(random.sample(range(len(steps)), min(count // 2, len(steps))))
    near = [i + by for i in turns for by in range(-2, 3) if 0 <= i + by < len(steps)]
    random.shuffle(near)
    for i in near:
        if len(chosen) >= count:
            break
        chosen.add(i)
    return [steps[i][0] for i in sorted(chosen)]


def replay(journal: Path, folder: Path, marks: Sequence[int]) -> Iterator[tuple[int, Disk]]:
    """The disk at each of the marks, which are in order; to be looked at before the next is asked for. After the last
    it stays as it is."""
    disk = Disk(str(folder.resolve()))
    steps = read_journal(journal)
    for mark in marks:
        for step in steps:
            disk.apply(step)
            if step.mark >= mark:
                break
        yield mark, disk
