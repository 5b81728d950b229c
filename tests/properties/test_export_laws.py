"""An export holds what the node held at one moment, whatever is written meanwhile and wherever it is interrupted."""

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from kvs.client import Client, Event, Value
from kvs.daemon.exporting import VALUE_FILE, Folder, State, Walk, begin, mend_lines, walk_lines

KEYS = ["a", "a/b", "a/b/c", "b", "b.c", "b/c", "é", "z"]
keys = st.sampled_from(KEYS)
states = st.dictionaries(keys, st.integers(0, 9))
writes = st.lists(st.tuples(keys, st.none() | st.integers(10, 99)), max_size=4)
"""Keys and their new values; None deletes."""


class Interrupted(Exception):
    pass


class Node:
    """What the export asks. Before each value that it sends, some writes happen."""

    def __init__(self, state: dict[str, int], meanwhile: list[list[tuple[str, int | None]]]) -> None:
        self.state = dict(state)
        self.changed: dict[str, None] = {}
        self._meanwhile = list(meanwhile)
        self._version = 0

    def position(self, prefix: str) -> tuple[str, str]:
        return "http://node", "1"

    def range(self, prefix: str, *, start: str, page: int, at: str) -> Iterator[Value]:
        sent = start.encode()
        is_first = True
        while True:
            self._happen()
            rest = sorted(key.encode() for key in self.state if (key.encode() > sent) or (is_first and key == start))
            if not rest:
                return
            is_first = False
            sent = rest[0]
            yield self._value(sent.decode())

    def changes(self, prefix: str, since: str, *, at: str) -> Iterator[Event]:
        for key in [*self.changed, *self.changed]:
            self._happen()
            yield self._event(key)
        for key in list(self.changed):  # what happened while those were told
            yield self._event(key)
        yield Event("uptodate")

    def _event(self, key: str) -> Event:
        return Event("put", key, value=self._value(key)) if key in self.state else Event("delete", key)

    def _value(self, key: str) -> Value:
        raw = b"%d" % self.state[key] if self.state[key] % 2 else b" %d\n" % self.state[key]
        return Value(key, f"version {self._version}", 1, raw)

    def _happen(self) -> None:
        for key, value in self._meanwhile.pop() if self._meanwhile else ():
            self._version += 1
            self.changed[key] = None
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value


def walk_of(node: Node, state: State, most: int | None = None) -> Walk:
    heard = 0

    def hear(_: int) -> None:
        nonlocal heard
        heard += 1
        if heard == most:
            raise Interrupted

    return Walk(cast(Client, node), state, False, hear)


def data_of(line: dict[str, Any]) -> int:
    from base64 import b64decode

    return int(b64decode(line["data"])) if line.get("encoding") == "base64" else int(line["data"])


@given(states, st.lists(writes, max_size=12), st.integers(1, 8), st.binary(max_size=5))
def test_lines(state: dict[str, int], meanwhile: list[list[tuple[str, int | None]]], most: int, torn: bytes) -> None:
    node = Node(state, meanwhile)
    begun = begin(cast(Client, node), "")
    file, target = io.BytesIO(), io.BytesIO()
    try:
        walk_lines(file, walk_of(node, begun, most))
    except Interrupted:
        file.seek(0, io.SEEK_END)
        file.write(torn.replace(b"\n", b""))
    walk_lines(file, walk_of(node, begun))
    count = mend_lines(file, target, walk_of(node, begun))
    lines = [json.loads(line) for line in target.getvalue().splitlines()]
    assert {line["path"]: data_of(line) for line in lines} == node.state
    paths = [line["path"] for line in lines]
    assert paths == sorted(set(paths), key=str.encode)
    assert count == len(lines)


@settings(deadline=None)  # states are forced to the disk
@given(states, st.lists(writes, max_size=12), st.integers(1, 8))
def test_folders(state: dict[str, int], meanwhile: list[list[tuple[str, int | None]]], most: int) -> None:
    with TemporaryDirectory() as name:
        root = Path(name) / "out"
        folder, node = Folder(root), Node(state, meanwhile)
        begun = begin(cast(Client, node), "")
        folder.save(begun)
        with suppress(Interrupted):
            folder.walk(walk_of(node, begun, most))
        kept = folder.load()
        assert kept is not None
        folder.walk(walk_of(node, kept))
        folder.mend(walk_of(node, kept))
        found = {}
        for path in root.rglob("*"):
            if path.is_file():
                key = path.relative_to(root).as_posix().removesuffix(f"/{VALUE_FILE}")
                assert key not in found
                found[key] = int(path.read_bytes())
        assert found == node.state
