"""What was asked of a node and what it answered, and what may therefore be read from it.

Every value is sent once only, so that a value that is read tells which write it came from. A write is *acknowledged*,
*refused* (a 4xx: it never takes effect) or of *unknown* outcome (no answer, or a 503). What stands under a key is right
if it comes from a write that was sent and not refused, and no acknowledged write of that key began after that one was
over. Nothing under a key is right if a deletion stands there by the same rule, or nothing was ever acknowledged.

So the check is exact for keys that many clients write at once, and takes no search: only times are compared. They are
those of the process that sends the writes; a node that is killed cannot touch them.
"""

import math
import time
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import sha256

ACKNOWLEDGED, REFUSED, UNKNOWN = "acknowledged", "refused", "unknown"


@dataclass(slots=True, eq=False)
class Write:
    """One attempt. `digest` is None for a deletion. `done` is when it was surely over: for ever open while unknown.

    The marks say how long the disk's journal was at the time (power-cut tests; else 0). `batch` is shared by writes
    that were sent as one.
    """

    key: str
    digest: bytes | None
    sent: float
    sent_mark: int
    floor: int
    batch: int
    done: float = math.inf
    done_mark: int = 0
    outcome: str = UNKNOWN
    timestamp: int = 0


@dataclass
class Ledger:
    """Threads may share it while they write different keys or append: each step is one atomic operation of Python."""

    writes: dict[str, list[Write]] = field(default_factory=lambda: defaultdict(list))
    by_value: dict[tuple[str, bytes | None], Write] = field(default_factory=dict)
    floor: int = 0
    """The highest timestamp acknowledged so far: no later write may get a lower one."""
    newest: dict[str, float] = field(default_factory=dict)
    """Per key, when the latest acknowledged write began."""
    violations: list[str] = field(default_factory=list)

    def send(self, key: str, value: bytes | None, *, mark: int = 0, batch: int = 0) -> Write:
        """To be called before the request leaves."""
        digest = None if value is None else sha256(value).digest()
        write = Write(key, digest, time.monotonic(), mark, self.floor, batch)
        self.writes[key].append(write)
        if digest is not None:
            assert (key, digest) not in self.by_value, "a value is sent once only"
            self.by_value[key, digest] = write
        return write

    def acknowledge(self, write: Write, timestamp: int = 0, *, mark: int = 0) -> None:
        """`timestamp` is 0 where the answer names none (deletions)."""
        write.outcome, write.done, write.done_mark = ACKNOWLEDGED, time.monotonic(), mark
        self.newest[write.key] = max(self.newest.get(write.key, -math.inf), write.sent)
        if timestamp:
            self.saw_timestamp(write, timestamp)
            self.floor = max(self.floor, timestamp)

    def refuse(self, write: Write) -> None:
        write.outcome, write.done = REFUSED, time.monotonic()

    def settle(self) -> None:
        """The process that might still carry out writes of unknown outcome is gone."""
        now = time.monotonic()
        for writes in self.writes.values():
            for write in writes:
                write.done = min(write.done, now)

    def saw_timestamp(self, write: Write, timestamp: int) -> None:
        if timestamp < write.floor:
            self.violations.append(f"{write.key}: timestamp {timestamp} below {write.floor}, acknowledged before")
        if write.timestamp not in (0, timestamp):
            self.violations.append(f"{write.key}: timestamp {timestamp}, it was {write.timestamp}")
        write.timestamp = timestamp

    def read(self, key: str, found: bytes | None, timestamp: int = 0, *, newest: float | None = None) -> bool:
        """Judge what was read; a violation is noted. `newest` is `self.newest[key]` of before the read, where others
        may have written meanwhile."""
        digest = None if found is None else sha256(found).digest()
        newest = self.newest.get(key, -math.inf) if newest is None else newest
        wrong = self._wrong(key, digest, newest)
        if wrong:
            self.violations.append(f"{key}: {wrong} (read {'nothing' if found is None else found[:80]!r})")
        elif digest is not None:
            write = self.by_value[key, digest]
            if timestamp:
                self.saw_timestamp(write, timestamp)
            # What was read once is as good as acknowledged: reads never go back.
            self.newest[key] = max(self.newest.get(key, -math.inf), write.sent)
        return not wrong

    def _wrong(self, key: str, digest: bytes | None, newest: float) -> str:
        if digest is None:
            if newest == -math.inf:
                return ""
            gone = (w for w in reversed(self.writes[key]) if w.digest is None and w.outcome != REFUSED)
            return "" if any(w.done >= newest for w in gone) else "an acknowledged write is lost"
        write = self.by_value.get((key, digest))
        if write is None:
            return "a value that nobody sent"
        if write.outcome == REFUSED:
            return "a value that was refused"
        return "" if write.done >= newest else "an acknowledged later write is lost"

    def at(self, mark: int) -> "Ledger":
        """The ledger as of a moment of the journal: what was sent by then; acknowledgements by then count."""
        past = Ledger()
        for key, writes in self.writes.items():
            for write in writes:
                if write.sent_mark > mark or write.outcome == REFUSED:
                    continue
                past.writes[key].append(write)
                if write.digest is not None:
                    past.by_value[key, write.digest] = write
                if write.outcome == ACKNOWLEDGED and write.done_mark <= mark:
                    past.newest[key] = max(past.newest.get(key, -math.inf), write.sent)
                    past.floor = max(past.floor, write.timestamp)
        return past

    def check_batches(self, found: dict[str, bytes | None]) -> None:
        """What was sent as one is there as a whole or not at all. `found` is what stands where; only batches that
        nothing came after can be judged."""
        batches: dict[int, list[Write]] = defaultdict(list)
        for writes in self.writes.values():
            for write in writes:
                if write.batch and write.digest is not None and write.outcome != REFUSED:
                    batches[write.batch].append(write)
        for number, items in batches.items():
            last = all(self.writes[item.key][-1] is item for item in items)
            there = {_digest(found[item.key]) == item.digest for item in items if item.key in found}
            if last and len(there) > 1:
                self.violations.append(f"batch {number} of {len(items)} writes is there in part")

    def counts(self) -> dict[str, int]:
        counts = dict.fromkeys((ACKNOWLEDGED, REFUSED, UNKNOWN), 0)
        for writes in self.writes.values():
            for write in writes:
                counts[write.outcome] += 1
        return counts


def _digest(value: bytes | None) -> bytes | None:
    return None if value is None else sha256(value).digest()
