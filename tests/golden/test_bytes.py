"""The bytes on disk, pinned. A change here is a change of format and needs a new format number."""

from kvs.storage import keyspace
from kvs.storage.codec import Stored, encode
from kvs.storage.state import Progress, encode_progress
from kvs.storage.version import content_hash
from tests.records import record

ENTRY = b"dsite/a"


def test_a_value() -> None:
    raw = encode(ENTRY, Stored(record(), seq=7, generation=2, kept=1))
    assert raw.hex() == (
        "01" "6ad6fa82"  # format, checksum
        "0000000000000007" "00000002" "00000001"  # seq, generation, kept
        "00" "00"  # flags, codec
        "0000018bcfe56800" "00000000"  # timestamp, counter
        "00000174876e8000" "0000000000000000" "00000000" "0000000000000000"  # origin_joined, base, expires_at
        "0f1e2d3c4b5a4978a6b5c4d3e2f10213"  # uuid
        "05" "00" "00"  # lengths of origin, owner, type
        "6e6f646531" "7b2261223a317d"  # origin, payload
    )  # fmt: skip


def test_a_blob_with_everything() -> None:
    what = record(
        counter=3,
        base=(1_699_999_999_999, 2),
        owner="someone",
        expires_at=1_700_000_060_000,
        content_type="image/png",
        payload=b"\x89P",
    )
    raw = encode(ENTRY, Stored(what, seq=2**40, generation=1, kept=0))
    assert raw.hex() == (
        "01" "f105d722"
        "0000010000000000" "00000001" "00000000"
        "00" "00"
        "0000018bcfe56800" "00000003"
        "00000174876e8000" "0000018bcfe567ff" "00000002" "0000018bcfe65260"
        "0f1e2d3c4b5a4978a6b5c4d3e2f10213"
        "05" "07" "09"
        "6e6f646531" "736f6d656f6e65" "696d6167652f706e67" "8950"
    )  # fmt: skip


def test_a_tombstone() -> None:
    raw = encode(ENTRY, Stored(record(deleted=True), seq=8, generation=3, kept=2))
    assert raw.hex() == (
        "01" "ea8fb155"
        "0000000000000008" "00000003" "00000002"
        "01" "00"
        "0000018bcfe56800" "00000000"
        "00000174876e8000" "0000000000000000" "00000000" "0000000000000000"
        "0f1e2d3c4b5a4978a6b5c4d3e2f10213"
        "05" "00" "00"
        "6e6f646531"
    )  # fmt: skip


def test_rows() -> None:
    assert keyspace.data_key(b"k") == b"dk"
    assert keyspace.system_key(b"k") == b"sk"
    assert keyspace.time_row(1, 2, b"dk").hex() == "74" "0000000000000001" "00000002" "646b"  # fmt: skip
    assert keyspace.expiry_row(1, b"dk").hex() == "65" "0000000000000001" "646b"  # fmt: skip
    assert keyspace.tombstone_row(1, b"dk").hex() == "78" "0000000000000001" "646b"  # fmt: skip
    assert keyspace.change_row(1).hex() == "63" "0000000000000001"  # fmt: skip
    assert keyspace.revision_row(b"dk", 1).hex() == "68" "646b" "00" "00000001"  # fmt: skip
    assert encode_progress(Progress(1, 2, 3, 4, 5)).hex() == (
        "0000000000000001" "00000002" "0000000000000003" "0000000000000004" "0000000000000005"
    )  # fmt: skip


def test_the_content_hash() -> None:
    assert content_hash(record()).hex() == "423d9fbf9b03d89df6f7709be9ec1d07bc97aa9d1964d53f949bbaa771eaf3dc"
