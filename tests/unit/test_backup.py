"""The format of backups: what is written, what is left out, what is refused though its checksum is right."""

from hashlib import blake2b
from io import BytesIO

import msgspec
import pytest
import zstandard

from kvs.errors import BackupDamaged
from kvs.limits import BACKUP_ROWS_BYTES, BACKUP_ROWS_MAX
from kvs.storage.backup import Counts, Header, portions, summary, verify, write
from kvs.storage.codec import Stored, encode
from kvs.storage.keyspace import revision_row
from kvs.storage.memory import MemoryStore
from tests.backups import backup_of, header
from tests.records import record


def store_with(*keys: bytes, payload: bytes = b"1") -> MemoryStore:
    """A record under each of these keys of the store."""
    store = MemoryStore()
    entries = {key: key[1:].partition(b"\0")[0] if key.startswith(b"h") else key for key in keys}
    store.commit({key: encode(entry, Stored(record(payload=payload), 1, 1, 0)) for key, entry in entries.items()})
    return store


def forged(content: bytes, counts: Counts, *, level: int = 3) -> bytes:
    """A file whose checksum is right, whatever is in it."""
    head = zstandard.ZstdCompressor(level=level).compress(content)
    head += bytes.fromhex("502a4d18 50000000") + b"".join(count.to_bytes(8, "big") for count in counts)
    return head + blake2b(head, digest_size=32).digest()


