"""`/api/data/{key}/history`: what a key held before, and the way back."""

from base64 import b64decode
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.api.client import Client
from tests.api.running import Clock, RunningNode

NOT_NUMBERS = ["0", "-1", "x", "", "1.0", "%2B1", "%D9%A3", "1e1", "0x1", "%20", "%201", "00", "1_0"]


@pytest.fixture
def history(client: Client, key: str) -> str:
    """The history of a key that held 1, 2 and 3."""
    for number in (1, 2, 3):
        client.put(f"/kv/{key}", b"%d" % number)
    return f"/api/data/{key}/history"


def test_versions_are_numbered_newest_first(client: Client, key: str, history: str) -> None:
    current = client.get(f"/kv/{key}").json
    revisions = client.get(history).json
    assert [revision["revision"] for revision in revisions] == [1, 2, 3]
    assert [revision["data"] for revision in revisions] == [3, 2, 1]
    assert revisions[0] == {"revision": 1, **current}
    assert len({revision["uuid"] for revision in revisions}) == 3
    times = [revision["timestamp"] for revision in revisions]
    assert times == sorted(times, reverse=True)
    for revision in revisions:
        assert set(revision) == {"revision", "uuid", "timestamp", "data"}
        one = client.get(f"{history}/{revision['revision']}")
        assert one.json == revision
        assert one.headers["etag"] == f'"{revision["uuid"]}"'


def test_the_oldest_goes_first(client: Client, key: str, history: str) -> None:
    client.put(f"/kv/{key}", b"4")
    assert [revision["data"] for revision in client.get(history).json] == [4, 3, 2]
    assert client.get(f"{history}/4").code == "not_found"


def test_data_are_kept_byte_for_byte(client: Client, key: str) -> None:
    client.put(f"/kv/{key}", b'{"n": 1.10,  "a":"\\u00e9"}')
    client.put(f"/kv/{key}", b"2")
    assert b'"data":{"n": 1.10,  "a":"\\u00e9"}}' in client.get(f"/api/data/{key}/history").body
    assert b'"data":{"n": 1.10,  "a":"\\u00e9"}}' in client.get(f"/api/data/{key}/history/2").body


def test_a_restored_revision_is_a_new_version(client: Client, key: str, history: str) -> None:
    before = client.get(history).json
    restored = client.post(f"{history}/3/restore")
    assert (restored.status, set(restored.json)) == (200, {"uuid", "timestamp"})
    assert restored.json["uuid"] not in {revision["uuid"] for revision in before}
    assert restored.json["timestamp"] >= before[0]["timestamp"]
    assert restored.headers["etag"] == f'"{restored.json["uuid"]}"'
    assert client.get(f"/kv/{key}").json == {**restored.json, "data": 1}
    assert [revision["data"] for revision in client.get(history).json] == [1, 3, 2]


def test_a_deleted_value_can_be_brought_back(client: Client, key: str, history: str) -> None:
    client.delete(f"/kv/{key}")
    tombstone, last, older = client.get(history).json
    assert (tombstone["revision"], tombstone["data"], tombstone["deleted"]) == (1, None, True)
    assert [last["data"], older["data"]] == [3, 2]
    assert client.get(f"/kv/{key}").status == 404
    assert client.post(f"{history}/2/restore").status == 200
    assert client.get(f"/kv/{key}").json["data"] == 3
    assert [revision["data"] for revision in client.get(history).json] == [3, None, 3]


def test_blobs(client: Client, key: str) -> None:
    blob = bytes(range(256))
    client.put(f"/kv/{key}", blob, Content_Type="image/png")
    client.put(f"/kv/{key}", b"{}")
    older = client.get(f"/api/data/{key}/history/2").json
    assert (older["content_type"], b64decode(older["data"])) == ("image/png", blob)
    client.post(f"/api/data/{key}/history/2/restore")
    reply = client.get(f"/kv/{key}")
    assert (reply.headers["content-type"], reply.body) == ("image/png", blob)


@pytest.mark.parametrize("number", NOT_NUMBERS)
def test_a_revision_is_a_number_from_1(client: Client, history: str, number: str) -> None:
    for reply in (client.get(f"{history}/{number}"), client.post(f"{history}/{number}/restore")):
        assert (reply.status, reply.json["field"]) == (400, "revision")


@pytest.mark.parametrize("number", ["4", "1000", "9" * 18, "9" * 19, "9" * 5000])
def test_a_revision_that_is_not_kept_is_not_found(client: Client, key: str, history: str, number: str) -> None:
    for reply in (client.get(f"{history}/{number}"), client.post(f"{history}/{number}/restore")):
        assert (reply.status, reply.code) == (404, "not_found")
    assert client.get(f"/kv/{key}").json["data"] == 3


