"""`GET /watch`: snapshot, live changes, resuming, and what is told of each change."""

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from unittest.mock import patch

import pytest

from tests.api.client import Client
from tests.api.events import Stream
from tests.api.running import Clock, RunningNode


@pytest.fixture
def watch(client: Client) -> Iterator[Callable[..., Stream]]:
    """Opens streams of the shared node."""
    with ExitStack() as ends:
        yield lambda query="", headers=None: ends.enter_context(Stream(client.address, query, headers or {}))


Watch = Callable[..., Stream]


def test_live_changes_are_told_as_they_happen(client: Client, key: str, watch: Watch) -> None:
    client.put(f"/kv/{key}/old", b"0")
    stream = watch(f"prefix={key}/").begun()
    put = client.put(f"/kv/{key}/a", b'{"n": 1}').json
    (event,) = stream.take(1)
    assert (event.kind, event.data) == ("put", {"path": f"{key}/a", **put, "data": {"n": 1}})
    client.put(f"/kv/{key}/a", b"2")
    client.delete(f"/kv/{key}/a")
    client.put(f"/kv/{key}x", b"another prefix")
    client.put(f"/kv/{key}/b", b"3")
    replaced, deleted, other = stream.take(3)
    assert replaced.value == ("put", f"{key}/a", 2)
    assert deleted.kind == "delete"
    assert set(deleted.data) == {"path", "uuid", "timestamp"}
    assert deleted.data["timestamp"] >= replaced.data["timestamp"]
    assert other.value == ("put", f"{key}/b", 3)


def test_a_snapshot_comes_first_if_it_is_asked_for(client: Client, key: str, watch: Watch) -> None:
    for name in ("b", "a", "c", "gone"):
        client.put(f"/kv/{key}/{name}", b'"%b"' % name.encode())
    client.delete(f"/kv/{key}/gone")
    stream = watch(f"prefix={key}/&since=snapshot")
    events = stream.snapshot()
    assert [event.value for event in events] == [("put", f"{key}/{name}", name) for name in "abc"]
    # Behind half of a snapshot nobody can go on: only its end has a position.
    assert [event.id for event in events] == ["", "", ""]
    assert stream.last_id
    client.put(f"/kv/{key}/d", b"1")
    assert [event.value for event in stream.take(1)] == [("put", f"{key}/d", 1)]


def test_a_snapshot_of_nothing_is_up_to_date_at_once(key: str, watch: Watch) -> None:
    assert watch(f"prefix={key}&since=snapshot").snapshot() == []


@pytest.mark.parametrize("by", ["since", "Last-Event-ID", "both"])
def test_a_stream_is_resumed_behind_a_position(client: Client, key: str, watch: Watch, by: str) -> None:
    stream = watch(f"prefix={key}/").begun()
    for number in range(4):
        client.put(f"/kv/{key}/{number}", b"%d" % number)
    position = stream.take(2)[1].id
    stream.close()
    client.put(f"/kv/{key}/1", b"10")
    client.delete(f"/kv/{key}/0")
    headers = {} if by == "since" else {"Last-Event-ID": position}
    query = {"since": f"&since={position}", "Last-Event-ID": "", "both": "&since=snapshot"}[by]
    again = watch(f"prefix={key}/{query}", headers)
    events = again.take(4)
    assert [event.value for event in events] == [
        ("put", f"{key}/2", 2),
        ("put", f"{key}/3", 3),
        ("put", f"{key}/1", 10),
        ("delete", f"{key}/0", None),
    ]
    client.put(f"/kv/{key}/5", b"5")
    assert again.take(1)[0].value == ("put", f"{key}/5", 5)


def test_of_what_was_missed_the_latest_version_of_each_key_is_told(client: Client, key: str, watch: Watch) -> None:
    stream = watch(f"prefix={key}").begun()
    stream.close()
    for number in range(50):
        client.put(f"/kv/{key}/{number % 2}", b"%d" % number)
    assert [event.data["data"] for event in watch(f"prefix={key}&since={stream.last_id}").take(2)] == [48, 49]


def test_a_stream_has_a_position_before_anything_happens(client: Client, key: str, watch: Watch) -> None:
    stream = watch(f"prefix={key}").begun()
    stream.close()
    client.put(f"/kv/{key}", b"1")
    assert watch(f"prefix={key}&since={stream.last_id}").take(1)[0].value == ("put", key, 1)


