"""Records for tests: one by hand, any by hypothesis."""

from hypothesis import strategies as st

from kvs.cluster.merging import judge
from kvs.storage.codec import Stored
from kvs.storage.compression import RAW
from kvs.storage.record import JSON, Record

UUID = bytes.fromhex("0f1e2d3c4b5a4978a6b5c4d3e2f10213")


def record(
    *,
    uuid: bytes = UUID,
    timestamp: int = 1_700_000_000_000,
    counter: int = 0,
    origin: str = "node1",
    origin_joined: int = 1_600_000_000_000,
    base: tuple[int, int] = (0, 0),
    owner: str = "",
    expires_at: int = 0,
    deleted: bool = False,
    content_type: str = JSON,
    codec: int = RAW,
    payload: bytes = b'{"a":1}',
) -> Record:
    """A record like most others."""
    return Record(
        uuid=uuid,
        timestamp=timestamp,
        counter=counter,
        origin=origin,
        origin_joined=origin_joined,
        base=base,
        owner=owner,
        expires_at=expires_at,
        deleted=deleted,
        content_type=content_type,
        codec=codec,
        payload=b"" if deleted else payload,
    )


def winner(a: Record, b: Record) -> Record:
    """The record that every node keeps when it knows both. For equal records it is `a`."""
    return b if judge(a, b).kind == "wins" else a


_u64 = st.integers(0, 2**64 - 1)
_u32 = st.integers(0, 2**32 - 1)
_text = st.text(max_size=40).filter(lambda text: len(text.encode()) <= 255)

records = st.builds(
    Record,
    uuid=st.binary(min_size=16, max_size=16),
    timestamp=_u64,
    counter=_u32,
    origin=_text,
    origin_joined=_u64,
    base=st.tuples(_u64, _u32),
    owner=_text,
    expires_at=_u64,
    deleted=st.booleans(),
    content_type=st.one_of(st.just(JSON), _text.filter(bool)),
    codec=st.just(RAW),
    payload=st.binary(max_size=200),
)

close_records = st.builds(
    Record,
    uuid=st.sampled_from([UUID, bytes(16), b"\xff" * 16]),
    timestamp=st.integers(0, 2),
    counter=st.integers(0, 1),
    origin=st.sampled_from(["a", "b"]),
    origin_joined=st.integers(0, 2),
    base=st.just((0, 0)),
    owner=st.sampled_from(["", "o"]),
    expires_at=st.integers(0, 1),
    deleted=st.booleans(),
    content_type=st.sampled_from([JSON, "text/plain"]),
    codec=st.just(RAW),
    payload=st.sampled_from([b"", b"1", b"2"]),
)
"""Records that often tie, so that every rule of the order gets its turn."""

stored = st.builds(Stored, record=records, seq=_u64, generation=_u32, kept=_u32)
