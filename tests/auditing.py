"""Audit logs made up for tests, and everything that may be done to one."""

from collections.abc import Iterable, Mapping, Sequence

from kvs.actions import ACTIONS
from kvs.cluster.audit_check import Anchor, Report, Row, Tips, check
from kvs.cluster.audit_heads import Head, HeadKey, decode_head, encode
from kvs.cluster.audit_run import Run
from kvs.cluster.trail import Trail
from kvs.storage.audit import decode, encode_tip, first_rows, genesis, read_last, read_tip, sign, split
from kvs.storage.audit import encode as encode_entry
from kvs.storage.keyspace import (
    AUDIT,
    AUDIT_ENTRIES,
    AUDIT_HEADS,
    AUDIT_TIP,
    after,
    audit_head_row,
    audit_row,
    split_audit,
    split_audit_head,
)
from kvs.storage.memory import MemoryStore
from tests.nodes import LOG

KEY = HeadKey(b"\x07" * 32)
START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
USER = "d34cdb10-90f0-4c06-ab8b-72a38fff0fff"

Rows = dict[bytes, bytes]


def store_of(rows: Rows) -> MemoryStore:
    store = MemoryStore()
    store.commit(dict(rows))
    return store


def make_log(entries: Iterable[int], *, log: str = LOG, key: HeadKey = KEY, signed: bool = True) -> Rows:
    """The rows of a log with entries at these times (Unix ms), and, if it is `signed`, heads of all of them."""
    rows = written_on(first_rows(log), entries, log=log)
    return {**rows, **(heads_of(rows, log=log, key=key) if signed else {})}


def written_on(rows: Rows, times: Iterable[int], *, log: str = LOG) -> Rows:
    """The log after a node was started on it and wrote entries at these times."""
    store = store_of(rows)
    trail = Trail(log, ACTIONS, store)
    for number, now_ms in enumerate(times, 1):
        lines = [(b"data_write", USER.encode(), b"site/%d" % number)]
        batch: dict[bytes, bytes | None] = {}
        trail.tip = trail.extend(lines, now_ms, batch)
        store.commit(batch)
    return dict(store.scan(AUDIT, after(AUDIT)))


def heads_of(rows: Rows, *, log: str = LOG, key: HeadKey = KEY) -> Rows:
    """The rows of the heads of a log, all of whose hours are over."""
    run = Run(key, "node1", log, None)
    found: Rows = {}
    now_ms = START_MS + 10_000 * HOUR_MS

    def close() -> None:
        head = run.head(now_ms)
        found[audit_head_row(head.last, head.number)] = encode(head)
        run.written(head)

    for row, raw in sorted(rows.items()):
        number = split_audit(row)
        if row.startswith(AUDIT_ENTRIES) and number is not None and not run.take(number, raw):
            close()
            assert run.take(number, raw)
    if run.is_open:
        close()
    return found


def heads_in(rows: Rows) -> list[Head]:
    return [decode_head(raw) for row, raw in sorted(rows.items()) if row.startswith(AUDIT_HEADS)]


def entries_in(rows: Rows) -> list[bytes]:
    return [raw for row, raw in sorted(rows.items()) if row.startswith(AUDIT_ENTRIES)]


def numbered(entries: Sequence[bytes]) -> Rows:
    """Under the numbers of their places, as somebody would put them who hides that he was there."""
    return {audit_row(place): raw for place, raw in enumerate(entries, 1)}


def check_rows(
    rows: Mapping[bytes, bytes], anchors: Sequence[Anchor] = (), *, log: str = LOG, keys: Iterable[str] | None = None
) -> Report:
    ordered = sorted(rows.items())
    entries = [Row(split_audit(row), raw) for row, raw in ordered if row.startswith(AUDIT_ENTRIES)]
    heads = [Row(split_audit_head(row), raw) for row, raw in ordered if row.startswith(AUDIT_HEADS)]
    tip = read_tip(store_of(dict(rows)))
    return check(log, entries, heads, Tips(tip, lambda: tip), anchors, [KEY.public] if keys is None else keys)


def with_tip(rows: Rows, log: str = LOG) -> Rows:
    """With the tip that belongs to the entries, as somebody would put it who knows of it."""
    return {**rows, AUDIT_TIP: encode_tip(read_last(store_of(rows), log))}


def forged(before: bytes, number: int, resource: str = "forged") -> bytes:
    """An entry that fits behind another one, by somebody who can compute SHA3-512."""
    entry = decode(before)._replace(number=number, resource=resource)
    text = split(encode_entry(entry))[1]
    return sign(split(before)[0], text) + text


def rewritten(entries: Sequence[bytes], first: int, *, log: str = LOG) -> list[bytes]:
    """The entries with another one in the place `first`, and all from there on signed anew."""
    made = list(entries[: first - 1])
    before = split(made[-1])[0] if made else genesis(log)
    for place in range(first, len(entries) + 1):
        resource = "rewritten" if place == first else decode(entries[place - 1]).resource
        text = split(encode_entry(decode(entries[place - 1])._replace(resource=resource)))[1]
        before = sign(before, text)
        made.append(before + text)
    return made
