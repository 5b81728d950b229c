"""The bytes of a backup, pinned. Backups are kept for years: what is pinned here must be readable for ever."""

from io import BytesIO

import zstandard

from kvs.storage.backup import Counts, portions, verify
from kvs.storage.codec import Stored, decode, encode
from kvs.storage.memory import MemoryStore
from tests.backups import backup_of, header
from tests.records import record

ENTRY, USER = b"dsite/a", b"suser/1"
ROWS = {
    USER: Stored(record(deleted=True), 8, 1, 0),
    ENTRY: Stored(record(), 7, 2, 1),
    b"hdsite/a\0\0\0\0\1": Stored(record(timestamp=1_699_999_999_999, payload=b"0"), 6, 1, 0),
}
ABOUT = header(progress=(1_700_000_000_000, 0, 8))

FRAME = (
    "28b52ffd0458d50800a20f3935606b9a039021494f9861400ce1c4608701009061f4b3cab74eb8e9bac56ed69b4ddae8"
    "2aa543f90f127b6f7f3258b00a14d6eabf536fc402f2e1b4807b50a28cd690ab810d8c2d5b23f90fdd42a463a2456419"
    "d1ccc213ca9ecef51fd269eb0f502009f9e0c81b18140b0e15ca8101c12bea45d65e817c38ededbfc06b05616a0c1946"
    "97620c86b2a733ff6f282b61d9eec5bed65ea876145f24151b5f4a3169caaa1d84827b0fb131a6d7622fd6aea1355599"
    "e16ab56b187b5a129db6b67b09307626a5493349efd4aedf044e5ec7aed6c29766dac1d818e69aa4848433576b34fe07"
    "1400834d04600a02d0815c1846da0d73642c47665a438237147d30141cdd3bb146c9057c18cfa3238420414e375bc4b4"
    "0dec01c1379e57"
)  # fmt: skip
FOOTER = (
    "502a4d18" "50000000"  # a skippable frame of 80 bytes
    "0000000000000001" "0000000000000001"  # documents, records
    "0000000000000001" "0000000000000001"  # revisions, tombstones
    "0000000000000000" "00000000000001fd"  # left out, bytes of the content
    "a29a0efb7b7886910b64add40cd74568ae008ec5ce17174fa1cb4033f2528b31"  # digest
)  # fmt: skip
BACKUP = bytes.fromhex(FRAME + FOOTER)

CONTENT = (
    b"\0\0\0\xb3"
    b'{"kvs_backup":1,"version":"0.1.0","created_at":1700000000000,"node_id":"node1","instance_id":"i1",'
    b'"progress":[1700000000000,0,8],"had_peers":false,"floor":0,"as_of":1700000000000}'
    + bytes.fromhex(
        "00000064" "91" "92" "c407" "73757365722f31" "c457"  # an array of one pair: 7 bytes, 87 bytes
        "0163344b6e0000000000000008000000010000000001000000018bcfe568000000000000000174876e800000000000000000000000"
        "000000000000000000000f1e2d3c4b5a4978a6b5c4d3e2f102130500006e6f646531"
        "0000006b" "91" "92" "c407" "64736974652f61" "c45e"
        "016ad6fa820000000000000007000000020000000100000000018bcfe568000000000000000174876e800000000000000000000000"
        "000000000000000000000f1e2d3c4b5a4978a6b5c4d3e2f102130500006e6f6465317b2261223a317d"
        "0000006b" "91" "92" "c40d" "6864736974652f610000000001" "c458"
        "01ab2f3ce00000000000000006000000010000000000000000018bcfe567ff0000000000000174876e800000000000000000000000"
        "000000000000000000000f1e2d3c4b5a4978a6b5c4d3e2f102130500006e6f64653130"
    )
)  # fmt: skip


def entry_of(key: bytes) -> bytes:
    return ENTRY if key[:1] == b"h" else key


def test_a_backup_of_format_1_is_read() -> None:
    found = dict(row for portion in portions(BytesIO(BACKUP)) for row in portion.rows)
    assert {key: decode(entry_of(key), raw) for key, raw in found.items()} == ROWS
    about = verify(BytesIO(BACKUP))
    assert about.header == ABOUT
    assert about.counts == Counts(1, 1, 1, 1, 0, len(CONTENT))


def test_a_backup_of_format_1_is_written() -> None:
    """But for what zstd makes of it, which may differ from one version of zstd to the next."""
    store = MemoryStore()
    store.commit({key: encode(entry_of(key), stored) for key, stored in ROWS.items()})
    made = backup_of(store, ABOUT)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(made) == CONTENT
    assert made[-88:-32].hex() == FOOTER[:-64]
