"""Where each kind of entry stands in the store.

    entry key        value                what it is
    d <key>          stored record        the current record of a user's key (see codec.py)
    s <key>          stored record        the current record of one of KVS's own keys (metadata, accounts)
    h <space><key> 00 <generation:u32>
                     stored record        revision: a record that was replaced, byte for byte
    t <timestamp:u64> <counter:u32> <space><key>
                     empty                time index: every current record by its version
    e <expires_at:u64> <space><key>
                     empty, or seq:u64    expiry index: current records that end; their place in c once that is past
    x <timestamp:u64> <space><key>
                     empty                tombstone index: current records that are tombstones
    c <seq:u64>      <space><key>         change log: the latest local commit of every key
    n <name>         see state.py         node state
    o <space><key>   timestamp:u64 counter:u32
                     a version that was here and was replaced (see kvs/cluster/superseded.py)
    i <space><key>   32 bytes             Merkle item of a current record (see kvs/cluster/merkle.py)
    m <space><key>   count:u32 sum:32     Merkle run: the items from this entry key up to the next run's
    a e <number:u64> signature, text      audit log: an entry (see audit.py)
    a h <last:u64> <number:u64>
                     JSON                 audit log: a signed head (see kvs/cluster/audit_heads.py)
    a t              number:u64 signature:64
                                          audit log: the tip, which says what its last entry is
    a p <node id>    JSON                 audit log: the heads that are kept of another node
    a c              JSON                 audit log: the configuration that the node last ran with, as digests

Integers are big-endian, so the order of bytes is the order of numbers. `<space>` is the byte `d` or `s`.
A `<space><key>` is called an entry key; a user's key can never reach another kind of entry, because it always stands
behind `d`. Keys hold no control characters, so the 00 behind a key in `h` ends it.

Rows of t, e, x and c are hints: whoever follows one compares it with the record it leads to. A prefix byte, once used,
is never given another meaning.
"""

from struct import Struct

from kvs.limits import AUDIT_NUMBER_MAX

DATA = b"d"
SYSTEM = b"s"
REVISIONS = b"h"
TIMES = b"t"
EXPIRIES = b"e"
TOMBSTONES = b"x"
CHANGES = b"c"
STATE = b"n"
SUPERSEDED = b"o"
ITEMS = b"i"
RUNS = b"m"
AUDIT = b"a"
AUDIT_ENTRIES = AUDIT + b"e"
AUDIT_HEADS = AUDIT + b"h"
AUDIT_TIP = AUDIT + b"t"
AUDIT_PEERS = AUDIT + b"p"
AUDIT_CONFIG = AUDIT + b"c"

_TIME = Struct(">cQI")
_MOMENT = Struct(">cQ")
_GENERATION = Struct(">I")
_AUDIT_ENTRY = Struct(">2sQ")
_AUDIT_HEAD = Struct(">2sQQ")


METADATA = SYSTEM + b"metadata/"
"""What the entry keys of metadata begin with."""


def data_key(key: bytes) -> bytes:
    """The entry key of a user's key."""
    return DATA + key


def system_key(key: bytes) -> bytes:
    """The entry key of one of KVS's own keys."""
    return SYSTEM + key


def path_of(entry: bytes) -> str:
    """An entry key as text: a user's key as it is, one of KVS's own behind a slash, which no user's key begins with."""
    return entry[1:].decode(errors="replace") if entry.startswith(DATA) else "/" + entry[1:].decode(errors="replace")


def entry_of(path: str) -> bytes:
    """What `path_of` was made of."""
    return SYSTEM + path[1:].encode() if path.startswith("/") else DATA + path.encode()


def metadata_key(entry: bytes) -> bytes:
    """The entry key of the metadata of a user's key, given its entry key."""
    return METADATA + entry[1:]


def time_row(timestamp: int, counter: int, entry: bytes) -> bytes:
    return _TIME.pack(TIMES, timestamp, counter) + entry


def expiry_row(expires_at: int, entry: bytes) -> bytes:
    return _MOMENT.pack(EXPIRIES, expires_at) + entry


def tombstone_row(timestamp: int, entry: bytes) -> bytes:
    return _MOMENT.pack(TOMBSTONES, timestamp) + entry


def change_row(seq: int) -> bytes:
    return _MOMENT.pack(CHANGES, seq)


def superseded_row(entry: bytes) -> bytes:
    """The row of a version of the entry that was replaced while a peer was away."""
    return SUPERSEDED + entry


def encode_seq(seq: int) -> bytes:
    return seq.to_bytes(8, "big")


def decode_seq(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def revision_row(entry: bytes, generation: int) -> bytes:
    return b"".join((REVISIONS, entry, b"\0", _GENERATION.pack(generation)))


def revision_range(entry: bytes) -> tuple[bytes, bytes]:
    """Start (inclusive) and stop (exclusive) of all revision rows of one entry."""
    return REVISIONS + entry + b"\0", REVISIONS + entry + b"\x01"


def split_moment(row: bytes) -> tuple[int, bytes]:
    """(Unix milliseconds, entry key) of an expiry or tombstone row."""
    return int.from_bytes(row[1:9], "big"), row[9:]


def split_time(row: bytes) -> tuple[int, bytes]:
    """(Unix milliseconds, entry key) of a row of the time index."""
    return int.from_bytes(row[1:9], "big"), row[_TIME.size :]


def split_change(row: bytes) -> int:
    """The sequence number of a row of the change log."""
    return decode_seq(row[1:])


def split_revision(row: bytes) -> tuple[bytes, int]:
    """(entry key, generation) of a revision row."""
    return row[1:-5], int.from_bytes(row[-4:], "big")


def after(prefix: bytes) -> bytes:
    """The first byte string behind everything that begins with `prefix`; `prefix` ends with a byte below 0xff."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def moment_range(prefix: bytes, until: int) -> tuple[bytes, bytes]:
    """Range of the rows of an expiry or tombstone index with a moment at or before `until`."""
    return prefix, _MOMENT.pack(prefix, until + 1)


def audit_row(number: int) -> bytes:
    """The row of an entry of the audit log."""
    return _AUDIT_ENTRY.pack(AUDIT_ENTRIES, number)


def audit_head_row(last: int, number: int) -> bytes:
    """The row of a signed head, by the last entry that it covers: so it is found from an entry."""
    return _AUDIT_HEAD.pack(AUDIT_HEADS, last, number)


def split_audit(row: bytes) -> int | None:
    """The number in the key of an entry; None for a key that is none."""
    return _audit_number(row[2:]) if len(row) == _AUDIT_ENTRY.size else None


def split_audit_head(row: bytes) -> int | None:
    """The head's own number in its key; None for a key that is none."""
    return _audit_number(row[10:]) if len(row) == _AUDIT_HEAD.size else None


def _audit_number(field: bytes) -> int | None:
    number = int.from_bytes(field, "big")
    return number if number <= AUDIT_NUMBER_MAX else None


def audit_peer_row(node_id: str) -> bytes:
    """The row of the heads that are kept of another node."""
    return AUDIT_PEERS + node_id.encode()
