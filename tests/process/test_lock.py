"""A data directory has one user."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.daemon import Daemon, NotStarted


def test_a_second_node_on_the_same_data_is_refused_and_the_first_unharmed(
    make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    first = make_daemon(tmp_path / "first", name="first")
    second = make_daemon(tmp_path / "second", name="second", data_dir=first.data_dir)
    first.start()
    assert first.client.put("before", b'"1"').status == 201
    for _ in range(3):  # a lock that the first refusal releases would let a later one in
        with pytest.raises(NotStarted) as refusal:
            second.start()
        assert refusal.value.code == 1
    assert first.client.put("after", b'"2"').status == 201
    first.stop()
    said = [line for line in second.errors().splitlines() if "in use by another process" in line]
    assert len(said) == 3, second.errors()
    assert second.errors().count("\n") == 3, f"more than one line a refusal: {second.errors()}"
    for node in (first, second):
        node.assert_no_traceback()

    second.start()
    assert [json.loads(second.client.get(key).body)["data"] for key in ("before", "after")] == ["1", "2"]
    second.stop()
