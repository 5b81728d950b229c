"""What a node should do, in plain Python: a list of versions for each key, and no indexes, batches or bytes."""

from copy import deepcopy
from typing import NamedTuple, cast

from kvs.cluster.events import (
    ANY,
    Command,
    Condition,
    Delete,
    Discard,
    Lapse,
    Look,
    Merge,
    Note,
    Put,
    Remember,
    Restore,
    Scrub,
    Sweep,
    Transact,
    Trim,
)
from kvs.limits import EXPIRY_GRACE_MS, EXPIRY_STEP_MS
from kvs.storage.keyspace import DATA, SYSTEM
from kvs.storage.record import derived_uuid, uuid_text

Answer = tuple[object, ...]
"""("written", version, created), ("transacted", values), ("swept", count), ("not found",), or ("failed",) where a
precondition did."""


class Version(NamedTuple):
    uuid: bytes
    stamp: tuple[int, int]
    data: bytes
    expires_at: int
    deleted: bool

    def is_live(self, now_ms: int) -> bool:
        return not self.deleted and (not self.expires_at or now_ms < self.expires_at)

    def is_shown(self, now_ms: int) -> bool:
        """Whether a history may tell of it."""
        return self.deleted or self.is_live(now_ms)

    def over_at(self, retention_ms: int) -> int | None:
        """From when on (Unix ms) background work takes it off the disk."""
        if self.deleted:
            return self.stamp[0] + retention_ms + 1
        return leaves_ms(self.expires_at) if self.expires_at else None


def leaves_ms(expires_at: int) -> int:
    """When a value that ends then leaves the disk, at the next whole step."""
    return -(-expires_at // EXPIRY_STEP_MS) * EXPIRY_STEP_MS + EXPIRY_GRACE_MS


class Model:
    """`lines` holds the kept versions of every entry, newest first; `numbers` that of its latest write, or of its end,
    where that was `noted`. `stamp` and `number` are the highest ones given out, `log_start` the highest of a user's key
    that went with its entry."""

    def __init__(self, versions_max: int, retention_ms: int) -> None:
        self.versions_max = versions_max
        self.lines: dict[bytes, list[Version]] = {}
        self.numbers: dict[bytes, int] = {}
        self.stamp, self.number = (0, 0), 0
        self.noted: set[bytes] = set()
        self.log_start = 0
        self._retention_ms = retention_ms

    def copy(self) -> "Model":
        return deepcopy(self)

    def history(self, entry: bytes, now_ms: int) -> list[tuple[int, Version]]:
        numbered = enumerate(self.lines.get(entry, [])[: self.versions_max], start=1)
        return [(number, version) for number, version in numbered if version.is_shown(now_ms)]

    def live(self, entry: bytes, now_ms: int) -> Version | None:
        current = next(iter(self.lines.get(entry, [])), None)
        return current if current is not None and current.is_live(now_ms) else None

    def over_at(self, entry: bytes) -> int | None:
        """From when on (Unix ms) the entry and all its versions go."""
        return self.lines[entry][0].over_at(self._retention_ms) if entry in self.lines else None

    def do(self, command: Command, now_ms: int) -> Answer:
        match command:
            case Sweep(rows=rows):
                return ("swept", sum(self._remove(entry, now_ms) for entry in {row[9:] for row in rows}))
            case Lapse(rows=rows):
                return ("swept", sum(self._note_end(row[9:], int.from_bytes(row[1:9], "big"), now_ms) for row in rows))
            case Trim(entry=entry):
                kept = self.lines.get(entry, [])
                surplus = kept[self._most(entry) :]
                self.lines |= {entry: kept[: self._most(entry)]} if surplus else {}
                return ("swept", len(surplus))
            case Transact():
                return self._transact(command, now_ms)
            case Put() | Delete() | Restore():
                return self._write(command, now_ms)
            case Merge() | Discard() | Scrub() | Remember() | Note():
                raise AssertionError("a lone node has no peers")

    def _transact(self, command: Transact, now_ms: int) -> Answer:
        # A version has what `decide` looks at in a record.
        values = command.decide(cast(Look, lambda entry: self.live(entry, now_ms)), now_ms)
        for entry, value in values.items():
            if value is not None or self.live(entry, now_ms) is not None:
                self._add(entry, derived_uuid(command.uuid, entry), now_ms, value or b"", deleted=value is None)
        return ("transacted", dict(values))

    def _write(self, command: Put | Delete | Restore, now_ms: int) -> Answer:
        live = self.live(command.entry, now_ms)
        data, expires_at, deleted = b"", 0, False
        match command:
            case Put():
                data, expires_at = command.payload, now_ms + command.ttl_ms if command.ttl_ms else 0
            case Delete():
                if live is None:
                    return ("not found",)
                deleted = True
            case Restore():
                old = dict(self.history(command.entry, now_ms)).get(command.revision)
                if old is None:
                    return ("not found",)
                data, expires_at, deleted = old.data, old.expires_at, old.deleted
        if not _holds(command.condition, live):
            return ("failed",)
        version = self._add(command.entry, command.uuid, now_ms, data, expires_at=expires_at, deleted=deleted)
        return ("written", version, live is None and not isinstance(command, Delete))

    def _add(
        self, entry: bytes, uuid: bytes, now_ms: int, data: bytes, *, expires_at: int = 0, deleted: bool = False
    ) -> Version:
        self.stamp = max((now_ms, 0), (self.stamp[0], self.stamp[1] + 1))
        version = Version(uuid, self.stamp, data, expires_at, deleted)
        self.lines[entry] = [version, *self.lines.get(entry, [])][: self._most(entry)]
        self._count(entry)
        self.noted.discard(entry)
        return version

    def _count(self, entry: bytes) -> None:
        self.number += 1
        self.numbers[entry] = self.number

    def _note_end(self, entry: bytes, expires_at: int, now_ms: int) -> bool:
        current = next(iter(self.lines.get(entry, [])), None)
        if current is None or current.expires_at != expires_at or now_ms < expires_at or entry in self.noted:
            return False
        self._count(entry)
        self.noted.add(entry)
        return True

    def _remove(self, entry: bytes, now_ms: int) -> bool:
        over_at = self.over_at(entry)
        if over_at is None or now_ms < over_at:
            return False
        if entry.startswith(DATA):
            if not self.lines[entry][0].deleted:
                self._note_end(entry, self.lines[entry][0].expires_at, now_ms)
            self.log_start = max(self.log_start, self.numbers[entry])
        del self.lines[entry], self.numbers[entry]
        self.noted.discard(entry)
        return True

    def _most(self, entry: bytes) -> int:
        return 1 if entry.startswith(SYSTEM) else self.versions_max


def _holds(condition: Condition, live: Version | None) -> bool:
    tag = None if live is None else uuid_text(live.uuid)
    match, none_match = condition
    if match is not None and (tag is None or (match != ANY and tag not in match)):
        return False
    return none_match is None or tag is None or (none_match != ANY and tag not in none_match)
