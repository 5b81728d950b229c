"""What a node decides, without doing any of it.

    group = node.plan_group(submissions, reader, now_ms)   decide winners, build one batch
    store.commit(group.batch)                              the caller's part
    effects = node.committed(group)                        what follows, now that it is on the disk

Writes of clients and records of peers go the same way; they differ in who stamps the version.

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
    Change,
    Changed,
    Command,
    Committed,
    Condition,
    Delete,
    Discard,
    Effect,
    Ended,
    Group,
    Lapse,
    Merge,
    Merged,
    Plan,
    Put,
    Remember,
    Remembered,
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
from kvs.cluster.merging import Verdict, entombed, judge
from kvs.cluster.merkle import Tree, TreeEdit, item_of
from kvs.errors import CorruptRecord, KvsError, NotFound, StoreCorrupt
from kvs.storage.batch import Overlay
from kvs.storage.codec import Stored, encode
from kvs.storage.current import Current, history, index_rows, read_current, removal, seq_of
from kvs.storage.keyspace import (
    DATA,
    METADATA,
    SYSTEM,
    change_row,
    encode_seq,
    metadata_key,
    path_of,
    revision_range,
    revision_row,
    split_moment,
    split_revision,
)
from kvs.storage.record import Record, derived_uuid, uuid_text, value_digest
from kvs.storage.retention import expiry_limit, may_go, must_stay_as_tombstone, tombstone_limit
from kvs.storage.revisions import dropped, kept_after
from kvs.storage.state import LOG_START_ROW, PROGRESS_ROW, Progress, encode_progress, read_log_start
from kvs.storage.store import Reader


class NodeSettings(NamedTuple):
    """`versions_max` counts the current record; 1 keeps no history."""

    node_id: str
    joined_timestamp: int
    versions_max: int
    tombstone_retention_ms: int
    clock_drift_max_ms: int


class Node:
    """The state that decides: the clock, the sequence and the Merkle tree (in a cluster). All else is read through the
    reader that is handed in."""

    def __init__(
        self, settings: NodeSettings, progress: Progress, tree: Tree | None = None, *, has_metadata: bool = True
    ) -> None:
        self._settings = settings
        self.has_metadata = has_metadata
        """Whether any key may have metadata. While none has, nobody needs to look for them: that costs each read and
        each write of a user 3 %."""
        self._clock = Clock(progress.timestamp, progress.counter, settings.clock_drift_max_ms)
        self._seq = progress.seq
        self.tree = tree
        self._edit: TreeEdit | None = None
        self.floor_ms: int | None = None
        """Up to here (Unix ms) all nodes are proven to be in sync; None for a lone node, which is its own proof."""

    def resume(self, progress: Progress, tree: Tree | None = None) -> None:
        """Go on above what the disk holds after a failed commit, and above what was given out before."""
        self._clock.last = max(self._clock.last, (progress.timestamp, progress.counter))
        self._seq = max(self._seq, progress.seq)
        self.tree = tree

    def now_ms(self, wall_ms: int) -> int:
        """The time by the hybrid clock: not before any version that was made or seen here."""
        return max(wall_ms, self._clock.last[0])

    def plan_group(self, submissions: Iterable[Submission], reader: Reader, now_ms: int) -> Group:
        """Plan the submissions in order; each sees what those before it will have written."""
        view = Overlay(reader)
        self._edit = self.tree.edit() if self.tree is not None else None
        effects: list[Effect] = []
        done = Committed([], [])
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
                    done.changes.extend(plan.changes)
                    done.ended.extend(plan.ended)
            effects.append(reply)
        changed = tuple(entry for entry in view.batch if entry.startswith(SYSTEM))
        if changed:
            effects.insert(0, Changed(changed))
        if self._edit is not None:
            view.write(self._edit.rows())
        if self._edit is not None or done.changes or done.ended:
            effects.append(done)
        if view.batch:
            view.batch[PROGRESS_ROW] = encode_progress(Progress(*self._clock.last, self._seq))
        return Group(view.batch, effects, self._edit)

    def committed(self, group: Group) -> list[Effect]:
        """What follows from a group that is on the disk."""
        if self.tree is not None and group.edit is not None:
            self.tree.apply(group.edit)
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
            case Lapse():
                return self._lapse(command, view, now_ms)
            case Trim():
                return self._trim(command, view)
            case Merge():
                return self._merge(command, view, now_ms)
            case Discard():
                return self._discard(command, view)
            case Remember(rows=rows):
                return Plan(dict(rows), Remembered())

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
            base=current.version,
            owner=_owner(command, live),
            expires_at=now_ms + command.ttl_ms if command.ttl_ms else 0,
            content_type=command.content_type,
            codec=command.codec,
            payload=command.payload,
        )
        return self._replace(command.entry, current, record, view, created=live is None, digest=command.digest)

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
            base=current.version,
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
            base=current.version,
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
        written = Overlay(view)
        changes: list[Change] = []
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
                base=current.version,
                deleted=value is None,
                payload=value or b"",
            )
            replaced = self._replace(entry, current, record, written, created=live is None)
            written.write(replaced.batch)
            changes.extend(replaced.changes)
            reports += replaced.reports
        return Plan(written.batch, Transacted(values), tuple(reports), tuple(changes))

    def _authorise(self, command: Put | Delete | Restore, current: Current, view: Reader, now_ms: int) -> None:
        """Before anything else is decided: who may not write learns nothing else."""
        if command.guard is None:
            return
        if current.is_corrupt:
            raise CorruptRecord("the stored record fails its checksum: whose it is cannot be known")
        command.guard(current.live(now_ms), _metadata(command.entry, view, now_ms) if self.has_metadata else None)

    def _merge(self, command: Merge, view: Reader, now_ms: int) -> Plan:
        entry, incoming, digest, source = command.entry, command.record, command.digest, command.source
        current = read_current(view, entry)
        held = None if current.stored is None else current.stored.record
        verdict = judge(held, incoming)
        reports = self._observe(entry, incoming, source, now_ms)
        if held is not None and verdict.conflict:
            reports += (_conflict(entry, held, incoming, verdict, source),)
        outcome = Merged(verdict)
        if verdict.kind == "wins":
            if held is None and self._is_over(incoming, now_ms):
                return Plan({}, outcome, reports)
            plan = self._replace(entry, current, incoming, view, created=held is None, digest=digest)
            (change,) = plan.changes
            return Plan(plan.batch, outcome, plan.reports + reports, (change._replace(source=source),))
        if verdict.kind == "loses" and verdict.conflict and current.stored is not None:
            return Plan(self._keep_loser(entry, current.stored, incoming), outcome, reports)
        return Plan({}, outcome, reports)

    def _is_over(self, record: Record, now_ms: int) -> bool:
        """Whether a record that is not here would leave the disk at once: it has no place in the tree either."""
        return may_go(
            record, expiry_limit_ms=expiry_limit(now_ms), tombstone_limit_ms=self.tombstone_limit(now_ms)
        ) and not must_stay_as_tombstone(record)

    def _observe(self, entry: bytes, record: Record, source: str, now_ms: int) -> tuple[Report, ...]:
        """Keep the clock above what peers write; not above a clock that is far ahead, or one wrong clock moves all."""
        if record.timestamp <= now_ms + self._settings.clock_drift_max_ms:
            self._clock.last = max(self._clock.last, (record.timestamp, record.counter))
            return ()
        ahead_ms = record.timestamp - now_ms
        return (
            Report(
                "Record from the future",
                {"key": path_of(entry), "origin": record.origin, "ahead_ms": ahead_ms, "peer": source},
            ),
        )

    def _keep_loser(self, entry: bytes, stored: Stored, loser: Record) -> dict[bytes, bytes | None]:
        """The batch that puts a discarded concurrent version into the history, as the one before the current record."""
        kept = kept_after(stored.kept, self._versions_max(entry))
        if not kept:
            return {}
        batch: dict[bytes, bytes | None] = {
            revision_row(entry, gone): None for gone in dropped(stored.generation, stored.kept, kept)
        }
        batch[revision_row(entry, stored.generation)] = encode(entry, Stored(loser, stored.seq, stored.generation, 0))
        batch[entry] = encode(entry, stored._replace(generation=stored.generation + 1, kept=kept))
        return batch

    def _replace(
        self, entry: bytes, current: Current, record: Record, view: Reader, *, created: bool, digest: bytes = b""
    ) -> Plan:
        """The batch that makes `record` the current one: record, indexes, revision, change log, Merkle item."""
        batch: dict[bytes, bytes | None] = {}
        generation, kept = 1, 0
        reports: tuple[Report, ...] = ()
        if current.stored is not None:
            old, _, generation_old, kept_old = current.stored
            batch = dict.fromkeys(index_rows(entry, old))
            batch[change_row(seq_of(view, entry, current.stored))] = None
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
        if self._edit is not None:
            item = item_of(entry, record, digest or value_digest(record.data))
            batch.update(self._edit.put(view, entry, item, is_new=current.raw is None))
        return Plan(batch, Written(record, created), reports, (Change(entry, record, self._seq),))

    def _versions_max(self, entry: bytes) -> int:
        return self._settings.versions_max if entry.startswith(DATA) else 1

    # --- background work ---

    def _lapse(self, command: Lapse, view: Reader, now_ms: int) -> Plan:
        batch: dict[bytes, bytes | None] = {}
        ended: list[Ended] = []
        for row in command.rows:
            expires_at, entry = split_moment(row)
            stored = read_current(view, entry).stored
            if stored is None or stored.record.expires_at != expires_at or expires_at > now_ms or view.get(row):
                continue
            self._seq += 1
            batch |= {change_row(stored.seq): None, change_row(self._seq): entry, row: encode_seq(self._seq)}
            ended.append(Ended(entry, stored.record, self._seq, expired=True))
        return Plan(batch, Swept(len(ended)), ended=tuple(ended))

    def _sweep(self, command: Sweep, view: Reader, now_ms: int) -> Plan:
        gone = Overlay(view)
        ended: list[Ended] = []
        expiry_limit_ms, tombstone_limit_ms = expiry_limit(now_ms), self.tombstone_limit(now_ms)
        removed = 0
        for row in command.rows:
            _, entry = split_moment(row)
            current = read_current(gone, entry)
            if current.stored is None or row not in index_rows(entry, current.stored.record):
                gone.write({row: None})
            elif may_go(current.stored.record, expiry_limit_ms=expiry_limit_ms, tombstone_limit_ms=tombstone_limit_ms):
                if not current.stored.record.deleted and entry.startswith(DATA):
                    lapsed = self._lapse(Lapse(rows=(row,)), gone, now_ms)
                    gone.write(lapsed.batch)
                    ended += lapsed.ended
                gone.write(self._remove(entry, current.stored, gone))
                removed += 1
        return Plan(gone.batch, Swept(removed), ended=tuple(ended))

    def _remove(self, entry: bytes, stored: Stored, view: Reader) -> dict[bytes, bytes | None]:
        """The batch that takes a record off the disk, or leaves a tombstone in its place."""
        seq = seq_of(view, entry, stored)
        batch = removal(entry, stored, seq)
        if self._edit is not None and must_stay_as_tombstone(stored.record):
            tombstone = entombed(stored.record)
            batch[entry] = encode(entry, Stored(tombstone, seq, stored.generation, kept=0))
            batch[change_row(seq)] = entry
            batch.update((row, b"") for row in index_rows(entry, tombstone))
            return batch | self._edit.put(view, entry, item_of(entry, tombstone, value_digest(b"")))
        if entry.startswith(DATA):
            batch[LOG_START_ROW] = encode_seq(max(seq, read_log_start(view)))
        return batch if self._edit is None else batch | self._edit.remove(view, entry)

    def _discard(self, command: Discard, view: Reader) -> Plan:
        gone = Overlay(view)
        ended: list[Ended] = []
        removed = 0
        for entry in command.entries:
            stored = read_current(gone, entry).stored
            if stored is None or stored.record.timestamp >= command.before_ms:
                continue
            gone.write(removal(entry, stored, seq_of(gone, entry, stored)))
            if self._edit is not None:
                gone.write(self._edit.remove(gone, entry))
            if entry.startswith(DATA):
                self._seq += 1
                gone.write({LOG_START_ROW: encode_seq(self._seq)})
                ended.append(Ended(entry, stored.record, self._seq, expired=False))
            removed += 1
        return Plan(gone.batch, Swept(removed), ended=tuple(ended))

    def tombstone_limit(self, now_ms: int) -> int:
        """Tombstones with a timestamp below this (Unix ms) are not needed any more."""
        floor_ms = now_ms if self.floor_ms is None else self.floor_ms
        return tombstone_limit(now_ms, self._settings.tombstone_retention_ms, floor_ms)

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


def _conflict(entry: bytes, held: Record, incoming: Record, verdict: Verdict, source: str) -> Report:
    """The line in the log. The key is shown; values never are."""
    names = ("held", "incoming") if verdict.kind == "loses" else ("incoming", "held")
    fields: dict[str, object] = {"key": path_of(entry), "rule": verdict.rule, "winner": names[0], "peer": source}
    for name, record in (("held", held), ("incoming", incoming)):
        fields[name] = f"{record.timestamp}.{record.counter} {uuid_text(record.uuid)} of {record.origin}"
    return Report("Conflict resolved", fields)


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
