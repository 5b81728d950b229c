"""A backup that is merged in many requests is in the audit log at once and then as a number, whatever its client says
and leaves out."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from kvs.cluster import runner as runner_module
from kvs.cluster.events import Act, Merge, Merged
from kvs.cluster.ingest import merge_of
from kvs.errors import Unavailable
from kvs.server.merges import Merges
from kvs.storage.codec import encode_record
from kvs.storage.keyspace import data_key
from tests.houses import House
from tests.records import record

MINUTE_MS = 60_000
FILE = "/backup/x.zst"
FIRST = Act("restore", "ada", FILE)


def merges(tracked_max: int = 10) -> Merges:
    return Merges(5 * MINUTE_MS, tracked_max)


def test_the_first_is_written_at_once_and_those_that_follow_as_a_number() -> None:
    some = merges()
    assert some.begin("ada", FILE, 0) == FIRST
    for second in range(1, 118):
        assert some.begin("ada", FILE, second) is None
        some.count("ada", FILE, 100, second)
    assert some.due(5 * MINUTE_MS - 1) == []
    assert some.due(5 * MINUTE_MS) == [Act("restore", "ada", f"{FILE} 11700 more")]
    assert some.rest(5 * MINUTE_MS) == []


def test_one_that_is_done_begins_anew() -> None:
    some = merges()
    some.begin("ada", FILE, 0)
    assert some.due(5 * MINUTE_MS) == []
    assert some.begin("ada", FILE, 5 * MINUTE_MS) == FIRST


def test_users_and_backups_are_told_apart() -> None:
    some = merges()
    for user in ("ada", "bob", ""):
        for resource in (FILE, "/backup"):
            assert some.begin(user, resource, 0) == Act("restore", user, resource)


def test_one_whose_entry_was_not_written_begins_anew() -> None:
    some = merges()
    some.begin("ada", FILE, 0)
    some.forget("ada", FILE)
    assert some.begin("ada", FILE, 1) == FIRST
    some.count("ada", FILE, 7, 2)
    some.forget("ada", FILE)
    assert some.rest(3) == [Act("restore", "ada", f"{FILE} 7 more")], "what was counted meanwhile is not forgotten"


def test_what_is_written_when_its_window_is_over_counts_all_the_same() -> None:
    some = merges()
    some.begin("ada", FILE, 0)
    assert some.begin("ada", FILE, 1) is None
    some.due(5 * MINUTE_MS)
    some.count("ada", FILE, 7, 5 * MINUTE_MS)
    assert some.rest(5 * MINUTE_MS) == [Act("restore", "ada", f"{FILE} 7 more")]


def test_beyond_so_many_each_request_is_an_entry() -> None:
    some = merges(tracked_max=2)
    for number in range(5):
        assert some.begin("ada", f"/backup/{number}", 0) is not None
    assert [some.begin("ada", f"/backup/{number}", 0) is None for number in range(5)] == [True, True, *[False] * 3]


def test_a_clock_that_is_set_back_keeps_nothing_waiting() -> None:
    some = merges()
    some.begin("ada", FILE, 10 * MINUTE_MS)
    some.count("ada", FILE, 7, 10 * MINUTE_MS)
    assert some.due(0) == [Act("restore", "ada", f"{FILE} 7 more")]


def test_however_it_is_tried_everything_that_was_taken_is_in_an_entry() -> None:
    """Users and backups at random, some writes failing, windows ending at any moment."""
    some, choice = merges(tracked_max=5), Random(1)
    noted = counted = told = 0
    under_way: list[tuple[str, str, bool]] = []
    for step in range(20_000):
        now_ms = step * 2_000
        match choice.randrange(4):
            case 0 | 1:
                user, resource = choice.choice("abc"), f"/backup/{choice.randrange(3)}"
                under_way.append((user, resource, some.begin(user, resource, now_ms) is not None))
            case 2 if under_way:
                user, resource, is_noted = under_way.pop(choice.randrange(len(under_way)))
                failed = choice.random() < 0.2
                if is_noted and failed:
                    some.forget(user, resource)
                elif is_noted:
                    noted += 1
                elif not failed:
                    some.count(user, resource, 1, now_ms)
                    counted += 1
            case _:
                told += sum(int(act.resource.split()[1]) for act in some.due(now_ms))
    told += sum(int(act.resource.split()[1]) for act in some.rest(1 << 40))
    assert noted > 100
    assert counted > 100
    assert told == counted


# --- on a writer ---


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(runner_module, "RECOVERY_RETRY_MIN_MS", 0)
    made = House("node1")
    made.runner.start()
    yield made
    await made.runner.stop()


def merge(key: str) -> Merge:
    return merge_of(data_key(key.encode()), encode_record(record(payload=b"1")), "", as_of_ms=None)


async def test_a_merge_is_written_with_its_first_records_and_then_as_a_number(house: House) -> None:
    outcomes = await house.auditor.merge([merge("a"), merge("b")], "ada", "/backup/x")
    assert [type(outcome) for outcome in outcomes] == [Merged, Merged]
    assert house.resources == ["/backup/x"]
    for number in range(3):
        await house.auditor.merge([merge(f"c{number}"), merge(f"d{number}")], "ada", "/backup/x")
    await house.auditor.merge([merge("e")], "", "/backup/x")
    assert house.resources == ["/backup/x", "/backup/x"]
    house.now_ms += 5 * 60_000
    await house.auditor.tick()
    await house.written()
    assert house.resources[2:] == ["/backup/x 6 more"]


async def test_a_clean_end_tells_of_a_merge_that_goes_on(house: House) -> None:
    house.auditor.start()
    for number in range(3):
        await house.auditor.merge([merge(str(number))], "ada", "/backup/x")
    await house.auditor.stop()
    assert house.resources == ["/backup/x", "/backup/x 2 more"]
    assert house.check().signed == 2


async def test_a_merge_that_fails_is_not_in_it_and_the_next_one_is(house: House) -> None:
    house.store.fail_writes("no space")
    with pytest.raises(Unavailable):
        await house.auditor.merge([merge("a")], "ada", "/backup/x")
    house.store.fail_writes(None)
    await house.recovered()
    assert house.resources == []
    await house.auditor.merge([merge("a")], "ada", "/backup/x")
    assert house.resources == ["/backup/x"]
    house.store.fail_writes("no space")
    with pytest.raises(Unavailable):
        await house.auditor.merge([merge("b")], "ada", "/backup/x")
    house.store.fail_writes(None)
    await house.recovered()
    house.now_ms += 5 * 60_000
    await house.auditor.tick()
    await house.written()
    assert house.resources == ["/backup/x"]


async def test_who_goes_away_during_a_merge_is_counted(house: House) -> None:
    await house.auditor.merge([merge("a")], "ada", "/backup/x")
    going = asyncio.create_task(house.auditor.merge([merge("b")], "ada", "/backup/x"))
    await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    house.now_ms += 5 * 60_000
    await house.auditor.tick()
    await house.written()
    assert house.resources == ["/backup/x", "/backup/x 1 more"]
    assert house.store.get(data_key(b"b")) is not None


async def test_a_merge_that_is_not_wanted_in_it_is_carried_out() -> None:
    house = House("node1", actions=("backup",))
    house.runner.start()
    (outcome,) = await house.auditor.merge([merge("a")], "ada", "/backup/x")
    await house.runner.stop()
    assert isinstance(outcome, Merged)
    assert house.resources == []