def test_from_the_beginning_of_the_log(make_client: Callable[..., Client]) -> None:
    client = make_client()
    for name in ("a", "b", "a"):
        client.put(f"/kv/{name}", b"1")
    client.put("/kv/c", b"1")
    client.delete("/kv/c")
    with Stream(client.address, "since=0") as stream:
        assert [(event.kind, event.path) for event in stream.take(3)] == [("put", "b"), ("put", "a"), ("delete", "c")]


@pytest.mark.parametrize("since", ["", "x", "-1", "1.5", "snapshots", "9" * 31, "%C2%B2"])
def test_what_is_no_position_is_refused(client: Client, since: str) -> None:
    reply = client.get(f"/watch?since={since}")
    assert (reply.status, reply.json["field"]) == (400, "since")


def test_a_position_of_another_node_or_from_the_future_is_gone(
    client: Client, make_client: Callable[..., Client], key: str
) -> None:
    other = make_client()
    other.put("/kv/a", b"1")
    client.put(f"/kv/{key}", b"1")
    with Stream(other.address) as stream:
        foreign = stream.begun().last_id
    with Stream(client.address) as stream:
        own = stream.begun().last_id
    future = int(own) + (1 << 32)
    for position in (foreign, str(future), "1"):
        reply = client.get("/watch", Last_Event_ID=position)
        assert (reply.status, reply.code) == (410, "resync_required")
    with Stream(client.address, f"since={own}") as stream:
        assert stream.reply.status == 200


def test_a_position_outlives_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("node") / "data"
    node = RunningNode(folder)
    client = Client(node.address)
    with Stream(node.address) as stream:
        stream.begun()
        client.put("/kv/a", b"1")
        stream.take(1)
        client.put("/kv/b", b"2")
        client.close()
        node.stop()
        assert [event.path for event in stream.rest()] == ["b"]
    node = RunningNode(folder)
    with Stream(node.address, f"since={stream.last_id}"):
        pass
    node.stop()