def test_a_key_never_written_has_no_history(client: Client, key: str) -> None:
    for reply in (
        client.get(f"/api/data/{key}/history"),
        client.get(f"/api/data/{key}/history/1"),
        client.post(f"/api/data/{key}/history/1/restore"),
    ):
        assert (reply.status, reply.code) == (404, "not_found")
    assert client.get(f"/kv/{key}").status == 404


def test_a_restore_takes_conditions(client: Client, key: str, history: str) -> None:
    tag = client.get(f"/kv/{key}").headers["etag"]
    assert client.post(f"{history}/2/restore", If_Match='"other"').status == 412
    assert client.post(f"{history}/2/restore", If_None_Match="*").status == 412
    assert client.get(f"/kv/{key}").headers["etag"] == tag
    assert client.post(f"{history}/2/restore", If_Match=tag).status == 200


def test_max_revisions(make_client: Callable[..., Client]) -> None:
    client = make_client(max_revisions=5)
    for number in range(8):
        client.put("/kv/a", b"%d" % number)
    assert [revision["data"] for revision in client.get("/api/data/a/history").json] == [7, 6, 5, 4, 3]


def test_a_lowered_limit_counts_at_once(tmp_path: Path) -> None:
    """What it leaves out is on the disk until the next write or the next sweep."""
    with ExitStack() as ends:

        def start(most: int) -> Client:
            node = RunningNode(tmp_path / "data", max_revisions=most)
            ends.callback(node.stop)
            client = Client(node.address)
            ends.callback(client.close)
            return client

        client = start(3)
        for number in (1, 2, 3):
            client.put("/kv/a", b"%d" % number)
        ends.close()
        client = start(2)
        assert [revision["data"] for revision in client.get("/api/data/a/history").json] == [3, 2]
        for reply in (client.get("/api/data/a/history/3"), client.post("/api/data/a/history/3/restore")):
            assert (reply.status, reply.code) == (404, "not_found")
        assert client.get("/kv/a").json["data"] == 3
        ends.close()
        client = start(1)
        assert [revision["data"] for revision in client.get("/api/data/a/history").json] == [3]
        assert client.post("/api/data/a/history/2/restore").status == 404
        assert client.post("/api/data/a/history/1/restore").status == 200


def test_without_history(make_client: Callable[..., Client]) -> None:
    client = make_client(revision_history_enabled=False)
    client.put("/kv/a", b"1")
    client.put("/kv/a", b"2")
    for reply in (
        client.get("/api/data/a/history"),
        client.get("/api/data/a/history/1"),
        client.post("/api/data/a/history/2/restore"),
    ):
        assert (reply.status, reply.code) == (404, "history_disabled")
    assert client.get("/kv/a").json["data"] == 2


def test_a_version_that_ended_is_not_shown(make_client: Callable[..., Client], clock: Clock) -> None:
    client = make_client(clock=clock)
    client.put("/kv/a?ttl=10s", b'"short"')
    client.put("/kv/a", b'"long"')
    assert client.get("/api/data/a/history/2").json["expires_at"] == clock.now_ms + 10_000
    clock.now_ms += 10_000
    assert [revision["data"] for revision in client.get("/api/data/a/history").json] == ["long"]
    assert client.get("/api/data/a/history/2").status == 404
    assert client.post("/api/data/a/history/2/restore").status == 404
    assert client.get("/kv/a").json["data"] == "long"


def test_a_history_larger_than_an_answer_goes_on_in_the_next_one(
    client: Client, key: str, history: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = client.get(history).json
    monkeypatch.setattr("kvs.server.handlers.history.HISTORY_MAX_BYTES", 1)
    first = client.get(history)
    assert (first.json, first.headers["link"]) == (whole[:1], '<?from=2>; rel="next"')
    second = client.get(f"{history}?from=2")
    assert (second.json, second.headers["link"]) == (whole[1:2], '<?from=3>; rel="next"')
    last = client.get(f"{history}?from=3")
    assert last.json == whole[2:]
    assert "link" not in last.headers
    assert client.get(f"{history}?from=4").code == "not_found"


@pytest.mark.parametrize("first", ["0", "x", "", "1001"])
def test_a_history_begins_with_a_number(client: Client, history: str, first: str) -> None:
    reply = client.get(f"{history}?from={first}")
    assert (reply.status, reply.json["field"]) == (400, "from")
