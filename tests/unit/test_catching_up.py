"""What happens to the store within one step of a watcher on his way."""

from collections.abc import Iterator

import pytest

from kvs.auth.principal import EVERYBODY
from kvs.cluster.events import Put, Sweep
from kvs.limits import EXPIRY_GRACE_MS, EXPIRY_STEP_MS, WATCH_STEP_BYTES
from kvs.server.catching_up import CatchingUp, LostPlace
from kvs.server.feed import Subscription, sight_of
from kvs.storage.compression import RAW, Compressor
from kvs.storage.keyspace import EXPIRIES
from kvs.storage.record import new_uuid
from kvs.storage.state import read_progress
from tests.nodes import LoneNode

NOW_MS = 1_700_000_000_000
LATER_MS = NOW_MS + EXPIRY_GRACE_MS + 2 * EXPIRY_STEP_MS


class Swept:
    """A store from which what has expired leaves when the change log is read."""

    def __init__(self, node: LoneNode) -> None:
        self._node = node

    def get(self, key: bytes) -> bytes | None:
        return self._node.store.get(key)

    def scan(self, start: bytes, stop: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self._node.do(LATER_MS, Sweep(rows=tuple(self._node.rows(EXPIRIES))))
        return self._node.store.scan(start, stop, backwards=backwards)


def put(entry: bytes, ttl_ms: int = 0) -> Put:
    return Put(entry=entry, uuid=new_uuid(), codec=RAW, payload=b"1", ttl_ms=ttl_ms)


def test_an_end_that_is_swept_while_the_log_is_read_is_not_passed_over() -> None:
    node = LoneNode()
    node.do(NOW_MS, put(b"da", ttl_ms=1))
    node.do(NOW_MS, put(b"db"))
    way = CatchingUp(Subscription(b"", sight_of(EVERYBODY)), 0, node.store)
    way.seq = 0
    with pytest.raises(LostPlace):
        way.step(Swept(node), read_progress(node.store).seq, LATER_MS, lambda entry: None)


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_step_is_as_long_as_what_its_values_unpack_to(*, snapshot: bool) -> None:
    node = LoneNode()
    size_bytes = WATCH_STEP_BYTES // 2 + 1
    codec, payload = Compressor(enabled=True, level=3).pack(b'"%b"' % (b"x" * size_bytes))
    for number in range(10):
        node.do(NOW_MS, Put(entry=b"d%d" % number, uuid=new_uuid(), codec=codec, payload=payload))
    head = read_progress(node.store).seq
    way = CatchingUp(Subscription(b"", sight_of(EVERYBODY)), 0, node.store, snapshot=snapshot)
    way.seq = head if snapshot else 0
    told = []
    while (step := way.step(node.store, head, NOW_MS, lambda entry: None)) is not None:
        told.append(len(step.events))
    assert sum(told) == 10
    assert max(told) == 2
