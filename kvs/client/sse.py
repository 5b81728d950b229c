"""Server-sent events out of bytes, as they come (WHATWG HTML, 9.2.6)."""

from typing import NamedTuple


class Block(NamedTuple):
    """What stood before an empty line. `data` is None if there was none: then only `id` matters."""

    event: str
    data: bytes | None
    id: str | None


class SseParser:
    """Takes pieces of any size. A block without its empty line does not count."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._event = ""
        self._data: list[bytes] = []
        self._id: str | None = None

    def feed(self, piece: bytes) -> list[Block]:
        """The blocks that are complete now."""
        if b"\n" not in piece:
            self._rest.append(piece)
            return []
        whole = b"".join((*self._rest, piece))
        *lines, rest = whole.split(b"\n")
        self._rest = [rest] if rest else []
        blocks: list[Block] = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line:
                self._take(line)
            elif self._data or self._id is not None:
                blocks.append(Block(self._event, b"\n".join(self._data) if self._data else None, self._id))
                self._event, self._data, self._id = "", [], None
        return blocks

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"event":
                self._event = value.decode(errors="replace")
            case b"data":
                self._data.append(value)
            case b"id":
                self._id = value.decode(errors="replace")
