"""Ranges and lists show what the reader may read, as if there was nothing else."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from itertools import count
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.accounts import Person, Place, place, steady
from tests.api.paging import fill, page, pages, paths, remove
from tests.api.test_listing_oracle import expected_list, expected_range, key_sets, limits

_numbers = count(1)
_SCANNED = "kvs.server.handlers.listing.PAGE_MAX_SCANNED"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("lists") / "data") as made:
        yield made


@pytest.fixture(scope="module")
def owner(at: Place) -> Person:
    return at.user()


@pytest.fixture(scope="module")
def other(at: Place) -> Person:
    return at.user()


@pytest.fixture
def base() -> str:
    """A prefix that no other test uses."""
    return f"base{next(_numbers)}/"


def hide(person: Person, keys: Iterator[str] | list[str] | set[str]) -> None:
    for key in keys:
        assert person.ask.call("PUT", f"/kv/{quote(key)}/metadata", {"permissions": 0xF00}).status == 200


def test_what_may_not_be_read_is_left_out(owner: Person, other: Person, base: str) -> None:
    keys = [f"{base}{name}" for name in ("a", "b", "folder/c", "folder/d", "secret/e", "secret/f/g")]
    fill(owner.ask, keys)
    hide(owner, [keys[1], keys[2], keys[4], keys[5]])
    for query in ({}, {"keys_only": "true"}, {"start_key": base, "end_key": keys[-1]}):
        assert paths(other.ask, "_range", prefix=base, **query) == [keys[0], keys[3]]
        assert paths(owner.ask, "_range", prefix=base, **query) == keys
    assert paths(other.ask, "_list", prefix=base) == [keys[0], f"{base}folder/"]
    assert paths(other.ask, "_list", prefix=f"{base}folder/") == [keys[3]]
    assert paths(other.ask, "_list", prefix=f"{base}secret/") == []
    assert paths(other.ask, "_list", prefix=base, depth=9) == [keys[0], keys[3]]
    assert paths(other.ask, "_list", prefix=base, delimiter="e") == [keys[0], f"{base}folde"]
    assert paths(owner.ask, "_list", prefix=base) == [*keys[:2], f"{base}folder/", f"{base}secret/"]
    everything = other.ask.get(f"/kv/_range?prefix={base}").body + other.ask.get(f"/kv/_list?prefix={base}").body
    assert b"secret" not in everything


@pytest.mark.parametrize("route", ["_range", "_list"])
def test_lists_do_not_tell_whether_there_is_something_hidden(
    owner: Person, other: Person, base: str, route: str
) -> None:
    """Also not by the cursor, which would let a patient reader find every hidden key."""
    fill(owner.ask, (f"{base}{name}" for name in ("b", "d/1", "d/2", "f")))
    targets = [
        f"/kv/{route}?prefix={base}{prefix}&limit={limit}{rest}"
        for prefix in ("", "b", "d", "d/", "f", "x")
        for limit in (1, 2, 3, 4, 5)
        for rest in ("", f"&end_key={base}c", f"&end_key={base}g", f"&start_key={base}c", f"&start_key={base}f")
    ]
    before = [steady(other.ask.send("GET", target, headers={"X-Request-ID": "same"})) for target in targets]
    hidden = [f"{base}{name}" for name in ("a", "b/x", "bb", "c", "d/0", "d/11", "d/3", "e", "g", "x")]
    fill(owner.ask, hidden)
    hide(owner, hidden)
    after = [steady(other.ask.send("GET", target, headers={"X-Request-ID": "same"})) for target in targets]
    assert [target for target, old, new in zip(targets, before, after, strict=True) if old != new] == []
    remove(owner.ask, hidden)
    assert [steady(other.ask.send("GET", target, headers={"X-Request-ID": "same"})) for target in targets] == before


@pytest.mark.parametrize("route", ["_range", "_list"])
def test_long_runs_of_hidden_keys_are_passed_page_by_page(
    owner: Person, other: Person, base: str, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [f"{base}{number:03}" for number in (0, 1, 100, 199)]
    hidden = [f"{base}{number:03}" for number in range(200) if f"{base}{number:03}" not in shown]
    fill(owner.ask, shown + hidden)
    hide(owner, hidden)
    monkeypatch.setattr(_SCANNED, 20)
    for limit in (1, 2, 3, 1000):
        found = pages(other.ask, route, prefix=base, limit=limit)
        assert [entry["path"] for one in found for entry in one] == shown
        assert len(found) >= 9
        assert [] in found
    remove(owner.ask, hidden)
    assert paths(other.ask, route, prefix=base, limit=1) == shown
    assert paths(owner.ask, route, prefix=base, limit=7) == shown


def test_a_cursor_shows_no_name_and_takes_no_other(owner: Person, other: Person, base: str) -> None:
    keys = [f"{base}{name}" for name in ("open", "secret-name", "zz")]
    fill(owner.ask, keys)
    hide(owner, keys[1:2])
    for route in ("_range", "_list"):
        cursor = page(owner.ask, route, prefix=base, limit=1)["next_cursor"]
        decoded = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        assert b"secret" not in decoded
        assert base.encode() not in decoded
        forged = {
            urlsafe_b64encode(keys[1].encode()).decode().rstrip("="),
            cursor + "A",
            cursor[:-1],
            cursor[4:],
            cursor + cursor,
            *(cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :] for at in range(len(cursor))),
        }
        for word in forged:
            reply = other.ask.get(f"/kv/{route}?prefix={base}&cursor={word}")
            assert (reply.status, reply.code) == (400, "invalid_cursor"), word


def test_the_cursor_of_somebody_else_gives_no_rights(owner: Person, other: Person, base: str) -> None:
    keys = [f"{base}{number}" for number in range(6)]
    fill(owner.ask, keys)
    hide(owner, keys[1:5])
    for route in ("_range", "_list"):
        for limit in range(1, 6):
            cursor = page(owner.ask, route, prefix=base, limit=limit)["next_cursor"]
            assert paths(other.ask, route, prefix=base, cursor=cursor) == keys[5:]
            elsewhere = paths(other.ask, route, prefix=f"{base}1", cursor=cursor)
            assert elsewhere == []


def test_each_reader_has_a_view(at: Place, base: str) -> None:
    team = at.group()
    one, two, member = at.user(), at.user(), at.user(groups=[team])
    for person, names in ((one, "abc"), (two, "def")):
        fill(person.ask, (f"{base}{name}" for name in names))
    hide(one, [f"{base}a"])
    hide(two, [f"{base}d"])
    for person, name in ((one, "b"), (two, "e")):
        metadata = {"permissions": 0xF10, "group_uuid": team}
        assert person.ask.call("PUT", f"/kv/{base}{name}/metadata", metadata).status == 200
    views = {"one": one, "two": two, "member": member, "root": at.root}
    seen = {
        name: "".join(path.removeprefix(base) for path in paths(person.ask, "_range", prefix=base, limit=2))
        for name, person in views.items()
    }
    assert seen == {"one": "abcf", "two": "cdef", "member": "bcef", "root": "abcdef"}
    at.root.ask.call("PUT", f"/api/groups/{team}", {"members": []})
    assert "".join(path[-1] for path in paths(member.ask, "_list", prefix=base)) == "cf"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    present=key_sets,
    hidden=key_sets,
    delimiter=st.sampled_from(["/", "-", "a"]),
    depth=st.integers(1, 3),
    limit=limits,
    scanned=st.integers(1, 30),
)
def test_views_agree_with_the_model(
    owner: Person,
    other: Person,
    monkeypatch: pytest.MonkeyPatch,
    present: set[str],
    hidden: set[str],
    delimiter: str,
    depth: int,
    limit: int,
    scanned: int,
) -> None:
    base = f"model{next(_numbers)}."
    fill(owner.ask, (base + key for key in present | hidden))
    hide(owner, {base + key for key in hidden})
    shown = {base + key for key in present - hidden}
    monkeypatch.setattr(_SCANNED, scanned)
    assert paths(other.ask, "_range", prefix=base, limit=limit) == expected_range(shown, base, None, None)
    listed = pages(other.ask, "_list", prefix=base, delimiter=delimiter, depth=depth, limit=limit)
    found = [(entry["type"], entry["path"]) for one in listed for entry in one]
    assert found == expected_list(shown, base, delimiter, depth)
