"""Conditional requests: reading what changed, and writing on what was read."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from tests.api.client import Client

UNKNOWN = '"00000000-0000-4000-8000-000000000000"'


@pytest.fixture
def tag(client: Client, key: str) -> str:
    """The entity tag of a value written under `key`."""
    return client.put(f"/kv/{key}", b'"first"').headers["etag"]


@pytest.mark.parametrize("form", ["{0}", "W/{0}", "*", f"{UNKNOWN}, {{0}}", '"a",W/{0}, "b"', "  {0}  ", '"a",, {0}'])
def test_a_read_of_a_known_version_is_not_modified(client: Client, key: str, tag: str, form: str) -> None:
    for method in ("GET", "HEAD"):
        reply = client.send(method, f"/kv/{key}", headers={"If-None-Match": form.format(tag)})
        assert (reply.status, reply.body) == (304, b"")
        assert reply.headers["etag"] == tag
        assert "content-length" not in reply.headers
    assert client.get(f"/kv/{key}").status == 200


@pytest.mark.parametrize("form", [UNKNOWN, f"W/{UNKNOWN}", f'"a", {UNKNOWN}', '""'])
def test_a_read_of_another_version_is_answered(client: Client, key: str, tag: str, form: str) -> None:
    assert client.get(f"/kv/{key}", If_None_Match=form).headers["etag"] == tag


def test_a_read_is_modified_after_a_write(client: Client, key: str, tag: str) -> None:
    client.put(f"/kv/{key}", b'"first"')
    assert client.get(f"/kv/{key}", If_None_Match=tag).status == 200


def test_the_condition_of_a_read_does_not_hide_that_there_is_nothing(client: Client, key: str) -> None:
    assert client.get(f"/kv/{key}", If_None_Match="*").status == 404


@pytest.mark.parametrize("form", ["{0}", "*", f"{UNKNOWN}, {{0}}", f'{{0}},"a",{UNKNOWN}', "{0},", " , ,{0}"])
def test_a_write_on_the_current_version_succeeds(client: Client, key: str, tag: str, form: str) -> None:
    reply = client.put(f"/kv/{key}", b'"second"', If_Match=form.format(tag))
    assert reply.status == 200
    assert client.delete(f"/kv/{key}", If_Match=form.format(reply.headers["etag"])).status == 204


@pytest.mark.parametrize("form", [UNKNOWN, "W/{0}", f'"a", {UNKNOWN}, W/{{0}}', '""'])
def test_a_write_on_another_version_fails(client: Client, key: str, tag: str, form: str) -> None:
    for reply in (
        client.put(f"/kv/{key}", b'"second"', If_Match=form.format(tag)),
        client.delete(f"/kv/{key}", If_Match=form.format(tag)),
    ):
        assert (reply.status, reply.code) == (412, "precondition_failed")
    assert client.get(f"/kv/{key}").headers["etag"] == tag


def test_a_write_on_any_version_needs_one(client: Client, key: str, tag: str) -> None:
    assert client.put(f"/kv/{key}/absent", b"1", If_Match="*").status == 412
    assert client.get(f"/kv/{key}/absent").status == 404
    client.delete(f"/kv/{key}")
    assert client.put(f"/kv/{key}", b"1", If_Match=tag).status == 412
    assert client.put(f"/kv/{key}", b"1", If_Match="*").status == 412


def test_a_write_that_must_create(client: Client, key: str) -> None:
    assert client.put(f"/kv/{key}", b"1", If_None_Match="*").status == 201
    assert client.put(f"/kv/{key}", b"2", If_None_Match="*").status == 412
    assert client.get(f"/kv/{key}").json["data"] == 1
    client.delete(f"/kv/{key}")
    assert client.put(f"/kv/{key}", b"3", If_None_Match="*").status == 201


def test_a_write_that_must_not_replace_a_version(client: Client, key: str, tag: str) -> None:
    for form in (tag, f"W/{tag}", f"{UNKNOWN}, {tag}"):
        assert client.put(f"/kv/{key}", b"1", If_None_Match=form).status == 412
    assert client.put(f"/kv/{key}", b"1", If_None_Match=UNKNOWN).status == 200


def test_both_conditions_must_hold(client: Client, key: str, tag: str) -> None:
    assert client.put(f"/kv/{key}", b"1", If_Match=tag, If_None_Match="*").status == 412
    assert client.put(f"/kv/{key}", b"1", If_Match=UNKNOWN, If_None_Match=UNKNOWN).status == 412
    assert client.put(f"/kv/{key}", b"1", If_Match=tag, If_None_Match=UNKNOWN).status == 200


@pytest.mark.parametrize(
    "bad",
    ["abc", "{1}", '"a" "b"', '"a', "w/{0}", "*, {0}", '"a b"', ",".join(['"x"'] * 65), "", ",", ", ,", "*,", "{0},,b"],
)
def test_a_malformed_tag_is_refused_by_name(client: Client, key: str, tag: str, bad: str) -> None:
    value = bad.format(tag, tag.strip('"'))
    for method, header in (("GET", "If-None-Match"), ("PUT", "If-None-Match"), ("PUT", "If-Match")):
        body = b"1" if method == "PUT" else None
        reply = client.send(method, f"/kv/{key}", body, {header: value})
        assert (reply.status, reply.json["field"]) == (400, header)
    assert client.get(f"/kv/{key}").headers["etag"] == tag


def test_of_writers_that_race_on_one_version_one_wins(
    client: Client, connect: Callable[[Client], Client], key: str, tag: str
) -> None:
    writers, rounds = 4, 10
    others = [connect(client) for _ in range(writers)]
    start = Barrier(writers)

    def write(number: int, seen: str) -> int:
        others[number].open()
        start.wait()
        return others[number].put(f"/kv/{key}", b"%d" % number, If_Match=seen).status

    with ThreadPoolExecutor(writers) as threads:
        for _ in range(rounds):
            seen = client.get(f"/kv/{key}").headers["etag"]
            statuses = list(threads.map(write, range(writers), [seen] * writers))
            assert sorted(statuses) == [200, 412, 412, 412]
            assert client.get(f"/kv/{key}").json["data"] == statuses.index(200)


def test_of_writers_that_race_to_create_one_wins(client: Client, connect: Callable[[Client], Client], key: str) -> None:
    others = [connect(client) for _ in range(4)]
    start = Barrier(4)

    def create(number: int) -> int:
        others[number].open()
        start.wait()
        return others[number].put(f"/kv/{key}", b"%d" % number, If_None_Match="*").status

    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(create, range(4)))
    assert sorted(statuses) == [201, 412, 412, 412]
    assert client.get(f"/kv/{key}").json["data"] == statuses.index(201)
