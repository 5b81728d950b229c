"""Events out of bytes, however these are cut."""

from hypothesis import given
from hypothesis import strategies as st

from kvs.client.sse import Block, SseParser

STREAM = (
    b": watching\nid: 1\n\n"
    b'event: put\nid: 2\ndata: {"a":1}\n\n'
    b":\n\n"
    b"data: x\r\ndata:  y\r\n\r\n"
    b"event: other\nunknown: 1\nretry: 5\ndata\n\n"
    b"\n\n"
    b"event: put\ndata: cut off"
)
BLOCKS = [
    Block("", None, "1"),
    Block("put", b'{"a":1}', "2"),
    Block("", b"x\n y", None),
    Block("other", b"", None),
]


@given(st.lists(st.integers(1, 12)))
def test_pieces_of_any_size_make_the_same_events(sizes: list[int]) -> None:
    parser, rest, found = SseParser(), STREAM, []
    for size in sizes:
        piece, rest = rest[:size], rest[size:]
        found += parser.feed(piece)
    assert found + parser.feed(rest) == BLOCKS


def test_a_block_without_its_end_does_not_count() -> None:
    assert SseParser().feed(b"event: put\ndata: 1\n") == []
