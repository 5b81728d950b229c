from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvs.errors import BadRequest
from kvs.keys import check_key


@pytest.mark.parametrize(
    "key", ["a", "a/b", "a b", "a%2Fb", "é/ü", "🙂", "metadata/a", "a/metadata/b", "a/_b", "...", "a" * 1024, "a:b;c"]
)
def test_a_key_is_taken(key: str) -> None:
    check_key(key.encode())


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (b"", "invalid_key"),
        (b"a" * 1025, "invalid_key"),
        (b"/a", "invalid_key"),
        (b"a/", "invalid_key"),
        (b"a//b", "invalid_key"),
        (b".", "invalid_key"),
        (b"a/../b", "invalid_key"),
        (b"a/.", "invalid_key"),
        (b"..", "invalid_key"),
        (b"a\x00b", "invalid_key"),
        (b"a\nb", "invalid_key"),
        (b"a\x7fb", "invalid_key"),
        (b"a\xc2\x85b", "invalid_key"),
        (b"\xff", "invalid_key"),
        (b"\xc0\xaf", "invalid_key"),
        (b"\xed\xa0\x80", "invalid_key"),
        (b"_x", "reserved_key"),
        (b"_range", "reserved_key"),
        (b"metadata", "reserved_key"),
        (b"a/metadata", "reserved_key"),
        (b"a/metadata/metadata", "reserved_key"),
    ],
)
def test_a_key_is_refused(key: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_key(key)
    assert refused.value.code == code


def is_key(key: bytes) -> bool:
    """What the text of the rules says, segment by segment."""
    try:
        segments = key.decode().split("/")
    except UnicodeDecodeError:
        return False
    return (
        len(key) <= 1024
        and not {"", ".", ".."}.intersection(segments)
        and all(category(c) != "Cc" for segment in segments for c in segment)
        and not segments[0].startswith("_")
        and segments[-1] != "metadata"
    )


@given(st.lists(st.sampled_from([*b"/._-a0\n\0 ~\x7f", b"metadata", "é".encode(), b"\xc2", b"\x85"]), max_size=8))
def test_no_way_to_a_key_is_a_way_around_the_rules(parts: list[int | bytes]) -> None:
    key = b"".join(bytes((part,)) if isinstance(part, int) else part for part in parts)
    if is_key(key):
        check_key(key)
    else:
        with pytest.raises(BadRequest):
            check_key(key)
