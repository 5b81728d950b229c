"""What a node decides, without doing any of it.

    group = node.plan_group(submissions, reader, now_ms)   decide winners, build one batch
    store.commit(group.batch)                              the caller's part
    effects = node.committed(group)                        what follows, now that it is on the disk

Nothing here waits, reads a clock or touches a disk: the time and the reader are arguments, the results are values. If
the commit fails, the group is thrown away and `resume` takes up what the disk really holds. Versions and sequence
numbers that were given out in vain are simply skipped.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from kvs.cluster.clock import Clock
from kvs.cluster.events import (
    UNCONDITIONAL,
    Changed,
    Command,
    Condition,
    Delete,
    Effect,
    Group,
    Plan,
    Put,
    Reply,
    Report,
    Restore,
    Submission,
    Sweep,
    Swept,
    Transact,
    Transacted,
    Trim,
    Written,
)
from kvs.errors import CorruptRecord, KvsError, NotFound, StoreCorrupt
from kvs.storage.batch import Overlay
from kvs.storage.codec import Stored, encode
from kvs.storage.current import Current, history, index_rows, read_current, removal
from kvs.storage.keyspace import (
    DATA,
    METADATA,
    SYSTEM,
    change_row,
    metadata_key,
    revision_range,
    revision_row,
    split_moment,
    split_revision,
)
from kvs.storage.record import Record, derived_uuid, uuid_text
from kvs.storage.retention import expiry_limit, may_go, tombstone_limit
from kvs.storage.revisions import dropped, kept_after
from kvs.storage.state import PROGRESS_ROW, Progress, encode_progress
from kvs.storage.store import Reader


class NodeSettings(NamedTuple):
    """`versions_max` counts the current record; 1 keeps no history."""

    node_id: str
    joined_timestamp: int
    versions_max: int
    tombstone_retention_ms: int


class Node:
    """The state that decides: the clock and the sequence. All else is read through the reader that is handed in."""

    def __init__(self, settings: NodeSettings, progress: Progress, *, has_metadata: bool = True) -> None:
        self._settings = settings
        self.has_metadata = has_metadata
        """Whether any key may have metadata. While none has, nobody needs to look for them: that costs each read and
        each write of a user 3 %."""
        self._clock = Clock(progress.timestamp, progress.counter)
        self._seq = progress.seq

    def resume(self, progress: Progress) -> None:
        """Go on above what the disk holds after a failed commit, and above what was given out before."""
        self._clock.last = max(self._clock.last, (progress.timestamp, progress.counter))
        self._seq = max(self._seq, progress.seq)

    def plan_group(self, submissions: Iterable[Submission], reader: Reader, now_ms: int) -> Group:
        """Plan the submissions in order; each sees what those before it will have written."""
        view = Overlay(reader)
        effects: list[Effect] = []
        for ticket, commands, _ in submissions:
            reply = Reply(ticket, [])
            for command in commands:
                try:
                    plan = self.plan(command, view, now_ms)
                except KvsError as error:
                    reply.outcomes.append(error)
                except StoreCorrupt as error:
                    reply.outcomes.append(CorruptRecord("a stored record fails its checksum"))
                    effects.append(Report("Corrupt record found", {"error": str(error)}))
                else:
                    view.write(plan.batch)
                    reply.outcomes.append(plan.outcome)
                    effects.extend(plan.reports)
            effects.append(reply)
        changed = tuple(entry for entry in view.batch if entry.startswith(SYSTEM))
        if changed:
            effects.insert(0, Changed(changed))
        if view.batch:
            view.batch[PROGRESS_ROW] = encode_progress(Progress(*self._clock.last, self._seq))
        return Group(view.batch, effects)

    def committed(self, group: Group) -> list[Effect]:
        """What follows from a group that is on the disk."""
        return group.effects

    def plan(self, command: Command, view: Reader, now_ms: int) -> Plan:
        """Decide one command. Raises KvsError when it is refused; then nothing is to be written."""
        match command:
            case Put():
                return self._put(command, view, now_ms)
            case Delete():
                return self._delete(command, view, now_ms)
            case Restore():
                return self._restore(command, view, now_ms)
            case Transact():
                return self._transact(command, view, now_ms)
            case Sweep():
                return self._sweep(command, view, now_ms)
            case Trim():
                return self._trim(command, view)

    # --- writes ---

    def _put(self, command: Put, view: Reader, now_ms: int) -> Plan:
        current = read_current(view, command.entry)
        live = current.live(now_ms)
        self._authorise(command, current, view, now_ms)
        _check(command.condition, live)
        timestamp, counter = self._clock.tick(now_ms, current.version)
        record = Record(
            uuid=command.uuid,
            timestamp=timestamp,
            counter=counter,
            origin=self._settings.node_id,
            origin_joined=self._settings.joined_timestamp,
            owner=_owner(command, live),
            expires_at=now_ms + command.ttl_ms if command.ttl_ms else 0,
            content_type=command.content_type,
            codec=command.codec,
            payload=command.payload,
        )
        return self._replace(command.entry, current, record, view, created=live is None)

    def _delete(self, command: Delete, view: Reader, now_ms: int) -> Plan:
        current = read_current(view, command.entry)
        live = current.live(now_ms)
        self._authorise(command, current, view, now_ms)
        if live is None and not current.is_corrupt:
            raise NotFound("there is no value under this key")
        _check(command.condition, live)
        timestamp, counter = self._clock.tick(now_ms, current.version)
        record = Record(
            uuid=command.uuid,
            timestamp=timestamp,
            counter=counter,
            origin=self._settings.node_id,
            origin_joined=self._settings.joined_timestamp,
            owner=_owner(command, live),
            deleted=True,
        )
        return self._replace(command.entry, current, record, view, created=False)

    def _restore(self, command: Restore, view: Reader, now_ms: int) -> Plan:
        current = read_current(view, command.entry)
        live = current.live(now_ms)
        self._authorise(command, current, view, now_ms)
        old = next((r for number, r in history(view, command.entry, now_ms) if number == command.revision), None)
        if old is None or not _is_readable(command, old, view, now_ms):
            raise NotFound("this revision is not kept")
        if old.deleted and command.delete_guard is not None:
            command.delete_guard(live, _metadata(command.entry, view, now_ms))
        _check(command.condition, live)
        timestamp, counter = self._clock.tick(now_ms, current.version)
        record = msgspec.structs.replace(
            old,
            uuid=command.uuid,
            timestamp=timestamp,
            counter=counter,
            origin=self._settings.node_id,
            origin_joined=self._settings.joined_timestamp,
            owner=_owner(command, live),
        )
        return self._replace(command.entry, current, record, view, created=live is None)

    def _transact(self, command: Transact, view: Reader, now_ms: int) -> Plan:
        reports: list[Report] = []

        def look(entry: bytes) -> Record | None:
            current = read_current(view, entry)
            if current.is_corrupt:
                error = f"{entry[1:].decode(errors='replace')} fails its checksum"
                reports.append(Report("Corrupt record found", {"error": error}))
                raise StoreCorrupt(error)
            return current.live(now_ms)

        values = command.decide(look, now_ms)
        batch: dict[bytes, bytes | None] = {}
        for entry, value in values.items():
            current = read_current(view, entry)
            live = current.live(now_ms)
            if value is None and live is None and not current.is_corrupt:
                continue
            timestamp, counter = self._clock.tick(now_ms, current.version)
            record = Record(
                uuid=derived_uuid(command.uuid, entry),
                timestamp=timestamp,
                counter=counter,
                origin=self._settings.node_id,
                origin_joined=self._settings.joined_timestamp,
                deleted=value is None,
                payload=value or b"",
            )
            replaced = self._replace(entry, current, record, view, created=live is None)
            batch.update(replaced.batch)
            reports += replaced.reports
        return Plan(batch, Transacted(values), tuple(reports))

    def _authorise(self, command: Put | Delete | Restore, current: Current, view: Reader, now_ms: int) -> None:
        """Before anything else is decided: who may not write learns nothing else."""
        if command.guard is None:
            return
        if current.is_corrupt:
            raise CorruptRecord("the stored record fails its checksum: whose it is cannot be known")
        command.guard(current.live(now_ms), _metadata(command.entry, view, now_ms) if self.has_metadata else None)

    def _replace(self, entry: bytes, current: Current, record: Record, view: Reader, *, created: bool) -> Plan:
        """The batch that makes `record` the current one: record, indexes, revision, change log."""
        batch: dict[bytes, bytes | None] = {}
        generation, kept = 1, 0
        reports: tuple[Report, ...] = ()
        if current.stored is not None:
            old, seq, generation_old, kept_old = current.stored
            batch = dict.fromkeys(index_rows(entry, old))
            batch[change_row(seq)] = None
            generation = generation_old + 1
            kept = kept_after(kept_old, self._versions_max(entry))
            for gone in dropped(generation_old, kept_old, kept):
                batch[revision_row(entry, gone)] = None
            if kept:
                batch[revision_row(entry, generation_old)] = current.raw
        elif current.raw is not None:
            # What the record was cannot be known: its history goes, its index rows are found stale by later sweeps.
            batch = dict.fromkeys(row for row, _ in view.scan(*revision_range(entry)))
            reports = (Report("Corrupt record replaced", {"entry": entry}),)
        self.has_metadata = self.has_metadata or entry.startswith(METADATA)
        self._seq += 1
        batch[entry] = encode(entry, Stored(record, self._seq, generation, kept))
        batch.update((row, b"") for row in index_rows(entry, record))
        batch[change_row(self._seq)] = entry
        return Plan(batch, Written(record, created), reports)

    def _versions_max(self, entry: bytes) -> int:
        return self._settings.versions_max if entry.startswith(DATA) else 1

    # --- background work ---

    def _sweep(self, command: Sweep, view: Reader, now_ms: int) -> Plan:
        batch: dict[bytes, bytes | None] = {}
        expiry_limit_ms = expiry_limit(now_ms)
        # A lone node is in sync with itself: its floor is its own clock.
        tombstone_limit_ms = tombstone_limit(now_ms, self._settings.tombstone_retention_ms, floor_ms=now_ms)
        removed = 0
        for row in command.rows:
            _, entry = split_moment(row)
            current = read_current(view, entry)
            if current.stored is None or row not in index_rows(entry, current.stored.record):
                batch[row] = None
            elif may_go(current.stored.record, expiry_limit_ms=expiry_limit_ms, tombstone_limit_ms=tombstone_limit_ms):
                batch.update(removal(entry, current.stored))
                removed += 1
        return Plan(batch, Swept(removed))

    def _trim(self, command: Trim, view: Reader) -> Plan:
        entry = command.entry
        stored = read_current(view, entry).stored
        kept = 0 if stored is None else min(stored.kept, self._versions_max(entry) - 1)
        oldest = 0 if stored is None else stored.generation - kept
        batch: dict[bytes, bytes | None] = {
            row: None
            for row, _ in view.scan(*revision_range(entry))
            if stored is None or not oldest <= split_revision(row)[1] < stored.generation
        }
        dropped_count = len(batch)
        if stored is not None and kept < stored.kept:
            batch[entry] = encode(entry, stored._replace(kept=kept))
        return Plan(batch, Swept(dropped_count))


def _is_readable(command: Restore, revision: Record, view: Reader, now_ms: int) -> bool:
    return command.readable is None or command.readable(revision, _metadata(command.entry, view, now_ms))


def _metadata(entry: bytes, view: Reader, now_ms: int) -> bytes | None:
    """The document that was set for a user's key. A corrupt one refuses everything: what it protected is unknown."""
    current = read_current(view, metadata_key(entry))
    if current.is_corrupt:
        raise CorruptRecord("the metadata of this key fail their checksum")
    live = current.live(now_ms)
    return None if live is None else live.data


def _owner(command: Put | Delete | Restore, live: Record | None) -> str:
    """Writing over a value does not take it away from its owner."""
    return command.owner if live is None else live.owner


def _check(condition: Condition, live: Record | None) -> None:
    """Raises PreconditionFailed. `live` is what a reader sees now."""
    if condition is not UNCONDITIONAL:
        condition.check(None if live is None else uuid_text(live.uuid))
