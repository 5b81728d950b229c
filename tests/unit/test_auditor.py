"""The audit log's shell on a real writer: notes that wait, heads by the hour, peers that keep them, disks that fail."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import cast

import pytest
import structlog
from aiohttp import web

from kvs.cluster import runner as runner_module
from kvs.cluster.audit_heads import HeadKey, decode_offer, encode
from kvs.cluster.events import Act
from kvs.config import Config
from kvs.errors import BadMessage, Forbidden, NotFound, Unauthorized, Unavailable
from kvs.server.auditor import newest_head
from kvs.server.head_keeper import HeadKeeper
from kvs.storage.keyspace import AUDIT, AUDIT_ENTRIES, after, audit_head_row, audit_row
from tests.auditing import (
    HOUR_MS,
    START_MS,
    check_rows,
    heads_in,
    make_log,
    numbered,
    rewritten,
    store_of,
    with_tip,
)
from tests.houses import ACT, KEY, House

TORN = "The audit log does not end where its tip says: verify it"


@pytest.fixture
async def make_house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., House]]:
    monkeypatch.setattr(runner_module, "RECOVERY_RETRY_MIN_MS", 0)
    made: list[House] = []

    def make(name: str = "node1", **more: object) -> House:
        made.append(House(name, **more))  # type: ignore[arg-type]
        made[-1].runner.start()
        return made[-1]

    yield make
    for house in made:
        await house.runner.stop()


@pytest.fixture
async def house(make_house: Callable[..., House]) -> House:
    return make_house()


@pytest.fixture
async def pair(make_house: Callable[..., House]) -> tuple[House, House]:
    """A node, and a peer that keeps its heads."""
    one, other = make_house("node1"), make_house("node2")
    one.neighbours["node2"] = other
    return one, other


# --- notes ---


async def test_notes_are_written_in_order_and_only_those_that_are_wanted(make_house: Callable[..., House]) -> None:
    house = make_house(actions=("backup",))
    await house.note("a", "b")
    house.auditor.note(Act("restore", "", "x"))
    await house.note("c")
    assert house.resources == ["a", "b", "c"]


async def test_notes_wait_for_a_disk_that_takes_no_writes(house: House) -> None:
    house.store.fail_writes("no space")
    await house.note("a")
    await house.note("b")
    assert house.resources == []
    house.store.fail_writes(None)
    await house.recovered()
    await house.auditor.tick()
    await house.written()
    assert house.resources == ["a", "b"]
    assert house.check().findings == []


async def test_so_many_notes_wait_and_no_more(house: House) -> None:
    """The log says how many more there were, also of those that came while the disk was tried."""
    house.store.fail_writes("no space")
    with structlog.testing.capture_logs() as lines:
        house.auditor.note(*(ACT._replace(resource=str(number)) for number in range(5)))
        await asyncio.sleep(0)  # they are on their way
        await house.note(*(str(number) for number in range(5, 3000)))
        await house.note("late")
    lost = [line["notes"] for line in lines if line["event"].startswith("Notes for the audit log are lost")]
    assert lost == [1995, 5, 1]
    house.store.fail_writes(None)
    await house.recovered()
    await house.auditor.tick()
    await house.written()
    assert house.resources == [str(number) for number in range(1000)]


def request(path: str = "/kv/a", remote: str = "10.0.0.7") -> web.BaseRequest:
    url = SimpleNamespace(raw_path=path)
    return cast(web.BaseRequest, SimpleNamespace(method="GET", remote=remote, rel_url=url))


async def test_refusals_are_written_at_once_and_then_as_a_number(house: House) -> None:
    for _ in range(5):
        house.auditor.refused(request(), "", Unauthorized())
    house.auditor.refused(request("/kv/b"), "ada", Forbidden())
    await house.written()
    assert house.resources == ["10.0.0.7 GET /kv/a", "10.0.0.7 GET /kv/b"]
    house.now_ms += 5 * 60_000
    await house.auditor.tick()
    await house.written()
    assert house.resources[2:] == ["10.0.0.7 4 more, the last GET /kv/a"]


async def test_a_network_of_ipv6_is_one_address(house: House) -> None:
    for number in range(10):
        house.auditor.refused(request(remote=f"2001:db8::{number}"), "", Unauthorized())
    await house.written()
    assert len(house.resources) == 1


async def test_a_change_of_the_configuration_is_noted_also_over_a_restart(house: House) -> None:
    config = Config(node_id="node1", cluster_secret="a secret of the cluster")
    await house.auditor.configured(config)
    await house.auditor.configured(config)
    assert house.resources == []
    changed = Config(node_id="node1", cluster_secret="another secret", log_level="debug")
    await house.make_auditor().configured(changed)
    assert house.resources == ["cluster_secret log_level"]
    assert all(b"secret of" not in raw and b"debug" not in raw for _, raw in house.store.scan(b"a", b"b"))


async def test_configurations_that_follow_each_other_are_each_noted_with_what_changed(house: House) -> None:
    await house.auditor.configured(Config(node_id="node1"))
    house.auditor.reconfigured(Config(node_id="node1", log_level="debug"))
    house.auditor.reconfigured(Config(node_id="node1", log_level="debug", rate_limit_requests=5))
    await house.auditor.stop()
    assert house.resources == ["log_level", "rate_limit_requests"]


async def test_a_configuration_that_comes_while_the_store_is_closed_keeps_nothing_from_its_end(house: House) -> None:
    config = Config(node_id="node1", cluster_secret="a secret of the cluster")
    await house.auditor.configured(config)
    house.store.close()
    with structlog.testing.capture_logs() as lines:
        house.auditor.reconfigured(config)
        await house.auditor.stop()
    assert [(line["log_level"], line["error"]) for line in lines] == [("warning", "the store is closed")]


# --- heads ---


async def test_an_hour_gets_its_head_when_it_is_over(house: House) -> None:
    await house.note("a", "b")
    await house.auditor.tick()
    assert house.heads == []
    house.now_ms += HOUR_MS
    await house.note("c")
    await house.auditor.tick()
    assert [(head.first, head.last) for head in house.heads] == [(1, 2)]
    house.now_ms += HOUR_MS
    for _ in range(3):
        await house.auditor.tick()
    assert [(head.first, head.last) for head in house.heads] == [(1, 2), (3, 3)]
    report = house.check()
    assert (report.findings, report.signed) == ([], 3)


async def test_after_a_restart_it_goes_on_behind_the_last_head(make_house: Callable[..., House]) -> None:
    house = make_house()
    await house.note("a")
    house.now_ms += HOUR_MS
    await house.auditor.tick()
    await house.note("b")
    after_crash = make_house(store=house.store.crash())
    after_crash.now_ms = house.now_ms + 5 * HOUR_MS
    await after_crash.note("c")
    await after_crash.auditor.tick()
    assert [(head.first, head.last) for head in after_crash.heads] == [(1, 1), (2, 2)]
    assert after_crash.check().findings == []


async def test_a_clean_end_seals_all_there_is(house: House) -> None:
    house.auditor.start()
    await house.note("a")
    for _ in range(4):
        house.auditor.refused(request(), "", Unauthorized())
    await house.auditor.seal()
    await house.note("while it drains")
    await house.auditor.stop()
    assert house.check().signed == house.check().last == 4
    assert house.check().findings == []


@pytest.mark.parametrize("landed", [False, True], ids=["lost", "landed"])
async def test_a_head_whose_write_failed_is_made_again_only_if_it_is_not_there(
    house: House, landed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.note("a")
    house.now_ms += HOUR_MS
    if landed:
        commit = house.store.commit

        def land_and_fail(batch: dict[bytes, bytes | None]) -> None:
            commit(batch)
            house.store.fail_writes("fsync failed")
            commit({})

        monkeypatch.setattr(house.store, "commit", land_and_fail)
    else:
        house.store.fail_writes("no space")
    with pytest.raises(Unavailable):
        await house.auditor.tick()
    monkeypatch.undo()
    house.store.fail_writes(None)
    await house.recovered()
    await house.note("b")
    await house.auditor.tick()
    house.now_ms += HOUR_MS
    await house.auditor.tick()
    assert [(head.number, head.first, head.last) for head in house.heads] == [(1, 1, 1), (2, 2, 2)]
    assert house.check().findings == []


async def test_a_new_secret_gets_a_head_at_once(house: House) -> None:
    await house.note("a")
    house.now_ms += HOUR_MS
    await house.auditor.tick()
    key = HeadKey(b"new" + bytes(29))
    await house.make_auditor(key).tick()
    newest = newest_head(house.store)
    assert newest is not None
    assert (newest.number, newest.key, newest.last) == (2, key.public, 1)
    rows = dict(house.store.scan(b"a", b"b"))
    assert check_rows(rows, keys=[key.public]).findings == []


async def test_a_damaged_log_goes_on_and_stays_damaged(make_house: Callable[..., House]) -> None:
    house = make_house()
    await house.note("a", "b")
    house.store.commit({audit_row(2): b"garbage", b"ae-strange": b"x", b"ae\0": b"x"})
    again = make_house(store=house.store.crash())
    await again.note("c")
    again.now_ms += HOUR_MS
    await again.auditor.tick()
    report = again.check()
    assert [str(finding) for finding in report.findings] == [
        "entry 1: before it stands a row that is none of the log",
        "entry 2: it was changed: its bytes are no entry",
        "entry 3: behind it stands a row that is none of the log",
    ]
    assert (report.last, report.signed) == (3, 3)


async def test_a_log_whose_end_was_cut_off_goes_on_above_it_and_the_node_says_so(
    make_house: Callable[..., House],
) -> None:
    house = make_house()
    await house.note("a", "b", "c")
    house.store.commit({audit_row(2): None, audit_row(3): None})
    again = make_house(store=house.store.crash())
    with structlog.testing.capture_logs() as log:
        again.auditor.start()
        await again.note("d")
        await again.auditor.stop()
    alarm = {"event": TORN, "log_level": "error", "last": 1, "tip": 3}
    assert [line for line in log if line["event"] == TORN] == [alarm]
    assert [str(finding) for finding in again.check().findings] == ["entries 2 to 3: missing"]


async def test_an_end_that_was_lost_while_the_disk_failed_is_told(house: House) -> None:
    house.auditor.start()
    await house.note("a", "b")
    house.store.commit({audit_row(2): None})
    house.store.fail_writes("no space")
    with structlog.testing.capture_logs() as log:
        await house.note("c")
        house.store.fail_writes(None)
        await house.recovered()
    assert [(line["last"], line["tip"]) for line in log if line["event"] == TORN] == [(1, 2)]
    await house.auditor.stop()


# --- peers ---


async def test_a_peer_keeps_the_head_and_has_it_after_a_restart(pair: tuple[House, House]) -> None:
    one, other = pair
    for _ in range(3):
        await one.note("a")
        one.now_ms += HOUR_MS
        await one.auditor.tick()
    assert other.keeper.held == {"node1": (one.heads[-1],)}
    calls = one.calls
    await one.auditor.tick()
    assert one.calls == calls, "a peer that has it is not told again"
    again = HeadKeeper(other.store.crash(), other.runner, [KEY.public], lambda: ["node1"])
    assert again.held == other.keeper.held


async def test_a_peer_that_was_away_gets_all_heads_since(pair: tuple[House, House]) -> None:
    one, other = pair
    await one.note("a")
    one.now_ms += HOUR_MS
    await one.auditor.tick()
    one.neighbours.clear()
    for _ in range(250):
        await one.note("a")
        one.now_ms += HOUR_MS
        await one.auditor.tick()
    one.neighbours["node2"] = other
    await one.auditor.tick()
    assert other.keeper.held == {"node1": (one.heads[-1],)}
    assert one.heads[-1].number == 251
    assert one.calls < 8


async def test_a_peer_that_was_away_while_the_secret_was_changed_follows(pair: tuple[House, House]) -> None:
    one, other = pair
    await one.note("a")
    one.now_ms += HOUR_MS
    await one.auditor.tick()
    one.neighbours.clear()
    await one.note("b")
    one.now_ms += HOUR_MS
    await one.auditor.tick()
    key = HeadKey(b"new" + bytes(29))
    other.keeper = HeadKeeper(other.store, other.runner, [key.public], lambda: ["node1"])
    one.neighbours["node2"] = other
    await one.make_auditor(key).tick()
    assert [head.key for head in one.heads] == [KEY.public, KEY.public, key.public]
    assert other.keeper.held == {"node1": (one.heads[-1],)}


async def test_a_log_that_was_cut_is_found_by_the_peer_and_the_node_says_so(
    pair: tuple[House, House], make_house: Callable[..., House]
) -> None:
    one, other = pair
    for _ in range(3):
        await one.note("a")
        one.now_ms += HOUR_MS
        await one.auditor.tick()
    kept = one.heads[-1]
    survivor = one.store.crash()
    survivor.commit({audit_row(3): None, audit_head_row(3, 3): None})
    survivor.commit(dict(with_tip(dict(survivor.scan(AUDIT, after(AUDIT))))))
    again = make_house("node1", store=survivor)
    again.neighbours["node2"] = other
    again.now_ms = one.now_ms
    assert again.check().findings == []
    with structlog.testing.capture_logs() as log:
        await again.auditor.tick()
    events = [line["event"] for line in log]
    assert "A peer keeps a head of this node's audit log that is not in it: verify the log" in events
    assert "The audit log of a member does not continue what it was: verify it" in events
    await again.note("b")
    again.now_ms += HOUR_MS
    await again.auditor.tick()
    held = other.keeper.held["node1"]
    assert held[0] == kept, "nothing makes it go away"
    assert held[-1] == again.heads[-1], "and the log that is there now is kept too"
    assert [finding.first for finding in again.check(*held).findings if finding.of == "entry"] == [3]


async def test_a_log_that_was_made_anew_as_a_whole_is_found(
    pair: tuple[House, House], make_house: Callable[..., House]
) -> None:
    one, other = pair
    for _ in range(3):
        await one.note("a")
        one.now_ms += HOUR_MS
        await one.auditor.tick()
    rows = numbered(rewritten([raw for _, raw in one.store.scan(AUDIT_ENTRIES, after(AUDIT_ENTRIES))], 1))
    again = make_house("node1", store=store_of(with_tip(rows)))
    again.neighbours["node2"] = other
    again.now_ms = one.now_ms
    await again.auditor.tick()
    assert again.check().findings == []
    assert [finding.first for finding in again.check(*other.keeper.held["node1"]).findings] == [3]


async def test_a_log_that_is_gone_is_missed_before_there_is_a_head(
    pair: tuple[House, House], make_house: Callable[..., House]
) -> None:
    one, other = pair
    await one.note("a")
    one.now_ms += HOUR_MS
    await one.auditor.tick()
    again = make_house("node1")
    again.neighbours["node2"] = other
    for events in (["A peer keeps a head of this node's audit log that is not in it: verify the log"], []):
        with structlog.testing.capture_logs() as log:
            await again.auditor.tick()
        assert [line["event"] for line in log] == events
    assert again.calls == 1


async def test_heads_of_others_are_refused(pair: tuple[House, House]) -> None:
    _, other = pair
    (head,) = heads_in(make_log([START_MS]))
    (foreign,) = heads_in(make_log([START_MS], key=HeadKey(b"x" * 32)))
    for node_id, given, error in (
        ("node2", head, BadMessage),
        ("node1", foreign, BadMessage),
        ("stranger", head, NotFound),
    ):
        with pytest.raises(error):
            await other.keeper.offered(node_id, decode_offer(encode({"heads": [given]})))
    assert other.keeper.held == {}


async def test_what_could_not_be_written_is_not_said_to_be_kept(pair: tuple[House, House]) -> None:
    one, other = pair
    await one.note("a")
    one.now_ms += HOUR_MS
    other.store.fail_writes("no space")
    await one.auditor.tick()
    assert other.keeper.held == {}
    other.store.fail_writes(None)
    await other.recovered()
    await one.auditor.tick()
    assert other.keeper.held == {"node1": (one.heads[-1],)}
