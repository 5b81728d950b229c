"""`/kv/_list`: one level of the hierarchy."""

import pytest

from kvs.limits import LIST_DEPTH_MAX
from tests.api.client import Client
from tests.api.paging import fill, page, pages, paths

BAD_PARAMETERS = {
    "limit": ["0", "1001", "x"],
    "depth": ["0", "-1", str(LIST_DEPTH_MAX + 1), "", "all"],
    "delimiter": ["", "x" * 17, "%C3%A9" * 9],
    "cursor": ["", "!!", "YQ=="],
    "prefix": ["x" * 1025],
}


@pytest.fixture
def tree(client: Client, key: str) -> str:
    """A prefix with keys, folders, a key named as a folder, and names that sort around the delimiter."""
    names = ["a", "a/b", "a/b/c", "a/b/d", "a-b", "a0", "b/c", "c", "é/f", "z"]
    fill(client, (f"{key}/{name}" for name in names))
    return f"{key}/"


def shown(client: Client, **parameters: object) -> list[tuple[str, str]]:
    """(type, path) of all entries."""
    return [(entry["type"], entry["path"]) for one in pages(client, "_list", **parameters) for entry in one]


def test_one_level_shows_keys_and_folders_in_order(client: Client, tree: str) -> None:
    assert shown(client, prefix=tree) == [
        ("key", tree + "a"),
        ("key", tree + "a-b"),
        ("prefix", tree + "a/"),
        ("key", tree + "a0"),
        ("prefix", tree + "b/"),
        ("key", tree + "c"),
        ("key", tree + "z"),
        ("prefix", tree + "é/"),
    ]


def test_a_folder_is_the_prefix_of_the_next_level(client: Client, tree: str) -> None:
    assert shown(client, prefix=tree + "a/") == [("key", tree + "a/b"), ("prefix", tree + "a/b/")]
    assert shown(client, prefix=tree + "a/b/") == [("key", tree + "a/b/c"), ("key", tree + "a/b/d")]
    assert shown(client, prefix=tree + "nothing/") == []


def test_a_prefix_within_a_segment(client: Client, tree: str) -> None:
    expected = [("key", "a"), ("key", "a-b"), ("prefix", "a/"), ("key", "a0")]
    assert shown(client, prefix=tree + "a") == [(kind, tree + name) for kind, name in expected]


def test_depth_goes_further_down(client: Client, tree: str) -> None:
    two = shown(client, prefix=tree, depth=2)
    assert ("prefix", tree + "a/b/") in two
    assert ("key", tree + "a/b") in two
    assert ("prefix", tree + "a/") not in two
    assert [path for kind, path in shown(client, prefix=tree, depth=3) if kind == "prefix"] == []
    assert paths(client, "_list", prefix=tree, depth=3) == paths(client, "_range", prefix=tree)


@pytest.mark.parametrize("delimiter", ["-", "::", "é", "/b"])
def test_delimiters_of_ones_own(client: Client, key: str, delimiter: str) -> None:
    fill(client, (f"{key}/{name.replace('|', delimiter)}" for name in ("x|1", "x|2", "x", "y|1|2")))
    entries = shown(client, prefix=f"{key}/", delimiter=delimiter)
    folders = {path for kind, path in entries if kind == "prefix"}
    assert folders == {f"{key}/x{delimiter}", f"{key}/y{delimiter}"}
    assert ("key", f"{key}/x") in entries
    assert len(entries) == 3


@pytest.mark.parametrize("limit", [1, 2, 3, 8])
def test_a_folder_is_shown_once_whatever_the_pages(client: Client, tree: str, limit: int) -> None:
    found = pages(client, "_list", prefix=tree, limit=limit)
    assert all(0 < len(one) <= limit for one in found)
    assert [entry["path"] for one in found for entry in one] == paths(client, "_list", prefix=tree)


def test_an_entry_describes_its_value_without_showing_it(client: Client, key: str) -> None:
    written = client.put(f"/kv/{key}?ttl=1h", b"secret", Content_Type="text/plain").json
    (entry,) = page(client, "_list", prefix=key)["entries"]
    expires_at = entry.pop("expires_at")
    assert 0 < expires_at - written["timestamp"] <= 3_600_000
    assert entry == {"path": key, "type": "key", "content_type": "text/plain", **written}


def test_folders_of_deleted_keys_are_gone(client: Client, tree: str) -> None:
    client.delete(f"/kv/{tree}b/c")
    assert ("prefix", tree + "b/") not in shown(client, prefix=tree)
    client.delete(f"/kv/{tree}a/b/c")
    assert ("prefix", tree + "a/b/") in shown(client, prefix=tree + "a/")


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD_PARAMETERS.items() for text in texts])
def test_bad_values_are_refused_by_name(client: Client, name: str, text: str) -> None:
    reply = client.get(f"/kv/_list?{name}={text}")
    assert (reply.status, reply.json["field"]) == (400, name)


def test_ten_thousand_keys_one_level_at_a_time(client: Client, key: str) -> None:
    names = [f"{key}/{a:02}/{b:02}/{c:02}" for a in range(10) for b in range(50) for c in range(20)]
    fill(client, names)
    found: list[str] = []
    levels = [f"{key}/"]
    while levels:
        for kind, path in shown(client, prefix=levels.pop()):
            (levels if kind == "prefix" else found).append(path)
    assert sorted(found) == names
