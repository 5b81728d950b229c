"""What clients of a cluster sent and were answered, and what may therefore be read at which node.

Every value is sent once only, so a value that is read tells which write it comes from. A write is *acknowledged*,
*refused* (it never takes effect), or of *unknown* outcome (no answer, or a 503). What a node showed is on its disk as
surely as what it acknowledged. Versions order the writes of a key, so nothing has to be searched:

- an acknowledged write is above whatever its node had acknowledged or shown of the key before it was sent;
- a read is not below that either (read your writes, monotonic reads), as long as the node keeps its disk;
- when all is quiet and equal every key holds at least the highest version that anybody was told of: a value that was
  sent and not refused, or a deletion. So no acknowledged write is lost, nothing deleted comes back, and nothing is
  there that nobody sent. From then on every node is held to that version.

What only one disk had is lost with it: when a node loses its disk while others are written, whatever it alone told is
not asked for any more, but what was acknowledged by two disks (`w=2`) is.

Clients are shown the timestamps of versions, and not what orders them within one millisecond, so two of one timestamp
are not told apart. A deletion is acknowledged without its version: the history of the key is asked for it.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

ACKNOWLEDGED, REFUSED, UNKNOWN = "acknowledged", "refused", "unknown"


@dataclass(slots=True, eq=False)
class Write:
    """One attempt. `digest` is None for a deletion; `timestamp` and `uuid` are not known before somebody told them.
    The timestamp of a deletion is that of the newest one it may be."""

    key: str
    digest: bytes | None
    outcome: str = UNKNOWN
    timestamp: int = 0
    uuid: str = ""


class Mark(NamedTuple):
    """What a node had shown of a key at a moment, and in which life of its disk."""

    life: int
    floor: int


class Held(NamedTuple):
    """What a node holds of a key in the end; `value` is None for a deletion."""

    timestamp: int
    uuid: str
    value: bytes | None


@dataclass
class History:
    """Shared by all clients; every method may be called from any thread."""

    violations: list[str] = field(default_factory=list)
    reads: int = 0
    _values: dict[tuple[str, bytes], Write] = field(default_factory=dict)
    _writes: dict[str, list[Write]] = field(default_factory=lambda: defaultdict(list))
    _told: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By key, the highest timestamp that anybody was told of, by the node that told it and may lose it; by "" if no
    single disk can."""
    _shown: dict[tuple[str, str], int] = field(default_factory=dict)
    """By node and key, the highest timestamp that the node acknowledged or showed."""
    _lives: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _absences: list[tuple[str, str, int]] = field(default_factory=list)
    """Node, key and floor of reads that found nothing where something had been: judged when all outcomes are known."""
    _sent: int = 0
    _acknowledged: int = 0
    _refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # --- what happens ---

    def send(self, key: str, value: bytes | None) -> Write:
        """To be called before the request leaves."""
        write = Write(key, None if value is None else sha256(value).digest())
        with self._lock:
            self._sent += 1
            self._writes[key].append(write)
            if write.digest is not None:
                assert (key, write.digest) not in self._values, "a value is sent once only"
                self._values[key, write.digest] = write
        return write

    def mark(self, node: str, key: str) -> Mark:
        """To be taken before a request leaves, and given to what judges its answer."""
        with self._lock:
            return Mark(self._lives[node], self._shown.get((node, key), 0))

    def acknowledge(
        self, write: Write, node: str, mark: Mark, timestamp: int = 0, uuid: str = "", *, disks: int = 1
    ) -> None:
        """`timestamp` and `uuid` are not told of a deletion. `disks`: how many have it."""
        with self._lock:
            write.outcome = ACKNOWLEDGED
            self._acknowledged += 1
            if write.digest is not None:
                if timestamp < mark.floor:
                    self._wrong(f"{node} acknowledged {write.key} at {timestamp}, and had shown {mark.floor} before")
                self._tell(write, timestamp, uuid)
                self._show(node, mark, write.key, timestamp)
                if disks > 1:
                    self._hold_to(write.key, "", timestamp)

    def deleted(self, write: Write, node: str, mark: Mark, timestamp: int) -> None:
        """The history of its key showed a deletion, right after this one was acknowledged."""
        with self._lock:
            if timestamp < mark.floor:
                self._wrong(f"{node} showed a deletion of {write.key} of {timestamp}, and {mark.floor} before")
            write.timestamp = timestamp
            self._show(node, mark, write.key, timestamp)

    def refuse(self, write: Write) -> None:
        with self._lock:
            write.outcome = REFUSED
            self._refused += 1

    def read(self, node: str, key: str, mark: Mark, found: Held | None) -> None:
        """Judge what a read showed. `found` is None when it showed nothing."""
        with self._lock:
            self.reads += 1
            if found is None:
                if mark.floor:
                    self._absences.append((node, key, mark.floor))
                return
            self._judge_value(node, key, found)
            if found.timestamp < mark.floor:
                self._wrong(f"{node} showed {key} of {found.timestamp}, and {mark.floor} before")
            self._show(node, mark, key, found.timestamp)

    def lost_its_disk(self, node: str) -> None:
        """What the node showed until now binds it no more, and nobody else who did not show it too."""
        with self._lock:
            self._lives[node] += 1
            for told in self._told.values():
                told.pop(node, None)
            for shown in [shown for shown in self._shown if shown[0] == node]:
                del self._shown[shown]

    # --- what must hold when all is quiet and equal ---

    def keys(self) -> list[str]:
        return list(self._writes)

    def settle(self, held: Mapping[str, Held | None], nodes: Iterable[str]) -> None:
        """All these nodes hold this of every key; None where not even a deletion is left, which may be forgotten."""
        with self._lock:
            for node, key, floor in self._absences:
                if not self._may_be_gone(key, floor):
                    self._wrong(f"{node} showed nothing of {key}, and {floor} before; nobody deleted it since")
            self._absences.clear()
            for key, found in held.items():
                self._check(key, found)
            # What had no answer until now will never take effect.
            for key, found in held.items():
                self._begin_anew(key, found, nodes)

    def counts(self) -> dict[str, int]:
        unknown = self._sent - self._acknowledged - self._refused
        return {ACKNOWLEDGED: self._acknowledged, REFUSED: self._refused, UNKNOWN: unknown}

    # --- with the lock held ---

    def _check(self, key: str, held: Held | None) -> None:
        top = max(self._told[key].values(), default=0)
        if held is None:
            if top and not self._may_be_gone(key, top):
                self._wrong(f"{key}: {top} was there, and nothing is left")
            return
        if held.timestamp < top:
            self._wrong(f"{key}: {top} was there, and {held.timestamp} is what is left ({_brief(held)})")
        if held.value is not None:
            self._judge_value("the cluster", key, held)
        elif not self._may_be_gone(key, held.timestamp):
            self._wrong(f"{key}: a deletion of {held.timestamp} that nobody sent")

    def _begin_anew(self, key: str, held: Held | None, nodes: Iterable[str]) -> None:
        self._writes[key] = []
        if held is not None and held.value is None:
            self._writes[key] = [Write(key, None, ACKNOWLEDGED, held.timestamp, held.uuid)]
        self._told[key] = {"": 0 if held is None else held.timestamp}
        for node in nodes:
            self._shown[node, key] = self._told[key][""]

    def _judge_value(self, node: str, key: str, found: Held) -> None:
        assert found.value is not None
        write = self._values.get((key, sha256(found.value).digest()))
        if write is None:
            self._wrong(f"{node} showed under {key} what nobody sent: {found.value[:80]!r}")
        elif write.outcome == REFUSED:
            self._wrong(f"{node} showed under {key} what was refused: {found.value[:80]!r}")
        else:
            self._tell(write, found.timestamp, found.uuid)

    def _tell(self, write: Write, timestamp: int, uuid: str) -> None:
        if write.uuid and (write.timestamp, write.uuid) != (timestamp, uuid):
            self._wrong(f"{write.key}: one write has two versions, {write.timestamp} {write.uuid}, {timestamp} {uuid}")
        write.timestamp, write.uuid = timestamp, uuid

    def _show(self, node: str, mark: Mark, key: str, timestamp: int) -> None:
        if mark.life == self._lives[node]:
            self._shown[node, key] = max(self._shown.get((node, key), 0), timestamp)
            self._hold_to(key, node, timestamp)

    def _hold_to(self, key: str, node: str, timestamp: int) -> None:
        self._told[key][node] = max(self._told[key].get(node, 0), timestamp)

    def _may_be_gone(self, key: str, floor: int) -> bool:
        """Whether a deletion of the key may be at `floor` or above. One without an answer may be anywhere."""
        return any(
            write.digest is None and write.outcome != REFUSED and (not write.timestamp or write.timestamp >= floor)
            for write in self._writes[key]
        )

    def _wrong(self, text: str) -> None:
        self.violations.append(text)


def _brief(held: Held) -> str:
    return "a deletion" if held.value is None else repr(held.value[:60])
