"""Reading the audit log by what its entries say. Heads bound the times of their runs: runs that cannot hold what is
looked for are passed over as a whole, so that last week is found in a log of years."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from kvs.actions import ACTIONS
from kvs.cluster.audit_heads import Head, decode_head
from kvs.errors import BadMessage, BadRequest
from kvs.limits import AUDIT_NUMBER_MAX, KEY_MAX_BYTES, OWNER_MAX_BYTES
from kvs.storage.audit import Entry, moment
from kvs.storage.keyspace import AUDIT_ENTRIES, AUDIT_HEADS, after, audit_head_row, audit_row
from kvs.storage.store import Reader


class Filter(NamedTuple):
    """What entries must say; None asks nothing. Times are text, as in entries: `since` inclusive, `until` exclusive."""

    action: str | None = None
    user_uuid: str | None = None
    since: str | None = None
    until: str | None = None
    resource: str | None = None

    def takes(self, entry: Entry | None) -> bool:
        """Whether to show an entry; None stands for a damaged one, of which nothing is known."""
        if entry is None:
            return self == EVERYTHING
        action, user_uuid, since, until, resource = self
        return (
            (action is None or entry.action == action)
            and (user_uuid is None or entry.user_uuid == user_uuid)
            and (since is None or entry.timestamp >= since)
            and (until is None or entry.timestamp < until)
            and (resource is None or entry.resource.startswith(resource))
        )

    def excludes(self, head: Head) -> bool:
        """Whether no entry of the head's run can be meant."""
        if not head.oldest:
            return False
        return (self.since is not None and head.newest < self.since) or (
            self.until is not None and head.oldest >= self.until
        )


EVERYTHING = Filter()


def read_filter(query: Mapping[str, str]) -> Filter:
    """Raises BadRequest."""
    action, user_uuid, resource = query.get("action"), query.get("user_uuid"), query.get("resource")
    if action is not None and action not in ACTIONS:
        raise BadRequest("action is one of " + ", ".join(ACTIONS), field="action")
    if user_uuid is not None and len(user_uuid) > OWNER_MAX_BYTES:
        raise BadRequest("user_uuid is a uuid, local, node or empty", field="user_uuid")
    if resource is not None and len(resource.encode()) > KEY_MAX_BYTES:
        raise BadRequest(f"resource has at most {KEY_MAX_BYTES} bytes", field="resource")
    return Filter(action, user_uuid, _time(query, "since"), _time(query, "until"), resource)


def _time(query: Mapping[str, str], name: str) -> str | None:
    """RFC 3339, or Unix milliseconds. Raises BadRequest."""
    text = query.get(name)
    if text is None:
        return None
    try:
        if text.isascii() and text.isdigit():
            return moment(int(text[:16])).decode()
        given = datetime.fromisoformat(text)
        if given.tzinfo is None:
            given = given.replace(tzinfo=UTC)
        return moment(round(given.timestamp() * 1000)).decode()
    except (ValueError, OverflowError):
        raise BadRequest(f"{name} is a time such as 2026-01-31T12:00:00Z, or Unix milliseconds", field=name) from None


def entries(
    reader: Reader, wanted: Filter, start: bytes | None, *, backwards: bool
) -> Iterator[tuple[bytes, bytes | None]]:
    """Rows that may be meant, from the row `start` on; None in the place of an entry stands for a run that is passed
    over."""
    first, stop = AUDIT_ENTRIES, after(AUDIT_ENTRIES)
    if start is not None and backwards:
        stop = start + b"\0"
    elif start is not None:
        first = start
    if wanted.since is None and wanted.until is None:
        yield from reader.scan(first, stop, backwards=backwards)
        return
    low = max(1, _number(first))
    high = min(AUDIT_NUMBER_MAX - 1, _number(stop))
    for begin, end, head in _runs_down(reader, low, high) if backwards else _runs_up(reader, low, high):
        if head is not None and wanted.excludes(head):
            yield audit_row(end if backwards else begin), None
        else:
            yield from reader.scan(max(first, audit_row(begin)), min(stop, audit_row(end + 1)), backwards=backwards)


def _runs_up(reader: Reader, low: int, high: int) -> Iterator[tuple[int, int, Head | None]]:
    """(first, last, head) of the parts into which heads divide `low` to `high`; None where none says what is in one."""
    for row, raw in reader.scan(audit_head_row(low, 0), after(AUDIT_HEADS)):
        last = min(_number(row), high)
        if low <= last:
            yield low, last, _covering(raw, low, last)
            low = last + 1
    if low <= high:
        yield low, high, None


def _runs_down(reader: Reader, low: int, high: int) -> Iterator[tuple[int, int, Head | None]]:
    """The same from the end."""
    ends = audit_head_row(high, 0)
    above = next(((_number(row), raw) for row, raw in reader.scan(ends, after(AUDIT_HEADS))), None)
    below = ((_number(row), raw) for row, raw in reader.scan(AUDIT_HEADS, ends, backwards=True))
    while high >= low:
        lower = next(below, None)
        begin = low if lower is None else max(low, lower[0] + 1)
        if begin <= high:
            yield begin, high, None if above is None else _covering(above[1], begin, high)
        high, above = begin - 1, lower


def _covering(raw: bytes, first: int, last: int) -> Head | None:
    """The head, if it is one and covers these entries."""
    try:
        head = decode_head(raw)
    except BadMessage:
        return None
    return head if head.first <= first and last <= head.last else None


def _number(row: bytes) -> int:
    """The number behind the two bytes of the prefix; that of the last entry in the row of a head."""
    return (
        int.from_bytes(row[2:10].ljust(8, b"\0"), "big")
        if row[:2] in (AUDIT_ENTRIES, AUDIT_HEADS)
        else AUDIT_NUMBER_MAX
    )
