"""`/kv/_range`: bounds, pages, and what is seen while others write."""

from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from kvs.limits import PAGE_MAX_BYTES, PAGE_MAX_SCANNED
from tests.api.client import Client
from tests.api.paging import fill, page, pages, paths, remove

BAD_PARAMETERS = {
    "limit": ["0", "-1", "1001", "", "ten", "1.0", "%2B1", "1e2", "%D9%A3", "9" * 30],
    "keys_only": ["maybe", "2", "tru"],
    "cursor": ["", "!", "%C3%A9", "YQ==", "Y", "A" * 2000, "YR"],
    "start_key": ["x" * 1025],
    "end_key": ["%C3%A9" * 513],
    "prefix": ["x" * 1025],
}


@pytest.fixture
def letters(client: Client, key: str) -> str:
    """A prefix with the keys a to e below it."""
    fill(client, (f"{key}/{name}" for name in "abcde"))
    return f"{key}/"


def test_a_pair_is_what_a_read_of_its_key_shows(client: Client, key: str) -> None:
    client.put(f"/kv/{key}/json?ttl=1h", b'{"n": 1.10, "a":"\xc3\xa9"}')
    document = page(client, "_range", prefix=f"{key}/")
    value = client.get(f"/kv/{key}/json")
    assert document == {"pairs": [{"path": f"{key}/json", "stored_value": value.json}], "next_cursor": None}
    assert value.body in client.get(f"/kv/_range?prefix={key}/").body


def test_a_blob_is_shown_in_base64(client: Client, key: str) -> None:
    blob = bytes(range(256))
    client.put(f"/kv/{key}", blob, Content_Type="image/png")
    (pair,) = page(client, "_range", prefix=key)["pairs"]
    stored = pair["stored_value"]
    assert (stored["content_type"], stored["encoding"]) == ("image/png", "base64")
    assert b64decode(stored["data"]) == blob


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, "abcde"),
        ({"start_key": "b"}, "bcde"),
        ({"end_key": "c"}, "abc"),
        ({"start_key": "b", "end_key": "d"}, "bcd"),
        ({"start_key": "c", "end_key": "c"}, "c"),
        ({"start_key": "bb", "end_key": "cc"}, "c"),
        ({"start_key": "d", "end_key": "b"}, ""),
        ({"start_key": "f"}, ""),
        ({"end_key": "A"}, ""),
    ],
)
def test_bounds_are_inclusive(client: Client, letters: str, bounds: dict[str, str], expected: str) -> None:
    full = {name: letters + text for name, text in bounds.items()}
    found = paths(client, "_range", prefix=letters, **full)
    assert found == [letters + name for name in expected]
    assert paths(client, "_range", **{"start_key": letters, "end_key": letters + "~", **full}) == found


def test_a_prefix_is_of_bytes_and_not_of_segments(client: Client, key: str) -> None:
    fill(client, [f"{key}-a", f"{key}-a/b", f"{key}-ab", f"{key}-b"])
    assert paths(client, "_range", prefix=f"{key}-a") == [f"{key}-a", f"{key}-a/b", f"{key}-ab"]
    assert paths(client, "_range", prefix=f"{key}-a/") == [f"{key}-a/b"]


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
def test_pages_hold_up_to_their_limit(client: Client, letters: str, limit: int) -> None:
    found = pages(client, "_range", prefix=letters, limit=limit)
    assert all(len(one) == limit for one in found[:-1])
    assert 0 < len(found[-1]) <= limit
    assert [pair["path"] for one in found for pair in one] == [letters + name for name in "abcde"]


def test_a_page_holds_a_hundred_unless_asked(client: Client, key: str) -> None:
    fill(client, (f"{key}/{number:04}" for number in range(1001)))
    assert [len(one) for one in pages(client, "_range", prefix=f"{key}/", limit=1000)] == [1000, 1]
    assert {len(one) for one in pages(client, "_range", prefix=f"{key}/")[:-1]} == {100}


@pytest.mark.parametrize(("given", "shown"), [("true", False), ("1", False), ("", False), ("false", True), ("0", True)])
def test_keys_only(client: Client, letters: str, given: str, shown: bool) -> None:
    (first, *_) = page(client, "_range", prefix=letters, keys_only=given)["pairs"]
    assert first["path"] == letters + "a"
    assert ("stored_value" in first) is shown


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD_PARAMETERS.items() for text in texts])
def test_bad_values_are_refused_by_name(client: Client, name: str, text: str) -> None:
    reply = client.get(f"/kv/_range?{name}={text}")
    assert (reply.status, reply.json["field"]) == (400, name)


@pytest.mark.parametrize(
    "query", ["prefix=%ff", "prefix=a&prefix=b", "limit=1&limit=1", "&".join(f"p{n}" for n in range(33))]
)
def test_a_query_that_two_readers_could_read_differently_is_refused(client: Client, query: str) -> None:
    for route in ("_range", "_list"):
        assert client.get(f"/kv/{route}?{query}").status == 400


@pytest.mark.parametrize("cursor", ["abc", "not-a-cursor", "", "YQ", "%00", "a" * 3_000])
def test_a_cursor_that_nobody_gave_is_refused(client: Client, cursor: str) -> None:
    for route in ("_range", "_list"):
        reply = client.get(f"/kv/{route}?cursor={cursor}")
        assert (reply.status, reply.code, reply.json["field"]) == (400, "invalid_cursor", "cursor")


def test_deleted_keys_are_passed_over_with_cursors(client: Client, key: str) -> None:
    names = [f"{key}/{number:05}" for number in range(PAGE_MAX_SCANNED + 500)]
    fill(client, names)
    remove(client, names[:-1])
    for route in ("_range", "_list"):
        found = pages(client, route, prefix=f"{key}/")
        assert len(found) > 1, "one page looked at more entries than it may"
        assert [entry["path"] for one in found for entry in one] == names[-1:]


def test_a_page_of_large_values_ends_early(client: Client, key: str) -> None:
    size_bytes, count = 1_000_000, 12
    for number in range(count):
        client.put(f"/kv/{key}/{number:02}", b'"%b"' % (b"x" * size_bytes))
    reply = client.get(f"/kv/_range?prefix={key}/")
    assert len(reply.body) < PAGE_MAX_BYTES + 2 * size_bytes
    assert 0 < len(reply.json["pairs"]) < count
    assert len(paths(client, "_range", prefix=f"{key}/")) == count


def test_keys_that_stay_are_seen_once_while_others_come_and_go(
    client: Client, connect: Callable[[Client], Client], key: str
) -> None:
    staying = [f"{key}/{number:04}" for number in range(0, 400, 2)]
    fill(client, staying)
    reader, done = connect(client), Event()

    def write() -> int:
        rounds = 0
        while not done.is_set():
            coming = [f"{key}/{number:04}" for number in range(1, 400, 20)]
            fill(client, coming)
            client.put(f"/kv/{staying[rounds % len(staying)]}", b"1")
            remove(client, coming)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        try:
            for limit in (1, 3, 7, 50):
                for route in ("_range", "_list"):
                    found = paths(reader, route, prefix=f"{key}/", limit=limit)
                    assert found == sorted(set(found))
                    assert set(staying) <= set(found)
        finally:
            done.set()
        assert writing.result() > 0
