"""`/metrics`: that what happened is what is counted, and that nobody's words become names."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kvs.limits import LOGIN_PER_ACCOUNT_MAX, LOOP_LAG_INTERVAL_S
from kvs.storage.memory import MemoryStore
from tests.api.accounts import Place
from tests.api.client import Client
from tests.api.peers import CLUSTER, PEER1, SECRET, Peer, sent
from tests.api.running import Clock, RunningNode
from tests.process.eventually import eventually
from tests.scrape import Scrape

NOW_MS = Clock().now_ms
QUIET = {**CLUSTER, "probe_interval_ms": 3_600_000, "probe_timeout_ms": 100}
_TIMEOUT_S = 20.0
_MEANWHILE_S = 5.0
"""What a peer said of its clock is compared with a clock that goes on."""


def scrape(client: Client) -> Scrape:
    reply = client.get("/metrics")
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Scrape(reply.body.decode())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """Starts nodes of a cluster (settings are those of the configuration) and gives a peer of each."""
    with ExitStack() as ends:

        def started(node_id: str = "node1", clock: Clock | None = None, **settings: Any) -> Peer:
            node = RunningNode(tmp_path / node_id, clock=clock, node_id=node_id, **{**CLUSTER, **settings})
            ends.callback(node.stop)
            peer = Peer(node.address)
            ends.callback(peer.close)
            return peer

        yield started


# --- requests ---


def test_requests_are_counted_by_route_and_status(make_client: Callable[..., Client]) -> None:
    client = make_client()
    client.put("/kv/a/b", b"1")
    client.put("/kv/a/b", b"2")
    client.get("/kv/a/b")
    client.send("HEAD", "/kv/a/b")
    client.get("/kv/none")
    client.get("/kv/a/b/metadata")
    client.get("/kv/_range?prefix=a")
    seen = scrape(client)

    def count(method: str, route: str, status: int) -> float:
        labels = {"method": method, "route": route, "status": status}
        counted = seen.value("kvs_http_requests_total", **labels)
        assert counted == seen.value("kvs_http_request_duration_seconds_count", **labels)
        assert counted == seen.value("kvs_http_request_duration_seconds_bucket", **labels, le="+Inf")
        return counted

    assert count("PUT", "/kv/{key}", 201) == count("PUT", "/kv/{key}", 200) == 1
    assert count("GET", "/kv/{key}", 200) == 2, "a HEAD is counted as the GET that it is like"
    assert count("GET", "/kv/{key}", 404) == 1
    assert count("GET", "/kv/{key}/metadata", 404) == 1
    assert count("GET", "/kv/_range", 200) == 1
    assert count("GET", "/metrics", 200) == 0
    assert seen.value("kvs_http_problems_total", code="not_found") == 2
    assert seen.value("kvs_http_connections") == 1
    assert scrape(client).value("kvs_http_requests_total", method="GET", route="/metrics", status=200) == 1


def test_nothing_that_is_sent_becomes_a_label(start: Callable[..., Peer], connect: Callable[[Client], Client]) -> None:
    peer, canary = start(node_id="node1", **QUIET), "cAnary"
    stranger = connect(peer)
    for method, target in (
        ("GET", f"/{canary}"),
        ("GET", f"/kv/{canary}"),
        ("PUT", f"/kv/{canary}?{canary}={canary}"),
        (canary, "/kv/a"),
        ("PROPFIND", f"/kv/{canary}"),
        ("GET", f"/api/data/{canary}/history/{canary}"),
    ):
        for asks in (peer, stranger):
            asks.send(method, target, b"1" if method == "PUT" else None, {"X-Request-ID": canary, canary: canary})
    stranger.get("/merkle_tree/root", X_Cluster_Secret=canary, X_Node_ID=canary)
    named = {**PEER1, "id": "peer1", "address": "canary.invalid:9"}
    peer.ask("/members/join", named)
    peer.ask("/replicate", {"records": [sent(f"{canary}/k", NOW_MS, {canary: canary}, origin=canary)]})
    seen = scrape(peer)
    assert canary.lower() not in seen.text.lower()
    assert "peer1" not in seen.text
    assert "node1" not in seen.text
    assert SECRET not in seen.text
    assert seen.value("kvs_http_requests_total", method="other", route="none", status=404) == 2
    assert seen.value("kvs_http_requests_total", method="other", route="none", status=405) == 2
    assert seen.value("kvs_http_problems_total", code="malformed_request") == 2


def test_all_names_of_labels_are_known_before(start: Callable[..., Peer]) -> None:
    assert {name for name, _ in scrape(start(**QUIET)).labels()} <= {
        "method", "route", "status", "le", "code", "credential", "counted_by", "version", "mode", "source",
        "result", "step", "winner", "kept", "action", "reason",
    }  # fmt: skip


def test_malformed_requests_and_connections(make_client: Callable[..., Client]) -> None:
    client = make_client()
    before = scrape(client)
    broken = Client(client.address)
    broken.open()
    assert eventually(lambda: scrape(client).value("kvs_http_connections") == 2, _TIMEOUT_S)  # once it is accepted
    broken.write(b"GET / HTTP/9.9\r\n\r\n")
    assert broken.read().status == 400
    after = scrape(client)
    assert not before.has("kvs_http_problems_total", code="malformed_request")
    assert after.value("kvs_http_problems_total", code="malformed_request") == 1
    assert eventually(lambda: scrape(client).value("kvs_http_connections") == 1, _TIMEOUT_S)


def test_credentials_that_are_refused(make_place: Callable[..., Place]) -> None:
    at = make_place(**CLUSTER)
    at.caller("worthless").get("/kv/a")
    at.caller().put("/kv/a", b"1")
    at.user("read").ask.put("/kv/a", b"1")
    at.caller().call("POST", "/api/login", {"nickname": "nobody", "password": "wrong horse"})
    at.caller().get("/merkle_tree/root")
    seen = scrape(at.caller())
    assert seen.value("kvs_auth_failures_total", credential="token") == 2
    assert seen.value("kvs_auth_failures_total", credential="password") == 1
    assert seen.value("kvs_auth_failures_total", credential="cluster_secret") == 1
    assert seen.value("kvs_http_problems_total", code="forbidden") == 1


def test_requests_that_were_too_many(make_place: Callable[..., Place]) -> None:
    at = make_place(rate_limit_requests=LOGIN_PER_ACCOUNT_MAX + 5, rate_limit_window=3_600_000)
    caller, person = at.caller(), at.user()
    for _ in range(LOGIN_PER_ACCOUNT_MAX + 2):
        caller.call("POST", "/api/login", {"nickname": "nobody", "password": "wrong horse"})
    for _ in range(6):
        caller.get("/kv/a")
    for _ in range(LOGIN_PER_ACCOUNT_MAX + 6):
        person.ask.get("/kv/a")
    seen = scrape(caller)
    counted = {by: seen.value("kvs_rate_limited_total", counted_by=by) for by in ("login", "address", "user")}
    assert counted == {"login": 2, "address": 3, "user": 1}
    assert seen.value("kvs_http_problems_total", code="rate_limited") == 6


# --- records and writes ---


def test_records_and_writes(make_client: Callable[..., Client]) -> None:
    client = make_client(tamper_logging_enabled=False)  # which commits what it remembers too
    for key in ("a", "b", "c"):
        client.put(f"/kv/{key}", b"1")
    client.put("/kv/a", b"2")
    client.delete("/kv/b")
    client.delete("/kv/none")
    client.post("/kv/_bulk", b'{"op":"put","path":"d","data":1}\n{"op":"put","path":"e","data":1}')
    seen = scrape(client)
    assert (seen.value("kvs_records"), seen.value("kvs_tombstones")) == (5, 1)
    assert seen.value("kvs_writes_total", source="client") == 7
    assert seen.value("kvs_commit_writes_count") == seen.value("kvs_commit_duration_seconds_count") == 6
    assert seen.value("kvs_commit_writes_sum") == 7
    assert seen.value("kvs_commit_writes_bucket", le="1.0") == 5
    assert 0 < seen.value("kvs_commit_duration_seconds_sum") < _TIMEOUT_S
    assert seen.value("kvs_commit_waiting_bytes") == seen.value("kvs_commit_failures_total") == 0
    assert not seen.has("kvs_members", status="alive")


def test_entries_of_the_audit_log(make_place: Callable[..., Place]) -> None:
    at = make_place(tamper_log_actions=("data_write", "permission_denied"))
    at.root.ask.put("/kv/a", b"1")
    at.root.ask.call("PUT", "/kv/a", 2)
    at.user("read").ask.put("/kv/a", b"3")
    at.root.ask.delete("/kv/a")
    at.root.ask.put("/kv/b", b"4")  # the note of the refusal is on the disk before it
    seen = scrape(at.caller())
    assert seen.value("kvs_audit_entries_total", action="data_write") == 3
    assert seen.value("kvs_audit_entries_total", action="permission_denied") == 1
    assert not seen.has("kvs_audit_entries_total", action="data_delete")


def test_records_are_known_after_a_restart(tmp_path: Path) -> None:
    for records in (1, 2):
        node = RunningNode(tmp_path)
        client = Client(node.address)
        client.put(f"/kv/{records}", b"1")
        assert scrape(client).value("kvs_records") == records
        client.close()
        node.stop()


def test_the_disk(make_client: Callable[..., Client]) -> None:
    client = make_client()
    before = scrape(client).value("kvs_disk_bytes")
    client.put("/kv/blob", Random(1).randbytes(1_000_000), Content_Type="application/x-noise")
    seen = scrape(client)
    assert before + 1_000_000 < seen.value("kvs_disk_bytes") < before + 4_000_000
    assert seen.value("kvs_disk_free_bytes") > 0


def test_a_data_folder_that_cannot_be_read_has_no_size(make_client: Callable[..., Client]) -> None:
    seen = scrape(make_client(store=MemoryStore(), tamper_logging_enabled=False))  # nothing makes the folder
    assert not seen.has("kvs_disk_bytes")
    assert "kvs_disk_bytes" in seen.families


def test_a_disk_that_fails(make_client: Callable[..., Client]) -> None:
    store = MemoryStore()
    client = make_client(store=store)
    assert scrape(client).value("kvs_mode", mode="normal") == 1
    store.fail_writes("no space")
    assert client.put("/kv/a", b"1").status == 503
    seen = scrape(client)
    modes = {mode: seen.value("kvs_mode", mode=mode) for mode in ("normal", "read_only", "degraded", "syncing")}
    assert modes == {"normal": 0, "read_only": 0, "degraded": 1, "syncing": 0}
    assert seen.value("kvs_commit_failures_total") == 1
    assert seen.value("kvs_http_problems_total", code="degraded") == 1
    store.fail_writes(None)
    assert eventually(lambda: scrape(client).value("kvs_mode", mode="normal"), _TIMEOUT_S)
    assert scrape(client).value("kvs_writes_total", source="client") == 0


def test_the_event_loop_and_the_process(make_client: Callable[..., Client]) -> None:
    client = make_client()
    assert eventually(lambda: scrape(client).value("kvs_event_loop_lag_seconds_count") >= 2, _TIMEOUT_S)
    seen = scrape(client)
    assert 0 <= seen.value("kvs_event_loop_lag_seconds_sum") < _TIMEOUT_S
    assert seen.value("process_resident_memory_bytes") > 1_000_000
    assert 0 < LOOP_LAG_INTERVAL_S < 1


# --- the cluster ---


def status(peer: Peer) -> Any:
    reply = peer.get("/api/cluster/status")
    assert reply.status == 200, reply
    return reply.json


def check_agreement(peer: Peer) -> Scrape:
    """What the status shows too is the same here, at a moment when it stands still."""
    shown, seen = status(peer), scrape(peer)
    while _moving(after := status(peer)) != _moving(shown):
        shown, seen = after, scrape(peer)
    members = [member["status"] for member in shown["members"]]
    for each in ("alive", "suspect", "dead", "left", "remembered"):
        assert seen.value("kvs_members", status=each) == members.count(each)
    assert seen.value("kvs_records") == shown["records"]
    assert seen.value("kvs_push_waiting_records") == sum(member["waiting"] for member in shown["members"])
    assert seen.value("kvs_isolated") == shown["isolated"]
    assert seen.value("kvs_deletion_floor_timestamp_seconds") == shown["gc_floor"] / 1000
    assert seen.value("kvs_mode", mode=shown["mode"]) == 1
    if shown["clock_offset_ms"] is None:
        assert not seen.has("kvs_clock_offset_seconds")
    else:
        assert seen.value("kvs_clock_offset_seconds") == pytest.approx(
            shown["clock_offset_ms"] / 1000, abs=_MEANWHILE_S
        )
    return seen


def _moving(shown: Any) -> object:
    """What of the status changes by itself and is compared."""
    members = [(member["status"], member["waiting"]) for member in shown["members"]]
    return members, shown["records"], shown["isolated"], shown["gc_floor"], shown["mode"]


def ping(peer: Peer, *, ahead_ms: int = 0) -> None:
    digest = {"root": "ab", "count": 1, "proven": 7, "gc_floor": 0}
    sender = {**PEER1, "last_seen": NOW_MS + ahead_ms}
    peer.ask("/members/ping", {"sender": sender, "to": "node1", "digest": digest})


def test_the_status_of_the_cluster_and_the_metrics_agree(start: Callable[..., Peer]) -> None:
    peer = start(clock=Clock(), **QUIET)
    check_agreement(peer)
    peer.put("/kv/a", b"1")
    ping(peer, ahead_ms=31_234)
    peer.put("/kv/b", b"1")
    peer.delete("/kv/b")
    # Nobody listens where the peer is said to be.
    assert eventually(lambda: scrape(peer).value("kvs_push_dropped_records_total") >= 1, _TIMEOUT_S)
    assert eventually(lambda: scrape(peer).value("kvs_sync_comparisons_total", result="failed") >= 1, _TIMEOUT_S)
    assert eventually(lambda: scrape(peer).value("kvs_push_waiting_records") == 0, _TIMEOUT_S)
    seen = check_agreement(peer)
    assert seen.value("kvs_members", status="alive") == 2
    assert (seen.value("kvs_records"), seen.value("kvs_tombstones")) == (2, 1)
    assert seen.value("kvs_clock_offset_seconds") == pytest.approx(31.234, abs=_MEANWHILE_S)
    peer.send("DELETE", "/members/leave", b'{"id":"peer1","incarnation":1}')
    assert check_agreement(peer).value("kvs_members", status="left") == 1


def test_writes_that_wait_for_a_peer_that_was_not_heard(start: Callable[..., Peer]) -> None:
    peer = start(clock=Clock(), **QUIET)
    peer.ask("/members/join", PEER1)
    for number in range(3):
        peer.put(f"/kv/{number}", b"1")
    assert check_agreement(peer).value("kvs_push_waiting_records") == 3


def test_a_clock_that_is_wrong_refuses_writes_and_is_counted(start: Callable[..., Peer]) -> None:
    peer = start(clock=Clock(), **QUIET)
    ping(peer, ahead_ms=120_000)
    for _ in range(3):
        assert peer.get("/ready").status == 503
    assert scrape(peer).value("kvs_clock_drift_refused_total") == 0
    assert peer.put("/kv/a", b"1").status == 503
    assert peer.post("/kv/_bulk", b"[]").status == 503
    assert scrape(peer).value("kvs_clock_drift_refused_total") == 2
    assert scrape(peer).value("kvs_mode", mode="normal") == 1


def test_what_peers_hand_over(start: Callable[..., Peer]) -> None:
    peer = start(clock=Clock(), **QUIET)
    records = [sent("a", NOW_MS - 40), sent("b", NOW_MS - 4_000), sent("c", NOW_MS + 50)]
    assert peer.ask("/replicate", {"records": records})["outcomes"] == ["taken"] * 3
    assert peer.ask("/replicate", {"records": records})["outcomes"] == ["known"] * 3
    seen = scrape(peer)
    assert seen.value("kvs_writes_total", source="peer") == 3
    assert seen.value("kvs_replication_lag_seconds_count") == 3
    assert seen.value("kvs_replication_lag_seconds_sum") == pytest.approx(4.04)
    assert seen.value("kvs_replication_lag_seconds_bucket", le="0.05") == 2
    assert peer.ask("/replicate", {"records": [sent("a", NOW_MS - 10)]})["outcomes"] == ["taken"]
    assert peer.ask("/replicate", {"records": [sent("a", NOW_MS - 90)]})["outcomes"] == ["older"]
    seen = scrape(peer)
    assert seen.value("kvs_conflicts_resolved_total", winner="incoming") == 1
    assert seen.value("kvs_conflicts_resolved_total", winner="held") == 1
    assert seen.value("kvs_discarded_versions_total", kept="yes") == 2
    assert seen.value("kvs_discarded_versions_total", kept="no") == 0


def test_two_nodes_that_compare(start: Callable[..., Peer]) -> None:
    quick = {"probe_interval_ms": 100, "probe_timeout_ms": 100, "throttle_delay_ms": 0, "push_enabled": False}
    one = start(**quick)
    for number in range(20):
        one.put(f"/kv/{number}", b"1")
    two = start("node2", seed_nodes=(f"{one.address[0]}:{one.address[1]}",), bootstrap_patience=0.1, **quick)
    assert eventually(lambda: scrape(two).value("kvs_records") == 20, _TIMEOUT_S)
    for number in range(5):
        two.put(f"/kv/new{number}", b"1")
    assert eventually(lambda: scrape(one).value("kvs_records") == 25, _TIMEOUT_S)
    assert eventually(lambda: status(one)["root"] == status(two)["root"], _TIMEOUT_S)
    both = [check_agreement(peer) for peer in (one, two)]

    def total(name: str, **labels: object) -> float:
        return sum(seen.value(name, **labels) for seen in both)

    assert total("kvs_writes_total", source="peer") == 25
    assert total("kvs_sync_comparisons_total", result="done") >= 1
    assert total("kvs_sync_keys_total", step="fetch") + total("kvs_sync_keys_total", step="send") >= 5
    assert total("kvs_sync_keys_total", step="compare") >= 5
    assert total("kvs_sync_rounds_total") >= 1
    assert total("kvs_sync_bytes_total", step="compare") > 20
    assert total("kvs_sync_bytes_total", step="fill") > 20
    moved = total("kvs_sync_bytes_total", step="fetch") + total("kvs_sync_bytes_total", step="send")
    assert moved > 5 * 16


# --- who may ask, and whether there is anything ---


def test_no_token_is_needed_and_none_is_looked_at(make_place: Callable[..., Place]) -> None:
    at = make_place()
    for caller in (at.caller(), at.caller("worthless"), at.root.ask):
        assert scrape(caller).value("kvs_records") > 0
    assert at.caller().get("/metrics").headers["cache-control"] == "no-store"


def test_switched_off_there_is_nothing(make_client: Callable[..., Client]) -> None:
    client = make_client(metrics_enabled=False, **CLUSTER)
    client.put("/kv/a", b"1")
    reply = client.get("/metrics")
    assert (reply.status, reply.code) == (404, "unknown_route")
    assert Client.get(client, "/health").status == 200


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", "text/plain;version=x", "*/*", ""])
def test_whatever_is_accepted_the_format_is_one(make_client: Callable[..., Client], accept: str) -> None:
    reply = make_client().get("/metrics", Accept=accept)
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert Scrape(reply.body.decode()).families