def message(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


HEADER = message(msgspec.json.encode(header()))


def rows(*found: tuple[bytes, bytes]) -> bytes:
    return message(msgspec.msgpack.encode(found))


def row(key: bytes, entry: bytes = b"") -> tuple[bytes, bytes]:
    return key, encode(entry or key, Stored(record(), 1, 1, 0))


def test_documents_come_first_then_records_then_revisions() -> None:
    backup = backup_of(store_with(b"db", b"sa", revision_row(b"db", 1), b"da"))
    found = [(portion.section, [key for key, _ in portion.rows]) for portion in portions(BytesIO(backup))]
    assert found == [(b"s", [b"sa"]), (b"d", [b"da", b"db"]), (b"h", [revision_row(b"db", 1)])]
    assert verify(BytesIO(backup)).counts == Counts(1, 2, 1, 0, 0, summary(BytesIO(backup)).counts.content_bytes)


def test_only_these_kinds_are_in_a_backup() -> None:
    store = store_with(b"da")
    store.commit(dict.fromkeys([b"nidentity", b"t123", b"i123", b"m", b"c12345678", b"a1"], b"secret"))
    assert verify(BytesIO(backup_of(store))).counts.rows == 1


def test_an_empty_store_makes_a_whole_backup() -> None:
    assert verify(BytesIO(backup_of(MemoryStore()))).counts.rows == 0


def test_any_tool_for_zstd_unpacks_it() -> None:
    content = zstandard.ZstdDecompressor().decompressobj().decompress(backup_of(store_with(b"da")))
    assert content.startswith(HEADER[:4])
    assert msgspec.json.decode(content[4 : len(HEADER)], type=Header).node_id == "node1"


def test_messages_are_bounded_by_rows_and_by_bytes() -> None:
    many = backup_of(store_with(*(b"d%05d" % number for number in range(2 * BACKUP_ROWS_MAX + 1))))
    assert [len(portion.rows) for portion in portions(BytesIO(many))] == [BACKUP_ROWS_MAX, BACKUP_ROWS_MAX, 1]
    large = backup_of(store_with(b"da", b"db", b"dc", payload=bytes(BACKUP_ROWS_BYTES)))
    assert [len(portion.rows) for portion in portions(BytesIO(large))] == [1, 1, 1]


def test_corrupt_entries_are_left_out_and_counted() -> None:
    store = store_with(b"da", b"db", b"sx", revision_row(b"da", 1))
    for key in (b"db", revision_row(b"da", 1)):
        raw = store.get(key)
        assert raw is not None
        store.commit({key: raw[:-1] + b"2"})
    store.commit({b"dc": b"short", b"dd": b""})
    about = verify(BytesIO(backup_of(store)))
    assert about.counts[:5] == (1, 1, 0, 0, 4)


def test_whoever_watches_can_end_it() -> None:
    class Enough(Exception):
        pass

    def stop(counts: Counts) -> None:
        assert counts.rows == 1
        raise Enough

    with pytest.raises(Enough):
        write(BytesIO(), header(), store_with(b"da"), stop)


def test_progress_is_told_in_bytes_of_the_file() -> None:
    backup, heard = backup_of(store_with(b"da")), list[int]()
    verify(BytesIO(backup), heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == len(backup) - 88


A, B = row(b"da"), row(b"db")
GOOD = forged(HEADER + rows(A, B), Counts(records=2, content_bytes=len(HEADER + rows(A, B))))


def test_a_good_one_that_was_made_by_hand_is_taken() -> None:
    assert verify(BytesIO(GOOD)).counts.records == 2


NEWER = message(b'{"kvs_backup":2,"more":true}')
FORGERIES = {
    "no header": (b"", "no header"),
    "no JSON": (message(b"{"), "no header"),
    "another JSON": (message(b'{"a":1}'), "no header"),
    "a header with a wrong type": (message(b'{"kvs_backup":1,"version":7}'), "no header"),
    "a newer format": (NEWER, "format 2, this version of KVS reads format 1 only"),
    "a header of no year": (message(msgspec.json.encode(header(created_at=1 << 60))), "no header"),
    "a header from before time": (message(msgspec.json.encode(header(created_at=-1))), "no header"),
    "an endless header": ((1 << 31).to_bytes(4, "big"), "claims 2147483648 bytes"),
    "no length": (HEADER + b"\0\0", "ends too early"),
    "a length without anything": (HEADER + b"\0\0\0\x05", "ends too early"),
    "a length of nothing": (HEADER + bytes(4), "claims 0 bytes"),
    "too long a message": (HEADER + (1 << 30).to_bytes(4, "big"), "claims 1073741824 bytes"),
    "no msgpack": (HEADER + message(b"\xc1"), "holds no rows"),
    "no rows": (HEADER + message(b"\x90"), "holds no rows"),
    "text": (HEADER + message(msgspec.msgpack.encode([("da", "x")])), "holds no rows"),
    "state of the node": (HEADER + rows((b"nidentity", b"{}")), "holds no rows"),
    "an empty key": (HEADER + rows((b"", b"")), "holds no rows"),
    "a revision without a key": (HEADER + rows(row(b"h", b"d")), "damaged"),
    "a row under a foreign key": (HEADER + rows(row(b"da", b"db")), "fails its checksum"),
    "a row that is cut off": (HEADER + rows((b"da", A[1][:-1])), "fails its checksum"),
    "rows out of order": (HEADER + rows(B, A), "not in order"),
    "a row twice": (HEADER + rows(A, A), "not in order"),
    "a row twice, in two messages": (HEADER + rows(A) + rows(A), "not in order"),
    "sections mixed": (HEADER + rows(A, row(b"sa")), "not in order"),
    "sections out of order": (HEADER + rows(A) + rows(row(b"sa")), "not in order"),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_what_cannot_be_is_refused_whatever_its_checksum_says(what: str) -> None:
    content, reason = FORGERIES[what]
    with pytest.raises(BackupDamaged, match=reason):
        verify(BytesIO(forged(content, Counts(records=2, content_bytes=len(content)))))


@pytest.mark.parametrize("field", [field for field in Counts._fields if field != "left_out"])
def test_wrong_counts_are_refused(field: str) -> None:
    content = HEADER + rows(A, B)
    right = Counts(records=2, content_bytes=len(content))
    with pytest.raises(BackupDamaged, match="counts"):
        verify(BytesIO(forged(content, right._replace(**{field: getattr(right, field) + 1}))))


def test_a_bomb_takes_no_more_memory_than_one_message() -> None:
    """A megabyte that unpacks into gigabytes: its first message is refused by its length."""
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    parts = [packer.compress(HEADER + (60 * 1024 * 1024).to_bytes(4, "big"))]
    parts += [packer.compress(bytes(1 << 24)) for _ in range(128)]
    head = b"".join([*parts, packer.flush()]) + bytes.fromhex("502a4d18 50000000") + bytes(48)
    with pytest.raises(BackupDamaged, match="holds no rows"):
        verify(BytesIO(head + blake2b(head, digest_size=32).digest()))


def test_a_window_beyond_what_every_decoder_knows_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    head = packer.compress(HEADER) + packer.flush() + bytes.fromhex("502a4d18 50000000") + bytes(48)
    with pytest.raises(BackupDamaged, match="does not unpack"):
        verify(BytesIO(head + blake2b(head, digest_size=32).digest()))


def test_what_stands_behind_the_frame_is_found() -> None:
    """Another frame with other rows, which zstd would append: they are in no count."""
    more = zstandard.ZstdCompressor().compress(rows(row(b"dc")))
    head = GOOD[:-88] + more + GOOD[-88:-32]
    with pytest.raises(BackupDamaged):
        verify(BytesIO(head + GOOD[-32:]))
