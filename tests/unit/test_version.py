import pytest

from kvs.storage.record import Record
from kvs.storage.version import winner
from tests.records import record

LOW, HIGH = bytes(16), b"\xff" * 16


@pytest.mark.parametrize(
    ("wins", "loses"),
    [
        pytest.param(record(timestamp=2), record(timestamp=1, counter=9), id="newer timestamp"),
        pytest.param(record(counter=1), record(origin_joined=1), id="higher counter over older node"),
        pytest.param(record(origin_joined=1, uuid=HIGH), record(origin_joined=2, uuid=LOW), id="older node"),
        pytest.param(record(origin_joined=2), record(origin_joined=0), id="unknown joined counts as latest"),
        pytest.param(record(uuid=LOW), record(uuid=HIGH), id="smaller uuid"),
        pytest.param(record(deleted=True), record(), id="tombstone over value"),
    ],
)
def test_rule(wins: Record, loses: Record) -> None:
    assert winner(wins, loses) == wins
    assert winner(loses, wins) == wins
