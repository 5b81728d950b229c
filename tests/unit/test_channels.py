"""What the feed keeps back, and what it forgets."""

import pytest

from kvs.auth.permissions import Metadata
from kvs.auth.principal import EVERYBODY, Principal
from kvs.cluster.events import Change, Committed
from kvs.errors import BadRequest, ResyncRequired, StoreClosed, StoreCorrupt
from kvs.server.feed import Feed, Subscription, sight_of
from kvs.storage.codec import Stored, encode
from kvs.storage.compression import Compressor
from kvs.storage.keyspace import change_row
from kvs.storage.memory import MemoryStore
from tests.records import record

ADA = Principal(user="ada", groups=frozenset(("team",)), scopes=frozenset(("read",)), token_id="1")


def committed(*keys: bytes, seq: int = 1) -> Committed:
    return Committed([Change(b"d" + key, record(), seq + at) for at, key in enumerate(keys)], [])


def nobody_asked(entry: bytes) -> Metadata | None:
    raise AssertionError(entry)


@pytest.fixture
def feed() -> Feed[Subscription]:
    return Feed("log", 0)


def test_principals_of_one_sight_are_told_with_the_same_bytes(feed: Feed[Subscription]) -> None:
    """Other scopes and another token make no difference."""
    again = Principal(user="ada", groups=frozenset(("team",)), scopes=frozenset(("read", "write")), token_id="2")
    for principal in (ADA, again, EVERYBODY, EVERYBODY, Principal(user="bob")):
        feed.join(Subscription(b"", sight_of(principal)))
    feed.publish(committed(b"a", b"b"), 1)
    parcels = list(feed.take(lambda _: None))
    assert sorted(len(watchers) for _, watchers in parcels) == [1, 2, 2]
    assert len({data for data, _ in parcels}) == 1


def test_metadata_are_looked_up_once_for_all_and_only_for_those_who_need_them(feed: Feed[Subscription]) -> None:
    feed.join(Subscription(b"", sight_of(EVERYBODY)))
    feed.publish(committed(b"a"), 1)
    assert list(feed.take(nobody_asked))
    for user in ("ada", "bob", "eve"):
        feed.join(Subscription(b"", Principal(user=user)))
    asked: list[bytes] = []
    feed.publish(committed(b"b", seq=2), 1)
    feed.take(lambda entry: asked.append(entry))
    assert asked == [b"db"]


def test_corrupt_metadata_let_nobody_in_but_who_bypasses_them(feed: Feed[Subscription]) -> None:
    bypassing, other = Subscription(b"", sight_of(EVERYBODY)), Subscription(b"", sight_of(ADA))
    feed.join(bypassing)
    feed.join(other)
    feed.publish(committed(b"a"), 1)

    def corrupt(_: bytes) -> Metadata | None:
        raise StoreCorrupt("rotten")

    assert [watchers for _, watchers in feed.take(corrupt)] == [[bypassing]]


def test_what_cannot_be_judged_now_waits(feed: Feed[Subscription]) -> None:
    feed.join(Subscription(b"", sight_of(ADA)))
    feed.publish(committed(b"a", b"b"), 1)

    def closed(_: bytes) -> Metadata | None:
        raise StoreClosed("being reopened")

    with pytest.raises(StoreClosed):
        feed.take(closed)
    assert feed.has_pending
    ((data, _),) = feed.take(lambda _: None)
    assert data.count(b"event: put") == 2
    assert list(feed.take(lambda _: None)) == []


def test_nothing_is_kept_for_watchers_who_left(feed: Feed[Subscription]) -> None:
    subscription = Subscription(b"a", sight_of(ADA))
    feed.leave(subscription)
    feed.join(subscription)
    feed.publish(committed(b"a"), 1)
    feed.leave(subscription)
    feed.leave(subscription)
    assert not feed.has_pending
    assert list(feed.joined()) == []
    feed.publish(committed(b"a", seq=2), 1)
    assert not feed.has_pending
    assert feed.head == 2


def keys_of(data: bytes) -> list[bytes]:
    return [line.split(b'"')[3] for line in data.split(b"\n") if line.startswith(b"data: ")]


