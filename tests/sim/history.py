"""What clients asked for and were told, and what became current on every disk. Broken promises show here at once.

At every commit on a disk
    a key goes back to an older version          6, 8   a deleted key returned, or a merge took the loser
    a value that nobody sent, or that changed    4
    a value leaves, or is buried, unexpired      4      only deletes delete
    values set aside without an absence          4, 10
At every answer to a client
    a read older than what this disk had shown   8
    a write not above what this disk had seen    8
    a write far above every clock there was      8      the time was taken from a clock that was wrong
    a conditional write over another version     8
When a disk is lost (wiped, set back, a power cut without fsync), what only it held is excused: nobody promised to keep
the only copy of a lost disk.
"""

from collections.abc import Iterable
from typing import NamedTuple

from kvs.storage.codec import decode
from kvs.storage.keyspace import DATA, SYSTEM, after
from kvs.storage.memory import MemoryStore
from kvs.storage.record import Record, derived_uuid
from kvs.storage.store import Batch
from tests.precedence import Precedence, precedence
from tests.sim.clocks import EPOCH_MS
from tests.sim.hearsay import Heard, Hearsay
from tests.sim.world import Violation, World

Version = tuple[int, int]


class Sent(NamedTuple):
    """One record that a client asked for. `payload` None: a delete."""

    entry: bytes
    payload: bytes | None
    ttl_ms: int


class History:
    """All clients of all nodes."""

    def __init__(
        self,
        world: World,
        early_ms: int,
        ahead_max_ms: int,
        *,
        may_set_aside: bool,
        retention_ms: int,
        hearsay: Hearsay | None,
    ) -> None:
        """A node's clock may be `early_ms` ahead when it finds that a record has expired. `ahead_max_ms`: a version
        that is further ahead of a clock does not move it. `may_set_aside`: whether anybody may find itself back
        from an absence that was too long. `retention_ms` is that of tombstones; `hearsay` is there where they go."""
        self._world = world
        self.may_set_aside = may_set_aside
        self.ahead_max_ms = ahead_max_ms
        self._early_ms = early_ms
        self._retention_ms = retention_ms
        self._hearsay = hearsay
        self.sent: dict[bytes, Sent] = {}
        self.landed: dict[bytes, dict[bytes, Record]] = {}
        self._written: dict[bytes, tuple[str, int]] = {}
        """By uuid, on which host's disk it landed first, and when."""
        self.acked: dict[bytes, list[Record]] = {}
        self.set_aside: dict[bytes, Precedence] = {}
        """The latest version of each key that was put into a file after a long absence."""
        self._traceless: dict[bytes, Precedence] = {}
        self.excused = 0
        self.acked_count = 0
        self.read_count = 0

    def send(self, uuid: bytes, sent: Sent) -> None:
        self.sent[uuid] = sent

    def acknowledge(self, entry: bytes, record: Record) -> None:
        self.acked_count += 1
        if precedence(record) > self._traceless.get(entry, LOWEST):
            self.acked.setdefault(entry, []).append(record)

    def land(self, entry: bytes, record: Record, host: str) -> None:
        """The record is on the disk of this host."""
        self._written.setdefault(record.uuid, (host, self._world.now_ms))
        known = self.landed.setdefault(entry, {})
        sent = self.sent.get(record.uuid)
        if sent is None and self._is_deletion_again(entry, record):
            sent = self.sent[record.uuid] = Sent(entry, None, 0)
        if sent is None or sent.entry != entry:
            raise Violation(f"{entry!r}: nobody sent {record}")
        first = known.setdefault(record.uuid, record)
        if record.deleted and sent.payload is not None:
            self._check_expired(entry, first)
        elif record is first:
            ends = record.expires_at > 0
            if not record.deleted and (sent.payload != record.data or ends != (sent.ttl_ms > 0)):
                raise Violation(f"{entry!r}: {record} is not what was sent")
        elif precedence(record) != precedence(first):
            raise Violation(f"{entry!r}: {first} became {record} on its way")

    def _is_deletion_again(self, entry: bytes, record: Record) -> bool:
        """Whether a node deletes once more, by itself, what came back from a peer that was away for too long: a version
        that somebody had deleted, or written over with one that is deleted or over."""
        name = b"%d %b %b" % (record.timestamp, record.origin.encode(), entry)
        back = [known for known in self.landed[entry].values() if derived_uuid(known.uuid, name) == record.uuid]
        return bool(back) and record.deleted and self.may_be_gone(entry, back[0])

    def known(self, entry: bytes, rank: Precedence) -> Record | Precedence:
        """The record that has this rank, for a message."""
        found = self.landed.get(entry, {}).values()
        return next((record for record in found if precedence(record)[:4] == rank[:4]), rank)

    def _check_expired(self, entry: bytes, value: Record) -> None:
        """A tombstone stands for a value that somebody wrote: it must be over."""
        if not value.expires_at or value.expires_at > self._latest_clock_ms():
            raise Violation(f"{entry!r}: {value} was buried, and nobody deleted it")

    def is_expiry(self, tombstone: Record) -> bool:
        """Whether nobody asked for it: it stands for a value that was over."""
        return self.sent[tombstone.uuid].payload is not None

    def leaves_no_trace(self, entry: bytes, record: Record) -> bool:
        """Whether the record has expired and its writer knew of no version before it. Such a one leaves the disk
        without a tombstone (kvs/storage/retention.py), and what it won over elsewhere may come back: then that, and all
        that was acknowledged before it, is promised no more."""
        if record.deleted or record.base != (0, 0) or not 0 < record.expires_at <= self._latest_clock_ms():
            return False
        self.promise_no_more(entry, precedence(record))
        return True

    def forgetting(self, host: str) -> "Forgetting":
        """A tombstone leaves the disk of this host now."""
        return Forgetting(self._world.now_ms, {} if self._hearsay is None else self._hearsay.of(host))

    def is_unheard(self, record: Record, host: str, forgetting: "Forgetting") -> bool:
        """Whether the record was written where nothing had come from for the retention of tombstones when this host
        forgot one, and was not heard of before. Who has forgotten that its key was deleted cannot keep it out then."""
        writer, written_ms = self._written[record.uuid]
        heard_ms = forgetting.heard.get(writer, 0)
        return writer != host and heard_ms < written_ms and forgetting.at_ms - heard_ms >= self._retention_ms

    def promise_no_more(self, entry: bytes, rank: Precedence) -> None:
        """Neither this version of a key nor any before it."""
        self._traceless[entry] = max(self._traceless.get(entry, LOWEST), rank)
        self.acked[entry] = [acked for acked in self.acked.get(entry, ()) if precedence(acked) > rank]

    def may_be_gone(self, entry: bytes, acked: Record) -> bool:
        """Whether nothing may be left of a key: this version or a later one was a delete, is over or was set aside."""
        rank = precedence(acked)
        return self.set_aside.get(entry, LOWEST) >= rank or any(
            (record.deleted or 0 < record.expires_at <= self._latest_clock_ms()) and precedence(record) >= rank
            for record in self.landed[entry].values()
        )

    def _latest_clock_ms(self) -> int:
        return EPOCH_MS + self._world.now_ms + self._early_ms

    def excuse(self, witnesses: Iterable["Witness"]) -> None:
        """A disk was lost; `witnesses` are those of all disks that there are now. What none of them has ever held,
        nobody promised to keep."""
        held: dict[bytes, Precedence] = {}
        for witness in witnesses:
            for entry, rank in witness.high.items():
                held[entry] = max(held.get(entry, LOWEST), rank)
        for entry, records in self.acked.items():
            kept = [record for record in records if precedence(record) <= held.get(entry, LOWEST)]
            self.excused += len(records) - len(kept)
            self.acked[entry] = kept


