"""The judge, on histories that are right and on histories that are not."""

from collections.abc import Callable

import pytest

from tests.chaos.history import Held, History, Mark

KEY = "k"


def put(history: History, node: str, value: bytes, timestamp: int) -> Mark:
    mark = history.mark(node, KEY)
    history.acknowledge(history.send(KEY, value), node, mark, timestamp, f"u{timestamp}")
    return mark


def delete(history: History, node: str, timestamp: int) -> None:
    mark = history.mark(node, KEY)
    write = history.send(KEY, None)
    history.acknowledge(write, node, mark)
    history.deleted(write, node, history.mark(node, KEY), timestamp)


def read(history: History, node: str, value: bytes | None, timestamp: int = 0) -> None:
    found = None if value is None else Held(timestamp, f"u{timestamp}", value)
    history.read(node, KEY, history.mark(node, KEY), found)


def end(history: History, value: bytes | None, timestamp: int) -> None:
    history.settle({KEY: Held(timestamp, f"u{timestamp}", value)}, ["a", "b"])


def a_write_is_lost(history: History) -> None:
    put(history, "a", b"1", 10)
    put(history, "b", b"2", 20)
    end(history, b"1", 10)


def a_key_is_lost(history: History) -> None:
    put(history, "a", b"1", 10)
    history.settle({KEY: None}, ["a", "b"])


def a_deletion_is_undone(history: History) -> None:
    put(history, "a", b"1", 10)
    delete(history, "b", 20)
    end(history, b"1", 10)


def a_deletion_nobody_sent(history: History) -> None:
    put(history, "a", b"1", 10)
    end(history, None, 20)


def a_value_nobody_sent(history: History) -> None:
    read(history, "a", b"?", 5)


def a_refused_value(history: History) -> None:
    history.refuse(history.send(KEY, b"no"))
    read(history, "a", b"no", 5)


def a_value_under_another_key(history: History) -> None:
    history.send("other", b"1")
    read(history, "a", b"1", 5)


def own_write_is_not_read(history: History) -> None:
    put(history, "a", b"1", 10)
    put(history, "a", b"2", 20)
    read(history, "a", b"1", 10)


def own_write_is_gone(history: History) -> None:
    put(history, "a", b"1", 10)
    read(history, "a", None)
    end(history, b"1", 10)


def a_read_goes_back(history: History) -> None:
    put(history, "b", b"1", 10)
    put(history, "b", b"2", 20)
    read(history, "a", b"2", 20)
    read(history, "a", b"1", 10)


def a_read_goes_back_behind_a_deletion(history: History) -> None:
    put(history, "a", b"1", 10)
    delete(history, "a", 20)
    read(history, "a", b"1", 10)


def an_older_deletion_excuses_nothing(history: History) -> None:
    delete(history, "a", 5)
    put(history, "a", b"1", 10)
    read(history, "a", None)
    end(history, b"1", 10)


def what_was_read_is_lost(history: History) -> None:
    history.send(KEY, b"1")
    read(history, "a", b"1", 10)
    history.settle({KEY: None}, ["a", "b"])


def a_node_goes_back_behind_what_all_had(history: History) -> None:
    put(history, "a", b"1", 10)
    put(history, "a", b"2", 20)
    end(history, b"2", 20)
    read(history, "b", b"1", 10)


def a_deletion_of_long_ago_excuses_nothing(history: History) -> None:
    history.send(KEY, None)
    put(history, "a", b"1", 10)
    end(history, b"1", 10)
    read(history, "b", None)
    end(history, b"1", 10)


def a_write_below_what_was_there(history: History) -> None:
    put(history, "a", b"1", 20)
    put(history, "a", b"2", 10)


def one_write_with_two_versions(history: History) -> None:
    put(history, "a", b"1", 10)
    read(history, "b", b"1", 11)


@pytest.mark.parametrize(
    "play",
    [
        a_write_is_lost,
        a_key_is_lost,
        a_deletion_is_undone,
        a_deletion_nobody_sent,
        a_value_nobody_sent,
        a_refused_value,
        a_value_under_another_key,
        own_write_is_not_read,
        own_write_is_gone,
        a_read_goes_back,
        a_read_goes_back_behind_a_deletion,
        an_older_deletion_excuses_nothing,
        what_was_read_is_lost,
        a_node_goes_back_behind_what_all_had,
        a_deletion_of_long_ago_excuses_nothing,
        a_write_below_what_was_there,
        one_write_with_two_versions,
    ],
    ids=lambda play: play.__name__,
)
def test_what_is_wrong_is_found(play: Callable[[History], None]) -> None:
    history = History()
    play(history)
    assert len(history.violations) == 1


def test_what_is_right_is_right() -> None:
    history = History()
    put(history, "a", b"1", 10)
    read(history, "a", b"1", 10)
    read(history, "b", None)  # not there yet
    unknown = history.send(KEY, b"2")
    read(history, "b", b"2", 15)  # it took effect without an answer
    assert unknown.timestamp == 15
    put(history, "a", b"3", 12)  # concurrent, and older: b stays
    read(history, "a", b"2", 15)
    delete(history, "b", 30)
    read(history, "b", None)
    end(history, None, 30)
    history.settle({KEY: None}, ["a", "b"])  # forgotten
    put(history, "a", b"4", 40)
    end(history, b"4", 40)
    assert history.violations == []
    assert history.counts() == {"acknowledged": 4, "refused": 0, "unknown": 1}


def test_a_deletion_without_an_answer_may_have_taken_effect() -> None:
    history = History()
    put(history, "a", b"1", 10)
    history.send(KEY, None)
    read(history, "a", None)
    end(history, None, 20)
    assert history.violations == []


def test_what_two_disks_had_is_not_lost_with_one() -> None:
    history = History()
    put(history, "a", b"1", 10)
    put(history, "a", b"2", 20)
    read(history, "b", b"1", 10)
    history.lost_its_disk("a")
    end(history, b"1", 10)
    assert history.violations == []
    mark = history.mark("a", KEY)
    history.acknowledge(history.send(KEY, b"3"), "a", mark, 30, "u30", disks=2)
    put(history, "a", b"4", 40)
    history.lost_its_disk("a")
    end(history, b"1", 10)
    assert len(history.violations) == 1
    assert "30 was there" in history.violations[0]


def test_a_node_that_lost_its_disk_may_begin_again() -> None:
    history = History()
    put(history, "a", b"1", 10)
    put(history, "a", b"2", 20)
    end(history, b"2", 20)
    before = history.mark("a", KEY)
    history.lost_its_disk("a")
    history.acknowledge(history.send(KEY, b"late"), "a", before, 30, "u30")  # its answer was under way
    read(history, "a", b"1", 10)
    assert history.violations == []
    end(history, b"1", 10)
    assert len(history.violations) == 1, "the cluster may not"
