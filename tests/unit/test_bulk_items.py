"""How the body of a bulk request becomes items: whatever it holds, it needs little memory."""

import tracemalloc

import pytest

from kvs.errors import BadRequest, TooLarge
from kvs.limits import BULK_MAX_BYTES, BULK_MAX_ITEMS
from kvs.server.handlers.bulk import split_items


def test_elements_of_an_array() -> None:
    assert split_items(b' [{"a": 1} ,2, [3]\n]\n') == [b'{"a": 1}', b"2", b"[3]"]
    assert split_items(b"[]") == []


def test_lines() -> None:
    assert split_items(b'\n  {"a": 1}\r\n\n \t\n2') == [b'{"a": 1}\r', b"2"]
    assert split_items(b"") == []


@pytest.mark.parametrize("separator", [b",", b"\n"])
def test_the_number_of_items_is_limited(separator: bytes) -> None:
    for number in (BULK_MAX_ITEMS, BULK_MAX_ITEMS + 1, BULK_MAX_ITEMS + 1000):
        text = separator.join([b"{}"] * number)
        body = b"[%b]" % text if separator == b"," else text
        if number == BULK_MAX_ITEMS:
            assert split_items(body) == [b"{}"] * number
        else:
            with pytest.raises(TooLarge):
                split_items(body)


@pytest.mark.parametrize(
    "body",
    [b"[%b1]" % (b"1," * (BULK_MAX_BYTES // 2 - 2)), b"1\n" * (BULK_MAX_BYTES // 2), b"\n" * BULK_MAX_BYTES],
    ids=["array", "lines", "empty lines"],
)
def test_a_hostile_body_needs_little_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        if body.strip():
            with pytest.raises(TooLarge):
                split_items(body)
        else:
            assert split_items(body) == []
        # The check of UTF-8 makes a text of the size of the body.
        assert tracemalloc.get_traced_memory()[1] < 1.5 * len(body)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("body", [b"[1,", b"[1] 2", b"[1,]", b'["\xff"]', b"[" * 100_000])
def test_an_array_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as refusal:
        split_items(body)
    assert refusal.value.code == "invalid_json"