LOWEST = Precedence(-1, 0, 0, b"", False, b"")


class Forgetting(NamedTuple):
    """When a tombstone left a disk (ms), and what its host had heard by then."""

    at_ms: int
    heard: Heard


class Witness:
    """Watches one disk, over all restarts."""

    def __init__(self, history: History, host: str) -> None:
        self._history = history
        self._host = host
        self._forgotten: dict[bytes, Forgetting] = {}
        """Of keys whose tombstone has left."""
        self._current: dict[bytes, Record] = {}
        self.high: dict[bytes, Precedence] = {}
        """The latest version that was ever current here, by entry key."""
        self._shown: dict[bytes, Precedence] = {}
        self._stamped: Version = (0, 0)
        self._near: Version = (0, 0)
        self._near_before: Version = (0, 0)
        self._planned_ms = 0
        self._latest_ms = 0
        self._forgotten_ms = 0

    def copy(self) -> "Witness":
        """For a copy of the disk, which has its own life from here on."""
        twin = Witness(self._history, self._host)
        twin._forgotten = dict(self._forgotten)
        twin._current, twin.high, twin._shown = dict(self._current), dict(self.high), dict(self._shown)
        twin._stamped, twin._near, twin._near_before = self._stamped, self._near, self._near_before
        twin._latest_ms, twin._forgotten_ms = self._latest_ms, self._forgotten_ms
        return twin

    def reset(self, store: MemoryStore) -> None:
        """The disk lost what was not synced."""
        self._current = contents(store)
        self.high = {entry: precedence(record) for entry, record in self._current.items()}
        self._shown.clear()
        self._stamped = self._near = self._near_before = (0, 0)

    # --- the disk ---

    def planned(self, now_ms: int) -> None:
        """Something is decided when the node's clock shows this; whether it changes anything is not known yet."""
        self._latest_ms = max(self._latest_ms, now_ms)

    def committed(self, batch: Batch, planned_ms: int) -> None:
        """This batch is on the disk; it was planned when the node's clock showed `planned_ms`."""
        self._near_before, self._planned_ms = self._near, planned_ms
        for entry, raw in batch.items():
            if not entry.startswith((DATA, SYSTEM)):
                continue
            if raw is None:
                self._removed(entry)
                continue
            record = decode(entry, raw).record
            self._history.land(entry, record, self._host)
            rank = precedence(record)
            if rank < self.high.get(entry, LOWEST):
                self._removed(entry)  # a sweep and a merge in one batch
                self._take_from_afar(entry, record)
            if rank < self.high.get(entry, LOWEST):
                if record.deleted and entry in self._forgotten and entry not in self._current:
                    self._current[entry] = record  # one deletion is forgotten, an older one comes: it deletes nothing
                    continue
                raise Violation(f"{entry!r} went back from {self._history.known(entry, self.high[entry])} to {record}")
            is_known = rank[:4] == self.high.get(entry, LOWEST)[:4]  # an expired value turns into a tombstone
            self.high[entry], self._current[entry] = rank, record
            if record.timestamp <= planned_ms and not is_known:
                self._near = max(self._near, (record.timestamp, record.counter))

    def set_aside(self, before_ms: int) -> None:
        """The node finds that it was away for so long that others have forgotten what they deleted before this moment:
        what they do not have and is older goes into a file."""
        if not self._history.may_set_aside:
            raise Violation(f"what is older than {before_ms} was set aside, and nobody was away for too long")
        self._forgotten_ms = max(self._forgotten_ms, before_ms)

    def _removed(self, entry: bytes) -> None:
        gone = self._current.pop(entry, None)
        if gone is None:
            return
        is_aside = gone.timestamp < self._forgotten_ms
        if is_aside:
            aside = self._history.set_aside
            aside[entry] = max(aside.get(entry, LOWEST), precedence(gone))
        if self._history.leaves_no_trace(entry, gone) or is_aside:
            for known in (self.high, self._shown):
                known.pop(entry, None)
        elif gone.deleted:
            self._forgotten[entry] = self._history.forgetting(self._host)
            if self._history.is_expiry(gone):
                # It went by a clock that was ahead, or all nodes have the value. The same version may come back then.
                rank = precedence(self._history.landed[entry][gone.uuid])
                for known in (self.high, self._shown):
                    known[entry] = min(known.get(entry, rank), rank)
        else:
            raise Violation(f"{entry!r}: {gone} left, and nobody deleted it")

    def _take_from_afar(self, entry: bytes, record: Record) -> None:
        """What was written meanwhile by who was away for too long is taken, and the deletion is forgotten."""
        forgetting = self._forgotten.get(entry)
        if forgetting is not None and self._history.is_unheard(record, self._host, forgetting):
            self._history.promise_no_more(entry, self.high[entry])
            for known in (self.high, self._shown):
                known.pop(entry, None)

    # --- clients ---

    def acknowledged(self, entry: bytes, record: Record, match: Iterable[bytes]) -> None:
        """A client was told that this is on the disk; `match` are the uuids that it named as a condition."""
        version = (record.timestamp, record.counter)
        if version <= self._stamped:
            raise Violation(f"{entry!r}: {version} was stamped after {self._stamped}")
        if version <= self._near_before:
            raise Violation(f"{entry!r}: {version} was stamped after {self._near_before} was seen")
        if record.timestamp > max(self._latest_ms + self._history.ahead_max_ms, record.base[0]) + 1:
            raise Violation(f"{entry!r}: {record} took its time from a clock that is wrong, at {self._latest_ms}")
        if record.timestamp <= self._planned_ms + self._history.ahead_max_ms:
            self._stamped = version
        known = self._history.landed.get(entry, {})
        named = [known[uuid] for uuid in match if uuid in known]
        if named and record.base not in {(other.timestamp, other.counter) for other in named}:
            raise Violation(f"{entry!r}: {record} was conditional on {named}")
        self._shown[entry] = max(self._shown.get(entry, LOWEST), precedence(record))
        self._history.acknowledge(entry, record)

    def read(self, entry: bytes, stored: Record | None) -> None:
        """A client read; `stored` is what the answer was made of, alive or not."""
        self._history.read_count += 1
        if stored is not None:
            rank = precedence(stored)
            shown = self._shown.get(entry, LOWEST)
            if rank < shown and not (stored.deleted and entry in self._forgotten):
                raise Violation(f"{entry!r}: {stored} was read after {self._history.known(entry, shown)}")
            self._shown[entry] = max(shown, rank)
        elif entry in self._current:
            raise Violation(f"{entry!r}: nothing was read in place of {self._current[entry]}")
        elif entry in self._shown and entry not in self.high:
            raise Violation(f"{entry!r} was acknowledged and is gone")


def contents(store: MemoryStore) -> dict[bytes, Record]:
    """The current records of a store."""
    return {
        entry: decode(entry, raw).record
        for prefix in (DATA, SYSTEM)
        for entry, raw in store.scan(prefix, after(prefix))
    }
