"""The audit log as bytes: a chain, in which every entry vouches for all before it.

    a e <number:u64>   signature:64 text
    a t                number:u64 signature:64
    text        := number LF timestamp LF action LF user_uuid LF resource
    signature   := SHA3-512( signature of the entry before, text )

Entries are numbered from 1 without a gap; the number stands in the key and, so that a row that was moved shows where it
belongs, in the text. `timestamp` is RFC 3339 in UTC with milliseconds. No field holds a line feed. Before the first
entry stands, in the place of a signature, SHA3-512 of `kvs audit log LF <log> LF`, where `<log>` is the instance id of
the data directory: the log of another node does not fit.

The tip repeats number and signature of the last entry; in a log without one it is 0 and what stands before the first.
It is made with the data directory, and every batch with entries moves it: a log that ends before or behind it was
changed. That it was made anew as a whole, tip and all, is shown by heads (see kvs/cluster/audit_heads.py).
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha3_512
from typing import NamedTuple

from kvs.errors import StoreCorrupt
from kvs.limits import AUDIT_NUMBER_MAX, MOMENT_MAX_MS
from kvs.storage.keyspace import AUDIT_ENTRIES, AUDIT_TIP, audit_row, split_audit
from kvs.storage.store import Reader

SIGNATURE_BYTES = 64
_NUMBER_BYTES = 8
_FIELDS = 5
_TIMESTAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Tip(NamedTuple):
    """The end of the chain: the last entry's number, 0 while there is none, and its signature."""

    number: int
    signature: bytes


NO_TIP = Tip(0, b"")
"""For a tip that is missing or none. No entry rests on it."""


class Entry(NamedTuple):
    """`timestamp` is text as it is stored; `user_uuid` is a uuid or one of the words of `kvs.auth.principal`."""

    number: int
    timestamp: str
    action: str
    user_uuid: str
    resource: str
    signature: bytes


def genesis(log: str) -> bytes:
    """What stands in the place of the signature before the first entry."""
    return sha3_512(b"kvs audit log\n%b\n" % log.encode()).digest()


def sign(before: bytes, text: bytes) -> bytes:
    return sha3_512(before + text).digest()


def split(raw: bytes) -> tuple[bytes, bytes]:
    """(signature, text) of a stored entry."""
    return raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]


def decode(raw: bytes) -> Entry:
    """Raises ValueError for bytes that are no entry. Whether the signature is right is not looked at."""
    signature, text = split(raw)
    fields = text.split(b"\n")
    digits = fields[0]
    if len(signature) < SIGNATURE_BYTES or len(fields) != _FIELDS or not (digits.isdigit() and len(digits) <= 16):
        raise ValueError("these bytes are no entry of an audit log")
    number = int(digits)
    if b"%d" % number != digits or not 0 < number <= AUDIT_NUMBER_MAX:
        raise ValueError("these bytes are no entry of an audit log")
    timestamp, action, user, resource = (field.decode() for field in fields[1:])
    return Entry(number, timestamp, action, user, resource, signature)


def encode(entry: Entry) -> bytes:
    """What `decode` reads."""
    number, *fields, signature = entry
    return signature + "\n".join(map(str, (number, *fields))).encode()


def moment(unix_ms: int) -> bytes:
    """RFC 3339 in UTC, with milliseconds: 24 bytes, whose order is that of time."""
    unix_ms = min(max(unix_ms, 0), MOMENT_MAX_MS)
    return b"%b.%03dZ" % (_second(unix_ms // 1000), unix_ms % 1000)


@lru_cache(maxsize=8)
def _second(unix_s: int) -> bytes:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def timestamp_of(raw: bytes) -> str:
    """When a stored entry was written; empty where that cannot be read."""
    fields = raw[SIGNATURE_BYTES:].split(b"\n", 2)
    is_timed = len(fields) > 1 and _TIMESTAMP.fullmatch(fields[1])
    return fields[1].decode() if is_timed else ""


def hour_of(timestamp: str) -> str:
    """The hour that a timestamp is in."""
    return timestamp[:13]


def first_rows(log: str) -> dict[bytes, bytes]:
    """A log without an entry."""
    return {AUDIT_TIP: encode_tip(Tip(0, genesis(log)))}


def encode_tip(tip: Tip) -> bytes:
    return tip.number.to_bytes(_NUMBER_BYTES, "big") + tip.signature


def read_tip(reader: Reader) -> Tip:
    """Where the log ends by its own word; `NO_TIP` where that is not to be had."""
    try:
        raw = reader.get(AUDIT_TIP) or b""
    except StoreCorrupt:
        return NO_TIP
    number = int.from_bytes(raw[:_NUMBER_BYTES], "big")
    if len(raw) != _NUMBER_BYTES + SIGNATURE_BYTES or number > AUDIT_NUMBER_MAX:
        return NO_TIP
    return Tip(number, raw[_NUMBER_BYTES:])


def read_last(reader: Reader, log: str) -> Tip:
    """Where the stored entries end. Of a row that is no entry the first bytes count as a signature."""
    for row, raw in reader.scan(AUDIT_ENTRIES, audit_row(AUDIT_NUMBER_MAX), backwards=True):
        number = split_audit(row)
        if number is not None:
            return Tip(number, raw[:SIGNATURE_BYTES].ljust(SIGNATURE_BYTES, b"\0"))
    return Tip(0, genesis(log))
