"""Who is told what, and for how long."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from tests.api.accounts import Caller, Person, Place
from tests.api.events import Stream
from tests.scrape import Scrape

_numbers = count(1)
PRIVATE = 0xF00
TEAM = 0xF10

Watch = Callable[..., Stream]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Opens streams with the credential of a caller."""
    with ExitStack() as ends:

        def opened(caller: Caller, query: str = "") -> Stream:
            headers = {"Authorization": caller.authorization} if caller.authorization else {}
            return ends.enter_context(Stream(caller.address, query, headers))

        yield opened


@pytest.fixture
def key() -> str:
    return f"told{next(_numbers)}"


def protect(at: Place, key: str, permissions: int, group: str | None = None) -> None:
    metadata = {"permissions": permissions, "group_uuid": group}
    assert at.root.ask.call("PUT", f"/kv/{key}/metadata", metadata).status == 200


@pytest.mark.parametrize("permissions", [PRIVATE, TEAM])
def test_each_change_is_told_to_those_who_may_read_the_key(at: Place, watch: Watch, key: str, permissions: int) -> None:
    team = at.group()
    owner, member, other = at.user(), at.user(groups=[team]), at.user()
    owner.ask.put(f"/kv/{key}/secret", b"1")
    protect(at, f"{key}/secret", permissions, team)
    streams = {
        who: watch(one.ask, f"prefix={key}").begun()
        for who, one in {"owner": owner, "member": member, "other": other, "root": at.root}.items()
    }
    owner.ask.put(f"/kv/{key}/secret", b"2")
    owner.ask.delete(f"/kv/{key}/secret")
    owner.ask.put(f"/kv/{key}/secret?ttl=1h", b"3")
    owner.ask.put(f"/kv/{key}/shown", b"4")
    secret, shown = f"{key}/secret", ("put", f"{key}/shown", 4)
    everything = [("put", secret, 2), ("delete", secret, None), ("put", secret, 3), shown]
    insiders = {"owner", "root", "member"} if permissions == TEAM else {"owner", "root"}
    for who, stream in streams.items():
        expected = everything if who in insiders else [shown]
        assert [event.value for event in stream.take(len(expected))] == expected, who


def test_what_was_missed_and_snapshots_leave_out_the_same(at: Place, watch: Watch, key: str) -> None:
    owner, other = at.user(), at.user()
    with watch(other.ask, f"prefix={key}").begun() as stream:
        position = stream.last_id
    for name in ("secret", "shown"):
        owner.ask.put(f"/kv/{key}/{name}", b"1")
    protect(at, f"{key}/secret", PRIVATE)
    assert [event.path for event in watch(other.ask, f"prefix={key}&since=snapshot").snapshot()] == [f"{key}/shown"]
    owner.ask.delete(f"/kv/{key}/secret")
    owner.ask.put(f"/kv/{key}/shown", b"2")
    assert watch(other.ask, f"prefix={key}&since={position}").take(1)[0].value == ("put", f"{key}/shown", 2)
    told = watch(owner.ask, f"prefix={key}&since={position}").take(2)
    assert [event.kind for event in told] == ["delete", "put"]


def test_anonymous_watchers_are_others(make_place: Callable[..., Place], watch: Watch) -> None:
    at = make_place(allow_anonymous_read=True)
    stream = watch(at.caller()).begun()
    at.root.ask.put("/kv/a", b"1")
    protect(at, "a", PRIVATE)
    at.root.ask.put("/kv/a", b"2")
    at.root.ask.put("/kv/b", b"3")
    assert [event.value for event in stream.take(2)] == [("put", "a", 1), ("put", "b", 3)]


def revoke(at: Place, person: Person) -> None:
    (token,) = at.root.ask.pages(f"/api/tokens?user_uuid={person.uuid}", "tokens")
    assert at.root.ask.delete(f"/api/tokens/{token['token_id']}").status == 204


def remove(at: Place, person: Person) -> None:
    assert at.root.ask.delete(f"/api/users/{person.uuid}").status == 204


def leave_group(at: Place, person: Person) -> None:
    assert at.root.ask.call("PUT", f"/api/users/{person.uuid}", {"groups": []}).status == 200


@pytest.mark.parametrize("lose", [revoke, remove, leave_group])
@pytest.mark.parametrize("since", ["", "&since=snapshot"])
def test_a_stream_ends_with_the_rights_it_rests_on(
    at: Place, watch: Watch, key: str, lose: Callable[[Place, Person], None], since: str
) -> None:
    person, bystander = at.user(groups=[at.group()]), at.user()
    stream, other = watch(person.ask, f"prefix={key}{since}"), watch(bystander.ask, f"prefix={key}").begun()
    if since:
        assert stream.snapshot() == []
    else:
        stream.begun()
    at.root.ask.put(f"/kv/{key}", b"1")
    lose(at, person)
    at.root.ask.put(f"/kv/{key}", b"2")
    seen = Scrape(at.root.ask.get("/metrics").body.decode())
    assert seen.value("kvs_watch_dropped_total", reason="access") > 0
    assert [event.data["data"] for event in stream.rest()] in ([], [1])  # what was written before may still be told
    assert [event.data["data"] for event in other.take(2)] == [1, 2]


def test_what_changes_nothing_of_his_rights_does_not_end_a_stream(at: Place, watch: Watch, key: str) -> None:
    person = at.user()
    stream = watch(person.ask, f"prefix={key}").begun()
    assert at.root.ask.call("PUT", f"/api/users/{person.uuid}", {"nickname": f"new {key}"}).status == 200
    at.token(person.uuid)
    remove(at, at.user())
    at.root.ask.put(f"/kv/{key}", b"1")
    assert stream.take(1)[0].data["data"] == 1


def test_a_stream_ends_with_its_token(at: Place, watch: Watch, key: str) -> None:
    person = at.user()
    stream = watch(at.caller(at.token(person.uuid, expires_in=60)), f"prefix={key}").begun()
    at.clock.now_ms += 60_000
    assert stream.rest() == []


def test_a_corrupt_document_of_a_key_hides_it(at: Place, watch: Watch, key: str) -> None:
    """Whom it lets in cannot be known. Who bypasses permissions is told all the same."""
    at.root.ask.put(f"/kv/{key}/metadata", json.dumps({"permissions": 3889}).encode())
    other = at.user()
    stream, root = watch(other.ask, f"prefix={key}").begun(), watch(at.root.ask, f"prefix={key}").begun()
    store = at.node._server._store
    assert store is not None
    store.commit({b"smetadata/" + key.encode(): b"rotten"})
    at.root.ask.put(f"/kv/{key}", b"1")
    at.root.ask.put(f"/kv/{key}/shown", b"2")
    assert [event.data["data"] for event in root.take(2)] == [1, 2]
    assert [event.data["data"] for event in stream.take(1)] == [2]