def test_when_much_waits_the_newest_of_each_key_is_told(
    feed: Feed[Subscription], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who joined in between is told what is newer than that, as ever."""
    monkeypatch.setattr("kvs.server.feed.WATCH_GATHER_MAX_EVENTS", 4)
    early, late, later = (Subscription(b"", sight_of(EVERYBODY)) for _ in range(3))
    feed.join(early)
    feed.publish(committed(b"a", b"b"), 1)
    feed.join(late)
    feed.publish(committed(b"a", b"a", b"c", seq=3), 1)
    feed.join(later)
    feed.publish(committed(b"a", seq=6), 1)
    told = {watchers[0]: data for data, watchers in feed.take(nobody_asked)}
    assert keys_of(told[early]) == [b"b", b"c", b"a"]
    assert keys_of(told[late]) == [b"c", b"a"]
    assert keys_of(told[later]) == [b"a"]
    assert b"id: %b\n" % feed.position(2) in told[early]
    assert b"id: %b\n" % feed.position(3) not in told[early]


def test_what_waits_is_bounded_by_the_keys_that_change(
    feed: Feed[Subscription], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvs.server.feed.WATCH_GATHER_MAX_EVENTS", 4)
    feed.join(Subscription(b"", sight_of(EVERYBODY)))
    for seq in range(1, 1_000):
        assert feed.publish(committed(b"%d" % (seq % 10), seq=seq), 1) == []
    ((data, _),) = feed.take(nobody_asked)
    assert 10 <= len(keys_of(data)) <= 20
    assert set(keys_of(data)[-10:]) == {b"%d" % number for number in range(10)}


def test_watchers_for_whom_too_much_waits_are_given_up(
    feed: Feed[Subscription], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvs.server.feed.WATCH_GATHER_MAX_BYTES", 10_000)
    all_keys, one_key = Subscription(b"", sight_of(EVERYBODY)), Subscription(b"1", sight_of(EVERYBODY))
    feed.join(all_keys)
    feed.join(one_key)
    lost = [watcher for seq in range(1, 50) for watcher in feed.publish(committed(b"%d" % seq, seq=seq), 1)]
    assert lost == [all_keys]
    assert list(feed.joined()) == [one_key]
    ((data, watchers),) = feed.take(nobody_asked)
    assert watchers == [one_key]
    assert keys_of(data)[:2] == [b"1", b"10"]


def logged(count: int) -> MemoryStore:
    """So many records, of which nobody has heard, with their rows in the change log."""
    store = MemoryStore()
    for seq in range(1, count + 1):
        entry = b"dk%d" % seq
        store.commit({change_row(seq): entry, entry: encode(entry, Stored(record(), seq, 1, 0))})
    return store


def test_watchers_who_leave_in_time_are_not_given_up(feed: Feed[Subscription], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their channel is gone then, also where reading the log broke off before anybody was told."""
    store = logged(99)
    store.commit({b"dk99": b"rotten"})
    monkeypatch.setattr("kvs.server.feed.WATCH_GATHER_MAX_BYTES", 10_000)
    subscription = Subscription(b"", sight_of(EVERYBODY))
    feed.join(subscription)
    with pytest.raises(StoreCorrupt):
        feed.publish_log(store, 99, 1)
    feed.leave(subscription)
    assert feed.publish(committed(b"a", seq=100), 1) == []
    feed.join(subscription)
    assert feed.publish(committed(b"b", seq=101), 1) == []


def test_what_the_log_brings_is_bounded_too(feed: Feed[Subscription], monkeypatch: pytest.MonkeyPatch) -> None:
    store = logged(99)
    monkeypatch.setattr("kvs.server.feed.WATCH_GATHER_MAX_BYTES", 10_000)
    subscription = Subscription(b"", sight_of(EVERYBODY))
    feed.join(subscription)
    assert feed.publish_log(store, 99, 1) == [subscription]
    assert not feed.has_pending


def test_much_is_rendered_in_pieces(feed: Feed[Subscription]) -> None:
    """One piece when its turn comes: others wait meanwhile."""
    feed.join(Subscription(b"", sight_of(EVERYBODY)))
    feed.publish(committed(*[b"%d" % number for number in range(1_200)]), 1)
    pieces = [keys_of(data) for data, _ in feed.take(nobody_asked)]
    assert [len(piece) for piece in pieces] == [500, 500, 200]
    assert [key for piece in pieces for key in piece] == [b"%d" % number for number in range(1_200)]


def test_positions_rise_with_the_log_and_belong_to_it(feed: Feed[Subscription]) -> None:
    feed.publish(committed(*[b"a"] * 100), 1)
    positions = [int(feed.position(seq)) for seq in range(1, 101)]
    assert positions == sorted(set(positions))
    assert [feed.parse(str(position)) for position in positions] == list(range(1, 101))
    assert feed.parse("0") == 0
    other: Feed[Subscription] = Feed("another log", 100)
    for text in (other.position(5).decode(), "7", feed.position(101).decode()):
        with pytest.raises(ResyncRequired):
            feed.parse(text)
    for text in ("", "-1", "1.0", "\N{SUPERSCRIPT TWO}", "1" * 31):
        with pytest.raises(BadRequest):
            feed.parse(text)


def test_what_waits_is_measured_by_what_it_unpacks_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvs.server.feed.WATCH_GATHER_MAX_BYTES", 100_000)
    feed: Feed[Subscription] = Feed("log", 0)
    subscription = Subscription(b"", sight_of(EVERYBODY))
    feed.join(subscription)
    codec, payload = Compressor(enabled=True, level=3).pack(bytes(30_000))
    large = record(content_type="application/octet-stream", codec=codec, payload=payload)
    changes = [Change(b"d%d" % number, large, number + 1) for number in range(3)]
    assert feed.publish(Committed(changes, []), 1) == []
    assert feed.publish(Committed([Change(b"d3", large, 4)], []), 1) == [subscription]