def test_what_was_committed_is_told_before_the_node_stops(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvs.server.watch.WATCH_PAUSE_RATIO", 10**9)  # behind the first event nothing is told for hours
    node = RunningNode(tmp_path_factory.mktemp("node") / "data")
    client = Client(node.address)
    with Stream(node.address) as stream:
        stream.begun()
        client.put("/kv/a", b"1")
        stream.take(1)
        for name in ("b", "c"):
            client.put(f"/kv/{name}", b"1")
        client.close()
        node.stop()
        assert [event.path for event in stream.rest()] == ["b", "c"]


def test_a_position_of_an_unsynced_log_does_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A power cut may take back what was told, and give its numbers to other changes."""
    folder = tmp_path_factory.mktemp("node") / "data"
    node = RunningNode(folder, write_durability="os")
    with Stream(node.address) as stream:
        stream.begun()
    with Stream(node.address, f"since={stream.last_id}") as again:
        assert again.reply.status == 200
    node.stop()
    node = RunningNode(folder, write_durability="os")
    with Stream(node.address, f"since={stream.last_id}") as late:
        assert late.reply.status == 410
    node.stop()


# --- what is told of a value ---


def test_blobs_are_base64(client: Client, key: str, watch: Watch) -> None:
    stream = watch(f"prefix={key}").begun()
    client.put(f"/kv/{key}", b"\0\xff\n\n", Content_Type="image/png")
    (event,) = stream.take(1)
    assert (event.data["content_type"], event.data["encoding"]) == ("image/png", "base64")
    assert base64.b64decode(event.data["data"]) == b"\0\xff\n\n"


def test_a_value_of_many_lines_is_one_line(client: Client, key: str, watch: Watch) -> None:
    stream = watch(f"prefix={key}").begun()
    client.put(f"/kv/{key}", '{\r\n "a": "x\\ny",\r "b":\n\n[1,\n2], "é": "\u2028"}'.encode())
    assert stream.take(1)[0].data["data"] == {"a": "x\ny", "b": [1, 2], "é": "\u2028"}


def test_all_items_of_a_bulk_request_are_told_in_order(client: Client, key: str, watch: Watch) -> None:
    stream = watch(f"prefix={key}").begun()
    lines = [b'{"op":"put","path":"%b/%d","data":%d}' % (key.encode(), number % 7, number) for number in range(500)]
    client.post("/kv/_bulk", b"\n".join([*lines, b'{"op":"delete","path":"%b/3"}' % key.encode()]))
    events = stream.take(501)
    assert [event.data.get("data") for event in events[:500]] == list(range(500))
    assert (events[500].kind, events[500].path) == ("delete", f"{key}/3")


def test_a_restored_revision_is_a_change(client: Client, key: str, watch: Watch) -> None:
    client.put(f"/kv/{key}", b"1")
    client.put(f"/kv/{key}", b"2")
    stream = watch(f"prefix={key}").begun()
    client.post(f"/api/data/{key}/history/2/restore")
    assert stream.take(1)[0].value == ("put", key, 1)


def test_refused_writes_metadata_and_accounts_are_not_told(client: Client, key: str, watch: Watch) -> None:
    stream = watch().begun()
    client.put(f"/kv/{key}", b"1", If_Match='"x"')
    client.put(f"/kv/{key}/metadata", b'{"permissions": 3889}')
    client.delete(f"/kv/{key}/none")
    client.put(f"/kv/{key}", b"2")
    assert stream.take(1)[0].value == ("put", key, 2)


def test_prefixes_within_prefixes(client: Client, key: str, watch: Watch) -> None:
    told = {key: ["a", "a/1", "ab", "b"], f"{key}/a": ["a", "a/1", "ab"], f"{key}/a/": ["a/1"], f"{key}/b": ["b"]}
    streams = {prefix: watch(f"prefix={prefix}").begun() for prefix in told}
    for name in told[key]:
        client.put(f"/kv/{key}/{name}", b"1")
    for prefix, stream in streams.items():
        events = stream.take(len(told[prefix]))
        assert [event.path for event in events] == [f"{key}/{name}" for name in told[prefix]]


def test_a_prefix_is_checked_as_others(client: Client) -> None:
    assert client.get("/watch?prefix=" + "a" * 1025).json["field"] == "prefix"
    assert client.get("/watch?prefix=a&prefix=b").json["field"] == "query"


# --- what expires ---


def test_an_expired_value_is_told_of(key: str, client: Client, watch: Watch) -> None:
    stream = watch(f"prefix={key}").begun()
    client.put(f"/kv/{key}?ttl=50ms", b"1")
    put, expired = stream.take(2)
    assert expired.kind == "expire"
    assert expired.data == {name: put.data[name] for name in ("path", "uuid", "timestamp", "expires_at")}
    assert int(expired.id) > int(put.id)


def test_who_was_away_hears_that_a_value_expired(key: str, client: Client, watch: Watch) -> None:
    stream, second = watch(f"prefix={key}").begun(), watch(f"prefix={key}").begun()
    client.put(f"/kv/{key}?ttl=50ms", b"1")
    position = stream.take(1)[0].id
    stream.close()
    assert [event.kind for event in second.take(2)] == ["put", "expire"]
    assert watch(f"prefix={key}&since={position}").take(1)[0].kind == "expire"
    assert watch(f"prefix={key}&since=snapshot").snapshot() == []


def test_whose_position_is_too_old_must_begin_anew(make_client: Callable[..., Client], clock: Clock) -> None:
    """The log keeps an expired value for some minutes; who was away for longer would never hear that it is gone."""
    with patch("kvs.server.scheduler.EXPIRY_STEP_MS", 1000):
        client = make_client(clock=clock)
        client.put("/kv/b", b"1")
        with Stream(client.address) as stream:
            stream.begun()
        client.put("/kv/a?ttl=1s", b"1")
        with Stream(client.address) as young:
            young.begun()
        clock.now_ms += 10 * 60 * 1000
        while (
            client.get("/api/data/a/history").status == 200 or client.get(f"/watch?since={young.last_id}").status != 410
        ):
            client.close()
    for position in (stream.last_id, young.last_id):
        reply = client.get(f"/watch?since={position}")
        assert (reply.status, reply.code) == (410, "resync_required")
    client.put("/kv/b", b"2")  # behind its answer watchers were told of all that was committed before
    with Stream(client.address, "since=snapshot") as fresh:
        assert [event.path for event in fresh.snapshot()] == ["b"]
    with Stream(client.address, f"since={fresh.last_id}") as again:
        assert again.reply.status == 200


# --- the stream as an answer ---


def test_a_stream_for_a_client_of_http_1_0(client: Client, key: str) -> None:
    with Stream(client.address, f"prefix={key}", version="1.0") as stream:
        stream.begun()
        client.put(f"/kv/{key}", b"1")
        assert stream.take(1)[0].value == ("put", key, 1)


def test_what_is_sent_behind_the_request_is_not_answered(client: Client, key: str) -> None:
    with Stream(client.address, f"prefix={key}") as stream:
        stream.begun()
        stream._socket.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        client.put(f"/kv/{key}", b"1")
        assert stream.take(1)[0].value == ("put", key, 1)
