"""What the feed keeps back, and what it forgets."""

import pytest

from kvs.auth.permissions import Metadata
from kvs.auth.principal import EVERYBODY, Principal
from kvs.cluster.events import Change, Committed
from kvs.errors import BadRequest, ResyncRequired, StoreClosed, StoreCorrupt
from kvs.server.feed import Feed, Subscription, sight_of
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
    parcels = feed.take(lambda _: None)
    assert sorted(len(watchers) for _, watchers in parcels) == [1, 2, 2]
    assert len({data for data, _ in parcels}) == 1


def test_metadata_are_looked_up_once_for_all_and_only_for_those_who_need_them(feed: Feed[Subscription]) -> None:
    feed.join(Subscription(b"", sight_of(EVERYBODY)))
    feed.publish(committed(b"a"), 1)
    assert feed.take(nobody_asked)
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

    told = {watchers[0]: data for data, watchers in feed.take(corrupt)}
    assert (bool(told[bypassing]), told[other]) == (True, b"")


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
    assert feed.take(lambda _: None) == []


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
