import msgspec
import pytest

from kvs.cluster.merging import judge
from kvs.storage.compression import ZSTD
from kvs.storage.record import Record
from tests.records import record, winner

LOW, HIGH = bytes(16), b"\xff" * 16


@pytest.mark.parametrize(
    ("wins", "loses", "rule"),
    [
        pytest.param(record(timestamp=2), record(timestamp=1, counter=9), "timestamp", id="newer timestamp"),
        pytest.param(record(counter=1), record(origin_joined=1), "timestamp", id="higher counter over older node"),
        pytest.param(record(origin_joined=1, uuid=HIGH), record(origin_joined=2, uuid=LOW), "joined", id="older node"),
        pytest.param(record(origin_joined=2), record(origin_joined=0), "joined", id="unknown joined counts as latest"),
        pytest.param(record(uuid=LOW), record(uuid=HIGH), "uuid", id="smaller uuid"),
        pytest.param(record(deleted=True), record(), "content", id="tombstone over value"),
    ],
)
def test_rule(wins: Record, loses: Record, rule: str) -> None:
    assert winner(wins, loses) == winner(loses, wins) == wins
    assert judge(wins, loses).rule == judge(loses, wins).rule == rule


@pytest.mark.parametrize(
    ("wins", "loses"),
    [
        pytest.param(record(timestamp=2), record(timestamp=1), id="newer timestamp"),
        pytest.param(record(origin_joined=1), record(origin_joined=2), id="older node"),
        pytest.param(record(uuid=LOW), record(uuid=HIGH), id="smaller uuid"),
        pytest.param(record(), record(), id="the same version"),
    ],
)
def test_values_are_looked_at_only_where_nothing_else_decides(wins: Record, loses: Record) -> None:
    """They may be large, and are stored compressed. Here is none that could be read."""
    wins, loses = (msgspec.structs.replace(each, codec=ZSTD, payload=b"no value") for each in (wins, loses))
    assert winner(wins, loses) == winner(loses, wins) == wins
